"""What `import dgjax` offers, and files of one's own."""

import doctest
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

import dgjax
from dgjax import config, data, plan, registry, runs
from dgjax.errors import UserError

IRM = '''
import dataclasses

import jax

import dgjax
from dgjax.losses.classification import cross_entropy


@dataclasses.dataclass(frozen=True, kw_only=True)
class IRM(dgjax.Algorithm):
  """Invariant risk minimisation, IRMv1 (Arjovsky et al., 2019).

  Attributes:
    penalty_weight: lambda.
  """

  penalty_weight: float = 1.0

  swept = ("penalty_weight",)

  def loss(self, params, state, batch, key):
    logits, batch_stats = self.forward(params, state, batch["image"], key)
    risk, slope = jax.value_and_grad(lambda scale: cross_entropy(scale * logits, batch["label"]))(1.0)
    return (risk + state.hparams["penalty_weight"] * slope**2,
            ({"batch_stats": batch_stats}, {"loss": risk, "penalty": slope**2}))
'''
NETWORK = '''
from helpers import plain_network


def plain(classes, dtype=None, head_init=None):
  return plain_network(classes)
'''
CONFIG = '''
from dgjax import config


def get_config(arg=None):
  c = config.default(algorithm=f"{__file__}:IRM", model="smallnet", data="digits")
  c.algorithm.penalty_weight = 3.0
  return c
'''


def test_the_examples_run_and_show_every_public_name(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  assert doctest.testmod(dgjax).failed == 0
  examples = "".join(example.source for example in doctest.DocTestParser().get_examples(dgjax.__doc__))
  shown = set(re.findall(r"dgjax\.(\w+)", examples))
  assert shown == set(dgjax.__all__) - {"__version__"} and set(dgjax.__all__) <= set(dir(dgjax))
  for name in dgjax.__all__:
    assert getattr(dgjax, name).__doc__, name
  with pytest.raises(AttributeError, match="no attribute 'trian'"):
    dgjax.trian  # noqa: B018


def test_the_import_is_cheap():
  done = subprocess.run([sys.executable, "-X", "importtime", "-c", "import dgjax"], capture_output=True, text=True,
                        check=True)
  loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
  assert not loaded & {"numpy", "jax", "absl", "ml_collections"} and "dgjax.errors" not in loaded


@pytest.mark.parametrize("several", [{"target": "all"}, {"seeds": 3}, {"sweep.algorithm.overlap_weight": "0,1,2"}])
def test_train_takes_one_run(tmp_path, several):
  settings = dgjax.load_config("dmg_digits", {"steps": 2, "target": "domain0"} | several)
  with pytest.raises(UserError, match="the config stands for 3 runs .*: train_all trains them all; or set target"):
    dgjax.train(settings, dataset=arrays()[1], workdir=tmp_path / "run")
  assert not (tmp_path / "run").exists()


def test_train_all_trains_every_target_and_seed(tmp_path, monkeypatch):
  asked = []
  monkeypatch.setattr(plan, "train_planned", lambda plans, *args, **options: asked.extend(plans) or {})
  settings = dgjax.load_config("dmg_digits", {"steps": 2, "seeds": 2})
  dgjax.train_all(settings, dataset=arrays()[1], workdir=tmp_path)
  folders = [planned.folder.relative_to(tmp_path).as_posix() for runs in asked for planned in runs]
  assert folders == [f"domain{domain}/seed={seed}" for domain in range(3) for seed in range(2)]


@pytest.fixture
def own(tmp_path, monkeypatch):
  """A working directory with a method, a network and a config of one's own; nothing of them is imported yet."""
  for name, text in (("irm.py", IRM), ("net.py", NETWORK), ("both.py", IRM + CONFIG)):
    (tmp_path / name).write_text(text)
  monkeypatch.chdir(tmp_path)
  return tmp_path


def arrays():
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (48, 8, 8, 3), dtype=np.uint8)
  return images, dgjax.Dataset.from_arrays(images, np.arange(48) % 4, np.arange(48) // 16)


def test_a_method_and_a_network_of_ones_own(own, tmp_path_factory, monkeypatch):
  images, dataset = arrays()
  settings = dgjax.load_config("digits:aggregate", {
      "algorithm.name": "irm.py:IRM", "algorithm.penalty_weight": 2.0, "model.name": "net.py:plain",
      "data.image_size": 8, "target": "domain0", "steps": 2, "batch_size": 8})
  results = dgjax.train(settings, dataset=dataset)
  folder = own / "runs" / "IRM_arrays"
  assert results["method"] == f"{own}/irm.py:IRM" and results["config"]["algorithm"]["penalty_weight"] == 2.0
  assert '"train/penalty"' in (folder / "metrics.jsonl").read_text()
  monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
  run = dgjax.load(folder)
  assert type(run.algorithm).__name__ == "IRM" and run.predict(images[:3]).shape == (3, 4)
  with pytest.raises(UserError, match=r"was trained on 'arrays', a data set that was handed over, and not on the "
                                      r"'digits' of its config"):
    run.dataset  # noqa: B018
  (own / "irm.py").unlink()
  monkeypatch.delitem(sys.modules, f"dgjax_file:{own}/irm.py")
  with pytest.raises(UserError, match=rf"config.algorithm.name: there is no file {own}/irm.py"):
    runs.load(folder)


def test_a_config_of_ones_own_can_define_its_method(own):
  settings = dgjax.load_config("both.py", {"steps": 3})
  assert settings.algorithm.name == f"{own}/both.py:IRM" and settings.algorithm.penalty_weight == 3.0
  assert config.load(f"{own}/both.py").to_json() == dgjax.load_config("both.py").to_json()
  assert registry.absolute("irm.py:IRM") == f"{own}/irm.py:IRM" and registry.absolute("dmg") == "dmg"


def test_data_handed_over_under_the_name_of_a_data_set_are_told_by_their_digests(own, monkeypatch):
  images, _ = arrays()
  names = ["plain", "inverted", "colour"]
  dataset, other = (dgjax.Dataset.from_arrays(pixels, np.arange(48) % 4, np.arange(48) // 16, name="digits",
                                              domain_names=names) for pixels in (images, 255 - images))
  settings = dgjax.load_config("digits:aggregate", {
      "model.name": "net.py:plain", "data.image_size": 8, "target": "plain", "steps": 1, "batch_size": 8})
  dgjax.train(settings, dataset=dataset, workdir="run")
  monkeypatch.setattr(data, "load", lambda settings, seed: dataset)
  assert dgjax.load("run").dataset is dataset
  monkeypatch.setattr(data, "load", lambda settings, seed: other)
  with pytest.raises(UserError, match="domain 'plain' of digits is not what the run in .* was trained on"):
    dgjax.load("run").dataset  # noqa: B018


def test_the_example_of_the_readme_runs(tmp_path, monkeypatch):
  text = (pathlib.Path(__file__).parents[1] / "README.md").read_text()
  example, = re.findall(r"```python\n(import dgjax.*?)```", text, re.DOTALL)
  assert len(example.strip().replace("\n\n", "\n").splitlines()) <= 10
  monkeypatch.chdir(tmp_path)
  found = {}
  exec(example.replace('"steps": 100', '"steps": 1'), found)
  assert found["probabilities"].shape == (5, 4)
