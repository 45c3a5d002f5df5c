import functools
import pathlib
import re

import jax
import pytest

from dgjax import algorithms, config, data, experiment, models
from dgjax.errors import UserError

ROOT = pathlib.Path(__file__).parents[1]
DMG = str(ROOT / "configs" / "dmg_pacs.py")


def variants(path):
  """The variants that a config file knows, read off its answer to an unknown one."""
  with pytest.raises(UserError) as error:
    config.load(f"{path}:?")
  known = re.search(r"\(known: (.*)\)", str(error.value))
  return ["", *(known.group(1).split(", ") if known and known.group(1) else [])]


EVERY = [f"{path}:{name}" for path in sorted(ROOT.glob("configs/*.py")) for name in variants(path)]
DEEP = ("resnet18", "resnet34", "resnet50", "resnet101")


@pytest.fixture
def shallow(monkeypatch):
  """Residual networks of one block a stage: of all the others, tracing would take seconds and ask the same."""
  for name in DEEP:
    make, description = models.NETWORKS[name]
    monkeypatch.setitem(models.NETWORKS, name, (functools.partial(make.func, make.args[0], (1, 1, 1, 1)), description))


@pytest.mark.parametrize("path", EVERY, ids=[pathlib.Path(path).name for path in EVERY])
def test_every_config_makes_a_training_step(path, shallow):
  """Shapes only: nothing is computed."""
  c = config.load(path)
  algorithm = algorithms.build(c, classes=7, domains=3, steps_per_epoch=10.0, steps=100)
  batch = experiment.batch_shapes(data.input_shape(c.data), algorithm.adapts, size=6)
  state = jax.eval_shape(algorithm.init, jax.random.key(0), batch)
  image = (batch["source"] if algorithm.adapts else batch)["image"]
  assert jax.eval_shape(algorithm.predict, state, image).shape == (6, 7)
  for phase in algorithm.phases:
    after, metrics = jax.eval_shape(phase.step(first=True), state, batch)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(lambda x: (x.shape, x.dtype), state)
    assert metrics["loss"].shape == ()


def test_the_papers_settings():
  """dmg.txt, section 7.5."""
  c = config.load(DMG)
  assert (c.model.name, c.batch_size, c.epochs, c.data.image_size) == ("resnet18", 64, 50, 224)
  assert (c.optimizer.name, c.optimizer.learning_rate, c.optimizer.weight_decay) == ("adam", 1e-4, 1e-5)
  assert (c.optimizer.schedule.name, c.optimizer.schedule.decay, c.optimizer.schedule.clock) == (
      "exponential", 0.99, "epoch")
  assert (c.optimizer.groups.masks.learning_rate, c.algorithm.overlap_weight) == (1e-4, 0.1)
  c = config.load(str(ROOT / "configs" / "dmg_domainnet.py"))
  assert (c.optimizer.schedule.name, c.optimizer.schedule.clock, c.model.head_init) == ("inverse", "step", "normal")
  assert c.optimizer.weight_decay == 0


@pytest.mark.parametrize("data, methods", [
    ("pacs", ("source_only", "dann", "mstn", "adda", "mcd", "m3sda", "wemnet", "drt")),
    ("digit_five", ("aggregate", "dann", "mstn", "adda", "mcd", "m3sda", "wemnet", "drt"))])
def test_methods_that_a_table_compares_train_alike(data, methods):
  found = [config.flatten(config.load(f"{ROOT}/configs/{method}_{data}.py:small")) for method in methods]
  for one in found:
    assert {key: value for key, value in one.items() if not key.startswith(("algorithm.", "model.dynamic"))} == {
        key: value for key, value in found[0].items() if not key.startswith(("algorithm.", "model.dynamic"))}


@pytest.mark.parametrize("name, weight", [("digit_five", 50), ("pacs", 50), ("digit_five:small", 500 / 345),
                                          ("pacs:small", 350 / 345), ("pacs:small_static", 350 / 345)])
def test_drts_weight_goes_by_the_classes_in_small_runs(name, weight):
  stem, colon, variant = name.partition(":")
  c = config.load(f"{ROOT}/configs/drt_{stem}.py{colon}{variant}")
  assert c.algorithm.discrepancy_weight == pytest.approx(weight) and c.algorithm.form == "one_step"
  assert c.model.dynamic == ("none" if variant.endswith("static") else "subspace")


def test_overrides_of_every_type():
  overrides = ["seed=3", "algorithm.overlap_weight=1", "algorithm.masks.placement=code", "optimizer.nesterov=true",
               "optimizer.groups.masks.learning_rate=0.01"]
  c = config.load(DMG, [f"--config.{override}" for override in overrides])
  assert c.seed == 3 and c.algorithm.overlap_weight == 1.0 and c.algorithm.masks.placement == "code"
  assert c.optimizer.nesterov is True and c.optimizer.groups.masks.learning_rate == 0.01


def test_another_algorithm_network_or_data_set_brings_its_own_keys():
  c = config.load(DMG, ["--config.algorithm.name=multi_headed", "--config.algorithm.shared_heads=true",
                        "--config.model.name=alexnet", "--config.data.name=folder", "--config.data.val_fraction=0.3"])
  assert c.algorithm.to_dict() == {"name": "multi_headed", "prediction": "pred_ens", "shared_heads": True}
  assert c.model.name == "alexnet" and c.data.name == "folder" and c.data.val_fraction == 0.3
  c = config.load(f"{DMG}:small", ["--config.data.name=folder"])
  assert c.data.image_size == 96  # the file's own settings stay


@pytest.mark.parametrize("overrides,message", [
    (["--config.sed=1"], r"no key config\.sed \(did you mean 'seed'\?\)"),
    (["--config.algorithm.overlap=1"], r"no key config\.algorithm\.overlap \(did you mean 'algorithm\.overlap_weight'"),
    (["--config.algorithm.name=dgm"], r"no algorithm 'dgm' \(did you mean 'dmg'"),
    (["--config.model.name=resnet19"], r"'resnet19' \(did you mean 'resnet18'"),
    (["--config.data.name=pac"], r"'pac'.*\(did you mean 'pacs'"),
    (["--config.seed=x"], r"config\.seed.*x"),
    (["--config.algorithm.overlap_weight=big"], r"overlap_weight.*big")])
def test_what_is_not_known_is_named(overrides, message):
  with pytest.raises(UserError, match=message):
    config.load(DMG, overrides)


def test_an_absent_file_or_variant_is_named():
  with pytest.raises(UserError, match=r"no config file .*dgm_pacs\.py \(did you mean '.*dmg_pacs\.py'"):
    config.load(str(ROOT / "configs" / "dgm_pacs.py"))
  with pytest.raises(UserError, match=r"no variant 'resnet5'.*did you mean 'resnet50'"):
    config.load(f"{DMG}:resnet5")


@pytest.mark.parametrize("override,message", [
    ("batch_size=0", "config.batch_size is 0: it must be at least 1"), ("log_every=0", "config.log_every is 0"),
    ("epochs=0", "config.epochs is 0: it must be above 0"), ("report=target_oracle", "use 'source_val' or 'last'")])
def test_values_that_no_run_can_have(override, message):
  with pytest.raises(UserError, match=message):
    config.check(config.load(DMG, [f"--config.{override}"]))


def test_differences_leave_out_what_changes_no_number():
  old, new = config.load(DMG), config.load(DMG, ["--config.seed=1", "--config.log_every=7", "--config.data.threads=5"])
  assert config.differences(old.to_dict(), new.to_dict()) == ["seed: 0 -> 1"]
