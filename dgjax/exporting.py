"""Finished runs for use without dgjax: parameters as safetensors, prediction as StableHLO."""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from flax import traverse_util

from dgjax import ops
from dgjax.errors import UserError
from dgjax.files import replacing
from dgjax.models import weights
from dgjax.runs import Run

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def export(run: Run, folder: pathlib.Path, platforms: Sequence[str] = ("cpu", "cuda", "tpu")) -> list[pathlib.Path]:
  """Writes a run's parameters, its prediction and what both need to be used.

  Args:
    run: opened.
    folder: made if absent. `model.safetensors` has the network, under torchvision's names where it is torchvision's;
      `method.safetensors` what else the method learned, such as masks, where there is any; `predict.stablehlo` is a
      serialised `jax.export.Exported` of a function of images (b, h, w, c), b being any number, to class probabilities
      (b, classes) float32; `export.json` says what the images have to be.
    platforms: the platforms that the prediction is lowered for, of `PLATFORMS`.

  Returns:
    The files.

  Raises:
    UserError: an unknown platform, or the folder cannot be written.
  """
  if unknown := [name for name in platforms if name not in PLATFORMS]:
    raise UserError(f"no platform {unknown[0]!r}: use some of {', '.join(PLATFORMS)}")
  folder = folder.expanduser()
  contents = {"model.safetensors": safetensors.numpy.save(network(run)),
              "predict.stablehlo": bytes(prediction(run, platforms).serialize()),
              "export.json": json.dumps(facts(run), indent=2).encode()}
  if others := beside(run):
    contents["method.safetensors"] = safetensors.numpy.save(others)
  for name, content in contents.items():
    with replacing(folder / name) as partial:
      partial.write_bytes(content)
  return [folder / name for name in contents]


def network(run: Run) -> dict[str, np.ndarray]:
  """The network's parameters and statistics under torchvision's names; see `weights.to_torchvision`."""
  return weights.to_torchvision({"params": run.state.params["network"],
                                 "batch_stats": run.state.batch_stats["network"]})


def beside(run: Run) -> dict[str, np.ndarray]:
  """What a method learned besides the network: `params.NAME` and `batch_stats.NAME`, such as params.masks.layer4."""
  learned = {"params": run.state.params, "batch_stats": run.state.batch_stats}
  flat = traverse_util.flatten_dict({
      kind: {name: tree for name, tree in trees.items() if name != "network"} for kind, trees in learned.items()})
  return {".".join(path): np.ascontiguousarray(value) for path, value in jax.device_get(flat).items()}


def prediction(run: Run, platforms: Sequence[str]) -> Any:
  """The run's prediction as a `jax.export.Exported`, its parameters being constants in it."""
  shape, dtype = run.experiment.dataset.example(run.config.data.image_size)
  batch, = jax.export.symbolic_shape("b")

  def predict(images: jax.Array) -> jax.Array:
    logits = run.algorithm.predict(run.state, run.normalise({"image": images})["image"])
    return jax.nn.softmax(logits.astype(jnp.float32))

  with ops.only("xla"):  # oneDNN's functions exist only where dgjax is installed
    return jax.export.export(jax.jit(predict), platforms=list(platforms))(
        jax.ShapeDtypeStruct((batch, *shape), dtype))


def facts(run: Run) -> dict[str, Any]:
  """The facts that are needed to use an export."""
  dataset = run.experiment.dataset
  shape, dtype = dataset.example(run.config.data.image_size)
  return {"classes": list(dataset.classes), "input": {"shape": ["b", *shape], "dtype": str(dtype)},
          "normalisation": {"mean": list(dataset.mean), "std": list(dataset.std), "within": "predict.stablehlo"},
          "method": run.config.algorithm.name, "network": run.config.model.name,
          "prediction": run.algorithm.prediction, "rule": run.rule, "step": run.step,
          "versions": run.results.get("versions", {})}
