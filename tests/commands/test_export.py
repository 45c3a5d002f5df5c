import dataclasses
import importlib.util
import json
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
import safetensors.numpy

import dgjax
from dgjax import commands, exporting, runs
from dgjax.experiment import Experiment
from dgjax.models import weights

# Runs the exported prediction where dgjax, flax and all else that trained it cannot be imported.
WITHOUT = """
import sys
for name in ("dgjax", "flax", "optax", "orbax", "ml_collections"):
  sys.modules[name] = None
import jax, numpy as np
predict = jax.export.deserialize(bytearray(open("predict.stablehlo", "rb").read()))
assert predict.platforms == ("cpu", "cuda", "tpu")
np.save("probs.npy", predict.call(np.load("images.npy")))
assert predict.call(np.load("images.npy")[:1]).shape == (1, 2)
"""


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
  folder = tmp_path_factory.mktemp("exported")
  assert commands.main(["export", str(trained.folder), f"--out={folder}"]) == 0
  return folder


def test_the_prediction_runs_without_dgjax(trained, exported):
  images = np.random.default_rng(0).integers(0, 256, (7, 16, 16, 3), dtype=np.uint8)
  np.save(exported / "images.npy", images)
  subprocess.run([sys.executable, "-c", WITHOUT], cwd=exported, check=True)
  run = dgjax.load(trained.folder)
  np.testing.assert_allclose(np.load(exported / "probs.npy"), run.predict(images), atol=1e-5)
  facts = json.loads((exported / "export.json").read_text())
  assert facts["classes"] == ["cat", "dog"] and facts["input"] == {"shape": ["b", 16, 16, 3], "dtype": "uint8"}


def test_the_network_and_the_masks_can_be_read_again(trained, exported):
  run = dgjax.load(trained.folder)
  variables = {"params": run.state.params["network"], "batch_stats": run.state.batch_stats["network"]}
  read = weights.load(str(exported / "model.safetensors"), jax.tree.map(np.zeros_like, variables))
  jax.tree.map(np.testing.assert_array_equal, read, variables)
  masks = safetensors.numpy.load_file(exported / "method.safetensors")
  assert masks.keys() == {f"params.masks.{stage}" for stage in run.state.params["masks"]}


def test_a_platform_that_is_not_known(trained, tmp_path, capsys):
  assert commands.main(["export", str(trained.folder), f"--out={tmp_path}", "--platforms=cpu,gpu"]) == 1
  assert "no platform 'gpu'" in capsys.readouterr().err and not list(tmp_path.iterdir())


@pytest.mark.parametrize("model", ["resnet18", "alexnet"])
def test_prediction_of_networks_with_pooling_and_products_takes_any_number_of_images(model, tmp_path):
  """They have operations of ours that choose by size, which a symbolic batch has none of."""
  run = opened(model, tmp_path, 64 if model == "alexnet" else 32)
  found = exporting.prediction(run, ["cpu", "cuda", "tpu"])
  assert str(found.in_avals[0].shape[0]) == "b"


def opened(model, folder, size):
  """A run of a network as if it were trained: all parameters are there, as zeros."""
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (60, size, size, 3), dtype=np.uint8)
  dataset = dgjax.Dataset.from_arrays(images, np.arange(60) % 3, np.arange(60) // 20)
  config = dgjax.load_config("digits:aggregate", {
      "model.name": model, "target": "domain0", "data.image_size": size, "steps": 1, "batch_size": 4, "devices": 1})
  experiment = Experiment.build(config, dataset)
  state = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), experiment.state_shapes().replace(key=()))
  return runs.Run(folder, experiment, {}, state, "last", 1)


def test_the_network_loads_into_pytorch(tmp_path):
  torch = pytest.importorskip("torch", reason="compares with PyTorch: pip install dgjax[torch]")
  reference = _torch_models()
  torch.manual_seed(0)
  theirs = reference.build("resnet18", 3, dropout=False)
  reference.randomise_statistics(theirs, seed=0)
  torch.save(theirs.state_dict(), tmp_path / "weights.pth")
  run = opened("resnet18", tmp_path, 32)
  variables = {"params": run.state.params["network"], "batch_stats": run.state.batch_stats["network"]}
  read = weights.load(str(tmp_path / "weights.pth"), variables)
  run = dataclasses.replace(run, state=run.state.replace(
      params={"network": read["params"]}, batch_stats={"network": read["batch_stats"]}))
  safetensors.numpy.save_file(exporting.network(run), tmp_path / "model.safetensors")
  saved = safetensors.numpy.load_file(tmp_path / "model.safetensors")
  again = reference.build("resnet18", 3, dropout=False)
  again.load_state_dict({name: torch.from_numpy(value) for name, value in saved.items()})
  images = np.random.default_rng(1).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
  normalised = run.normalise({"image": images})["image"]
  with torch.no_grad():
    logits = again.eval()(torch.from_numpy(np.array(normalised).transpose(0, 3, 1, 2).copy())).numpy()
  np.testing.assert_allclose(run.algorithm.predict(run.state, normalised), logits, atol=1e-4)


def _torch_models():
  """The module benchmarks/torch_models.py."""
  path = pathlib.Path(__file__).parents[2] / "benchmarks" / "torch_models.py"
  spec = importlib.util.spec_from_file_location("torch_models", path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module
