import functools
import pathlib
import re
import runpy

import jax
import pytest
from PIL import Image

from dgjax import algorithms, config, config_files, data, experiment, models
from dgjax.errors import UserError

ROOT = pathlib.Path(__file__).parents[1]
NAMES = config_files.names()


def trace(c):
  """Shapes of a training step and of predictions: nothing is computed."""
  algorithm = algorithms.build(c, classes=7, domains=3, steps_per_epoch=10.0, steps=100)
  batch = experiment.batch_shapes(data.input_shape(c.data), algorithm.adapts, size=6)
  state = jax.eval_shape(algorithm.init, jax.random.key(0), batch)
  image = (batch["source"] if algorithm.adapts else batch)["image"]
  assert jax.eval_shape(algorithm.predict, state, image).shape == (6, 7)
  shapes = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)  # noqa: E731
  for phase in algorithm.phases:
    after, metrics = jax.eval_shape(phase.step(first=True), state, batch)
    assert shapes(after) == shapes(state) and metrics["loss"].shape == ()


def rows(name, argument):
  """The words that a config has for one argument."""
  return config.arguments(name).get(argument, "").split(" | ")


@pytest.mark.parametrize("method", rows("digits", "method"))
def test_every_method_makes_a_training_step(method):
  trace(config.load(f"digits:{method}"))


@pytest.fixture
def shallow(monkeypatch):
  """Residual networks of one block a stage: of all the others, tracing would take seconds and ask the same."""
  for name in ("resnet18", "resnet34", "resnet50", "resnet101"):
    make, description = models.NETWORKS[name]
    monkeypatch.setitem(models.NETWORKS, name, (functools.partial(make.func, make.args[0], (1, 1, 1, 1)), description))


@pytest.mark.parametrize("network", models.NETWORKS)
def test_every_network_makes_a_training_step(network, shallow):
  size = {"resnet": 64, "alexnet": 64}.get(network.rstrip("0123456789"), 32)
  trace(config.load("digits:aggregate", {"model.name": network, "data.image_size": size}))


@pytest.mark.parametrize("name", data.DATASETS)
def test_every_data_set_is_known_to_a_config(name):
  c = config.load("digits:aggregate", {"data.name": name})
  assert c.data.name == name and len(data.input_shape(c.data)) == 3


@pytest.mark.parametrize("name", NAMES)
def test_every_row_of_every_config_can_be_built(name, caplog, shallow):
  """Its settings are the method's and the network's, and nothing of them is reset."""
  for argument in ["", *(word for words in config.arguments(name).values() for word in words.split(" | "))]:
    c = config.load(f"{name}:{argument}")
    config.check(c)
    algorithms.build(c, classes=7, domains=3, steps_per_epoch=10.0, steps=100)
  assert not caplog.records


def values(name, *keys):
  flat = config.flatten(config.load(name))
  return tuple(flat[key] for key in keys)


OPTIMIZER = ("optimizer.name", "optimizer.learning_rate", "optimizer.weight_decay")
SCHEDULE = tuple(f"optimizer.schedule.{key}" for key in ("name", "clock", "period", "decay"))
LENGTH = ("batch_size", "epochs", "steps")
ADAM = ("optimizer.beta1", "optimizer.epsilon", "optimizer.clip")


@pytest.mark.parametrize("method", ["dmg", "aggregate", "multi_headed"])
def test_dmgs_settings(method):
  """DMG, section 7.5: PACS and DomainNet."""
  for network in ("resnet18", "resnet50", "alexnet"):
    name = f"dmg_pacs:{method},{network}"
    assert values(name, "model.name", "data.name", "data.image_size") == (network, "pacs", 224)
    assert values(name, *LENGTH, *OPTIMIZER) == (64, 50, 0, "adam", 1e-4, 1e-5)
    assert values(name, *ADAM, *SCHEDULE) == (0.9, 1e-8, 0.0, "exponential", "epoch", 1, 0.99)
    name = f"dmg_domainnet:{method},{network}"
    assert values(name, "model.name", "data.name", "data.image_size") == (network, "domainnet", 224)
    assert values(name, *LENGTH, *OPTIMIZER) == (64, 50, 0, "adam", 1e-4, 0.0)
    assert values(name, "optimizer.schedule.name", "optimizer.schedule.clock", "optimizer.schedule.gamma",
                  "optimizer.schedule.power", "model.head_init") == ("inverse", "step", 1e-4, 0.75, "normal")
  assert values("dmg_pacs:multi_headed", "model.head_init") == ("normal",)
  assert values("dmg_pacs", "model.head_init") == ("uniform",)


@pytest.mark.parametrize("name", ["dmg_pacs", "dmg_domainnet"])
@pytest.mark.parametrize("network", ["resnet18", "resnet50", "alexnet"])
def test_aggregates_settings_by_sgd(name, network):
  """DMG, Table 1: Aggregate-SGD of every network; the rate is ours, all else is as by Adam."""
  plain, by_sgd = (config.flatten(config.load(f"{name}:aggregate,{network}{sgd}")) for sgd in ("", ",sgd"))
  assert {key: by_sgd[key] for key in plain if plain[key] != by_sgd[key]} == {
      "optimizer.name": "sgd", "optimizer.learning_rate": 1e-3}
  assert by_sgd["optimizer.momentum"] == 0.9 and by_sgd["model.name"] == network


def test_small_runs_of_dmg_train_masks_faster():
  assert values("dmg_pacs:small", "data.image_size", "optimizer.learning_rate", "optimizer.roles.masks.rate") == (
      96, 1e-3, 10.0)
  assert values("dmg_pacs:aggregate,small", "optimizer.roles.masks.rate") == (1.0,)


def test_dmgs_masks():
  """DMG, section 3.2 and 7.5: lambda 0.1, logits from U(0, 1), rate and decay those of the network."""
  for name in ("dmg_pacs", "dmg_domainnet"):
    assert values(name, "algorithm.overlap_weight", "algorithm.masks.init", "algorithm.masks.placement",
                  "algorithm.masks.training") == (0.1, "uniform", "paper", "sample")
    assert values(name, *(f"optimizer.roles.masks.{key}" for key in ("rate", "decay", "constant"))) == (1, 1, False)


def test_episodes_settings():
  """DMG, section 4.1 (MetaReg by SGD), and MLDG's released code for PACS; 64 examples of each source domain."""
  for name in ("dmg_pacs:mldg", "dmg_pacs:metareg"):
    assert values(name, "batch_size", "data.mixing", "optimizer.name") == (192, "balanced", "sgd")
  assert values("dmg_pacs:mldg", *OPTIMIZER, *SCHEDULE) == ("sgd", 5e-4, 5e-5, "exponential", "step", 15_000, 0.1)
  for network in ("resnet18", "resnet50", "alexnet"):
    assert values(f"dmg_domainnet:metareg,{network}", "model.name", "batch_size", "data.mixing", *OPTIMIZER) == (
        network, 320, "balanced", "sgd", 1e-3, 0.0)
  assert values("dmg_pacs:metareg", *OPTIMIZER) == ("sgd", 1e-3, 1e-5)
  assert values("dmg_pacs:mldg", "algorithm.inner_rate", "algorithm.meta_weight") == (0.5, 1.0)


@pytest.mark.parametrize("method", rows("crossgrad_fonts", "method"))
def test_crossgrads_settings(method):
  """CrossGrad, section 4 (RMSProp, 0.02; speech: SGD, 0.001, then 0.0001), else its released code."""
  for data_set in ("fonts", "handwriting", "rotated_mnist"):
    name = f"crossgrad_{data_set}:{method}"
    assert values(name, "batch_size", *OPTIMIZER) == (32, "rmsprop", 0.02, 4e-5)
    assert values(name, *(f"optimizer.{key}" for key in ("decay", "momentum", "epsilon", "clip", "decayed"))) == (
        0.9, 0.9, 1.0, 0.1, "kernels")
    assert values(name, *SCHEDULE) == ("exponential", "epoch", 2, 0.94)
    if data_set != "rotated_mnist":
      assert values(name, "steps", "target", "model.name", "model.head_init", "data.image_size", "data.augment") == (
          50_000, "unseen", "lenet3", "truncated", 32, "none")
  assert values(f"crossgrad_rotated_mnist:{method}", "model.name", "data.image_size") == ("convnet2", 16)
  speech = f"crossgrad_speech:{method}"
  assert values(speech, "target", "model.name", *OPTIMIZER) == ("unseen", "kwsnet", "sgd", 1e-3, 0.0)
  assert values(speech, "batch_size", "steps", "optimizer.momentum", *SCHEDULE) == (
      100, 18_000, 0.0, "exponential", "step", 15_000, 0.1)
  assert values(speech, "data.features", "data.speakers", "data.scaling") == ("mfcc", 100, "none")
  assert values(f"{speech},speakers=40,scaled", "data.speakers", "data.scaling") == (40, "standard")


def test_crossgrads_moves():
  """Its released code: alpha 0.5, and a step of 10 along gradients within 0.1, for both networks alike."""
  assert values("crossgrad_fonts", *(f"algorithm.{key}" for key in (
      "alpha", "epsilon", "clip", "domain_alpha", "domain_epsilon"))) == (0.5, 10.0, 0.1, 0.5, 10.0)
  assert values("crossgrad_fonts:labelgrad", *(f"algorithm.{key}" for key in ("alpha", "epsilon", "clip"))) == (
      0.5, 10.0, 0.1)
  assert values("crossgrad_fonts:dan", "algorithm.hidden", "algorithm.adversarial_weight") == (
      (256, 128, 128, 128), 1.0)


@pytest.mark.parametrize("method", rows("rcl_mnist_mp", "method"))
def test_rcls_settings(method):
  """RCL, section 5.1."""
  name = f"rcl_mnist_mp:{method}"
  assert values(name, *LENGTH, *OPTIMIZER) == (128, 10, 0, "sgd", 1e-3, 1e-5)
  assert values(name, "optimizer.momentum", "optimizer.nesterov", "optimizer.decayed", "optimizer.schedule.name") == (
      0.9, True, "all", "constant")
  assert values(name, "model.name", "data.name", "data.augment", "target", "report") == (
      "mnistnet", "mnist_mp", "none", "grey", "source_val")
  assert values(name, "data.image_size", "data.input_range") == (32, "unit")  # the authors' notes; measured to fit


@pytest.mark.parametrize("row, key, weight", [
    ("rcl", "contrastive_weight", 1.0), ("rcl", "margin", 0.9), ("m=inf", "margin", float("inf")),
    ("channel_dropout", "orthogonality_weight", 0.0), ("channel_dropout", "covariance_weight", 0.0),
    ("channel_dropout_orthogonality", "orthogonality_weight", 1.0),
    ("channel_dropout_covariance", "covariance_weight", 0.01), ("jigsaw", "jigsaw_weight", 10.0),
    ("reconstruction", "reconstruction_weight", 1.0), ("spectral_decoupling", "logit_weight", 5.0),
    ("rsc", "form", "channel")])
def test_rcls_rows(row, key, weight):
  """RCL, section 5.1 and Table 2."""
  assert values(f"rcl_mnist_mp:{row}", f"algorithm.{key}") == (weight,)


def test_drts_settings():
  """DRT, section 4, and its released code: eta 50, lambda 4, heads and new layers at ten times the rate."""
  for name in ("drt_domainnet", "drt_pacs"):
    assert values(name, *LENGTH, *OPTIMIZER, "optimizer.momentum") == (64, 15, 0, "sgd", 1e-3, 5e-4, 0.9)
    assert values(name, *SCHEDULE) == ("exponential", "epoch", 5, 0.1)
    assert values(name, *(f"optimizer.roles.{role}.rate" for role in ("trunk", "head", "residuals"))) == (1, 10, 10)
    assert values(name, "model.name", "model.dynamic", "model.dynamic_k", "report", "data.image_size") == (
        "resnet101", "subspace", 4, "last", 224)
  for name in ("drt_domainnet", "drt_pacs", "drt_digit_five"):
    assert values(name, *(f"algorithm.{key}" for key in (
        "name", "form", "discrepancy_weight", "reversal", "balance_weight", "label_smoothing", "prediction"))) == (
        "mcd", "one_step", 50.0, 4.0, 0.01, 0.01, "max_logit")
  heads = ("algorithm.hidden", "algorithm.hidden_init", "model.head_init")
  for name in ("drt_domainnet", "drt_domainnet:m3sda", "drt_pacs"):
    assert values(name, *heads) == ((1000, 1000), "normal_0.01", "normal_0.01")
  for row in rows("drt_domainnet", "method"):
    assert values(f"drt_domainnet:{row}", "algorithm.name", "data.augment", "data.centre_crop", "data.val_fraction",
                  "report", *LENGTH) == (row, "shorter", True, 0.0, "last", 64, 15, 0)
    assert values(f"drt_domainnet:{row},static", "model.dynamic") == ("none",)
  assert values("dmg_domainnet", "data.augment", "data.centre_crop", "data.val_fraction") == ("domainnet", False, 0.1)
  for name in ("drt_domainnet", "drt_pacs", "drt_digit_five", "wemnet_pacs:drt", "digits:drt"):
    assert values(name, "model.dynamic", "model.dynamic_k") == ("subspace", 4)
  assert values("drt_domainnet:k=8", "model.dynamic", "model.dynamic_k") == ("subspace", 8)
  assert values("drt_domainnet:static", "model.dynamic") == ("none",)


def test_drts_self_training():
  """DRT, section 4.3: threshold 0.8; its first round is a full run, so that the whole is twice as long."""
  again = tuple(f"algorithm.self_training.{key}" for key in ("rounds", "confidence"))
  assert values("drt_domainnet", "epochs", *again) == (15, 0, 0.8)
  for name in ("drt_domainnet:self_training", "drt_domainnet:m3sda,self_training", "drt_pacs:self_training"):
    assert values(name, "epochs", *again) == (30, 1, 0.8)
  with pytest.raises(UserError, match="aggregate does not classify in training: use mcd or m3sda"):
    config.load("drt_domainnet:aggregate,self_training")


def smoothing(target, *overrides):
  return config.for_target(config.load("drt_domainnet", overrides), target).algorithm.label_smoothing


def test_drts_smoothing_by_target():
  """Its released code: 0.1 for infograph and quickdraw; what a command says holds for every target."""
  assert [smoothing(target) for target in ("clipart", "infograph", "quickdraw")] == [0.01, 0.1, 0.1]
  assert smoothing("infograph", "--config.algorithm.label_smoothing=0.2") == 0.2
  assert smoothing("infograph", "--config.by_target=infograph:algorithm.label_smoothing=0.3") == 0.3
  gone = config.load("drt_domainnet", ["--config.algorithm.name=dann"])
  assert gone.by_target == "" and config.for_target(gone, "infograph").algorithm.name == "dann"


@pytest.mark.parametrize("text, message", [
    ("clipart", r"by_target has 'clipart': write TARGET1,TARGET2:KEY=VALUE"),
    ("clipart:epoch=3", r"no key config\.epoch \(did you mean 'epochs'")])
def test_settings_by_target_that_cannot_be_read(text, message):
  with pytest.raises(UserError, match=message):
    config.for_target(config.load("drt_domainnet", {"by_target": text}), "clipart")


@pytest.mark.parametrize("method", rows("drt_digit_five", "method"))
def test_digit_fives_settings(method):
  """DRT, section 4.1: SGD, 2e-3, a tenth every 100 of 300 epochs."""
  name = f"drt_digit_five:{method}"
  assert values(name, *LENGTH, *OPTIMIZER, "optimizer.momentum") == (128, 300, 0, "sgd", 2e-3, 5e-4, 0.9)
  assert values(name, *SCHEDULE) == ("exponential", "epoch", 100, 0.1)
  assert values(name, "model.name", "data.image_size", "report", "data.val_fraction") == ("digitnet", 32, "last", 0.0)


@pytest.mark.parametrize("name, model, steps", [
    ("wemnet_office31", "resnet50", 20_000), ("wemnet_visda", "resnet101", 30_000),
    ("wemnet_pacs", "resnet18", 20_000)])
def test_wemnets_settings(name, model, steps):
  """WEMNet, section 3.2, and TLL's DANN: Nesterov, a tenth of the rate below a bottleneck of 256 units."""
  for row in rows(name, "method"):
    assert values(f"{name}:{row}", *LENGTH[::2], *OPTIMIZER) == (32, steps, "sgd", 0.01, 1e-3)
    assert values(f"{name}:{row}", "optimizer.momentum", "optimizer.nesterov") == (0.9, True)
    assert values(f"{name}:{row}", *(f"optimizer.schedule.{key}" for key in ("name", "clock", "gamma", "power"))) == (
        "inverse", "step", 1e-3, 0.75)
    assert config.flatten(config.load(f"{name}:{row}")).get("algorithm.norm", True) is True  # of discriminators
    rates = [f"optimizer.roles.{role}.rate" for role in ("trunk", "head", "discriminator")]
    assert values(f"{name}:{row}", *rates) == (0.1, 1, 1)
    assert values(f"{name}:{row}", "model.name", "model.bottleneck", "report", "data.image_size") == (
        model, 256, "last", 224)
  assert values("wemnet_office31", "data.held_out") == values("wemnet_visda", "data.held_out") == (False,)


def test_mcds_settings():
  """The released code for VisDA has one batch of both domains, no momentum of the trunk and class balance; digits' not.

  On PACS, which is ours, it is the code for digits.
  """
  keys = tuple(f"algorithm.{key}" for key in ("form", "passes", "generator_momentum", "balance_weight",
                                              "generator_steps", "discrepancy_weight"))
  assert values("wemnet_visda:mcd", *keys) == ("three_step", "joint", False, 0.01, 4, 1.0)
  for name in ("drt_digit_five:mcd", "wemnet_pacs:mcd"):
    assert values(name, *keys) == ("three_step", "separate", True, 0.0, 4, 1.0)


@pytest.mark.parametrize("name", ["wemnet_office31", "wemnet_visda", "digits"])
@pytest.mark.parametrize("row, modules", [
    ("wemnet", ("dann", True, True)), ("wemnet_mstn", ("mstn", True, True)), ("wemnet_dim", ("dann", True, False)),
    ("wemnet_sem", ("dann", False, True))])
def test_wemnets_rows(name, row, modules):
  """WEMNet, Tables 1 to 3: what it is built on, and which of its modules it has."""
  assert values(f"{name}:{row}", "algorithm.name", *(f"algorithm.{key}" for key in ("base", "dim", "sem"))) == (
      "wemnet", *modules)


@pytest.mark.parametrize("name", ["wemnet_pacs", "drt_digit_five"])
def test_methods_that_a_table_compares_train_alike(name):
  apart = ("algorithm.", "model.dynamic")
  found = [{key: value for key, value in config.flatten(config.load(f"{name}:{method},small")).items()
            if not key.startswith(apart)} for method in rows(name, "method")]
  assert all(one == found[0] for one in found)


@pytest.mark.parametrize("name, weight", [
    ("drt_digit_five", 50), ("drt_pacs", 50), ("drt_digit_five:small", 500 / 345), ("wemnet_pacs:drt,small", 350 / 345),
    ("wemnet_pacs:drt,small,static", 350 / 345)])
def test_drts_weight_goes_by_the_classes_in_small_runs(name, weight):
  assert values(name, "algorithm.discrepancy_weight", "algorithm.form") == (pytest.approx(weight), "one_step")
  assert values(name, "model.dynamic") == ("none" if "static" in name else "subspace",)


def test_the_embedded_digits_train_alike_and_masks_faster():
  assert config.load("dmg_digits") == config.load("digits:dmg")
  for method in rows("digits", "method"):
    assert values(f"digits:{method}", *LENGTH, *OPTIMIZER) == (64, 15, 0, "adam", 2e-3, 1e-5)
  assert values("dmg_digits", *(f"optimizer.roles.masks.{key}" for key in ("rate", "decay"))) == (25, 0)


@pytest.mark.parametrize("name, steps, every", [
    ("crossgrad_fonts", 50_000, 1_000), ("crossgrad_handwriting", 50_000, 1_000), ("crossgrad_speech", 18_000, 1_000),
    ("crossgrad_rotated_mnist", 5_000, 500), ("crossgrad_rotated_mnist:digits", 1_000, 200),
    ("wemnet_office31", 20_000, 1_000), ("wemnet_visda", 30_000, 1_000), ("wemnet_pacs", 20_000, 1_000),
    ("wemnet_office31:small", 3_000, 250), ("wemnet_visda:small", 3_000, 250), ("wemnet_pacs:small", 3_000, 250)])
def test_settings_of_length_in_steps(name, steps, every):
  """And of how often a run is evaluated: by epoch where it is 0, as in configs whose length is in epochs."""
  assert values(name, "steps", "eval_every") == (steps, every)


def test_heads_of_crossgrads_networks_start_as_released():
  """Those of the LeNets from truncated normals; the ResNet is in the paper alone, and starts as ResNets do."""
  for name in ("crossgrad_fonts", "crossgrad_handwriting"):
    for network, init in (("lenet3", "truncated"), ("lenet4", "truncated"), ("resnet2", "uniform")):
      assert values(f"{name}:{network}", "model.name", "model.head_init") == (network, init)


def test_settings_of_small_runs():
  """From scratch, for a machine without an accelerator; no paper's."""
  for name in ("wemnet_office31", "wemnet_visda", "wemnet_pacs"):
    assert values(f"{name}:small", "model.name", "model.bottleneck", "data.image_size",
                  "optimizer.roles.trunk.rate") == ("resnet18", 256, 96, 1.0)
  assert values("drt_digit_five:small", "model.name", "data.per_domain", "data.rendered", "data.val_fraction") == (
      "digitnet_small", 2_000, (2_000, 2_000), 0.1)
  assert values("drt_digit_five:small", *LENGTH, *OPTIMIZER, "optimizer.schedule.name") == (
      64, 10, 0, "adam", 1e-3, 1e-5, "constant")
  assert values("rcl_mnist_mp:digits", "data.name", "data.image_size", *LENGTH) == ("digits_mp", 16, 128, 100, 0)
  assert values("crossgrad_rotated_mnist:digits", "data.name", "data.image_size") == ("rotated_digits", 16)


@pytest.mark.parametrize("name", ["digits:mstn", "drt_digit_five:mstn", "wemnet_pacs:mstn,small"])
def test_ramps_rise_over_the_whole_run_where_runs_are_shorter_than_the_papers(name):
  for ramp in ("ramp", "semantic_ramp"):
    assert values(name, f"algorithm.{ramp}.slope", f"algorithm.{ramp}.length") == (10.0, 0.0)
  assert values("digits:dan", "algorithm.ramp.slope", "algorithm.ramp.length") == (15.0, 50_000.0)
  assert values("wemnet_pacs:mstn", "algorithm.ramp.slope", "algorithm.ramp.length") == (10.0, 10_000.0)


def test_a_learning_rate_moves_every_parameter():
  """Each role's factor is on it, whatever the config."""
  for name in ("dmg_digits", "crossgrad_fonts", "drt_domainnet", "wemnet_pacs"):
    c = config.load(name, ["--config.optimizer.learning_rate=0.5"])
    hparams = algorithms.build(c, classes=7, domains=3, steps_per_epoch=10.0, steps=100).optimizer.hparams()
    assert hparams["learning_rate"] == 0.5 and set(hparams["roles"]) == set(algorithms.roles(c))


@pytest.mark.parametrize("method, network, expected", [
    ("dmg", "alexnet", {"trunk": "network/classifier.4/", "head": "network/classifier.6/", "masks": "masks/"}),
    ("crossgrad", "lenet3", {"trunk": "network/fc2/", "head": "network/fc3/", "discriminator": "domain_network/"}),
    ("mcd", "digitnet", {"trunk": "network/conv1/conv/kernel", "head": "heads/",
                         "residuals": "network/conv1/conv/dynamic/"}),
    ("wemnet", "smallnet", {"trunk": "network/conv1/", "head": "network/bottleneck/",
                            "discriminator": "discriminator/"})])
def test_roles_come_from_the_networks_stages_and_the_method(method, network, expected):
  c = config.load(f"digits:{method}", {"model.name": network, "data.image_size": 64 if network == "alexnet" else 32})
  if method == "mcd":
    c.model.dynamic = "subspace"
  if method == "wemnet":
    c.model.bottleneck = 8
  algorithm = algorithms.build(c, classes=7, domains=3, steps_per_epoch=10.0, steps=100)
  batch = experiment.batch_shapes(data.input_shape(c.data), algorithm.adapts)
  params = jax.eval_shape(algorithm.init, jax.random.key(0), batch).params
  found = {"/".join(key.key for key in path): algorithm.optimizer.role(tuple(key.key for key in path))
           for path, _ in jax.tree_util.tree_flatten_with_path(params)[0]}
  assert set(found.values()) == set(algorithms.roles(c)) == set(expected)
  for role, start in expected.items():
    assert {found[name] for name in found if name.startswith(start)} == {role}


def test_a_role_that_a_run_does_not_have_is_refused():
  c = config.load("digits:aggregate", ["--config.optimizer.roles.masks.rate=2"])
  with pytest.raises(UserError, match=r"optimizer\.roles\.masks: no parameter of this run is masks.*trunk, head"):
    algorithms.build(c, classes=7, domains=3, steps_per_epoch=10.0)


def test_overrides_of_every_type():
  overrides = ["seed=3", "algorithm.overlap_weight=1", "algorithm.masks.placement=code", "optimizer.nesterov=true",
               "optimizer.roles.masks.rate=100"]
  c = config.load("dmg_pacs", [f"--config.{override}" for override in overrides])
  assert c.seed == 3 and c.algorithm.overlap_weight == 1.0 and c.algorithm.masks.placement == "code"
  assert c.optimizer.nesterov is True and c.optimizer.roles.masks.rate == 100.0


def test_overrides_from_python():
  c = config.load("dmg_digits", {"steps": 40, "optimizer.learning_rate": 1e-3, "optimizer": {"nesterov": True},
                                 "algorithm": {"name": "dann", "hidden": [8, 4]}, "data.dir": "my images"})
  assert (c.steps, c.optimizer.learning_rate, c.optimizer.nesterov, c.data.dir) == (40, 1e-3, True, "my images")
  assert (c.algorithm.name, c.algorithm.hidden, c.report) == ("dann", (8, 4), "last")
  with pytest.raises(UserError, match="no key config.optimiser.learning_rate .did you mean 'optimizer.learning_rate'"):
    config.load("dmg_digits", {"optimiser": {"learning_rate": 1}})


def test_another_algorithm_network_or_data_set_brings_its_own_keys(caplog):
  c = config.load("dmg_pacs", ["--config.algorithm.name=multi_headed", "--config.algorithm.shared_heads=true",
                               "--config.model.name=alexnet", "--config.data.name=folder",
                               "--config.data.val_fraction=0.3"])
  assert c.algorithm.to_dict() == {"name": "multi_headed", "prediction": "pred_ens", "shared_heads": True}
  assert c.model.name == "alexnet" and c.data.name == "folder" and c.data.val_fraction == 0.3
  c = config.load("dmg_pacs:small", ["--config.data.name=folder"])
  assert c.data.image_size == 96 and not caplog.records[1:]  # the file's own settings stay; masks are reset, and said


@pytest.mark.parametrize("path, name, kept, said", [
    ("drt_domainnet", "m3sda", {"hidden": (1000, 1000), "form": "one_step", "prediction": "prob_ens"},
     "prediction=max_logit"),
    ("drt_domainnet", "dann", {"hidden": (1024, 1024), "prediction": "default"}, "hidden=(1000, 1000)"),
    ("digits:dann", "mstn", {"ramp": {"slope": 10.0, "length": 0.0, "delay": 0.0}}, None),
    ("dmg_pacs:rsc", "spectral_decoupling", {"form": "mean"}, "form=original")])
def test_a_method_keeps_what_means_the_same_in_another(path, name, kept, said, caplog):
  """Keys of one name that two classes have each for itself, and ways to predict, are not carried, and that is said."""
  c = config.load(path, [f"--config.algorithm.name={name}"])
  assert {key: value for key, value in c.algorithm.to_dict().items() if key in kept} == kept
  lines = [record.getMessage() for record in caplog.records if "does not carry over" in record.getMessage()]
  assert (said is None and not lines) or (len(lines) == 1 and said in lines[0])


def test_a_way_to_predict_that_the_method_does_not_have_is_told_before_training():
  c = config.load("digits:aggregate", {"algorithm.prediction": "max_logit"})
  algorithm = algorithms.build(c, classes=7, domains=3, steps_per_epoch=10.0)
  with pytest.raises(UserError, match=r"algorithm\.prediction is 'max_logit'.*known: default"):
    jax.eval_shape(algorithm.init, jax.random.key(0), experiment.batch_shapes((16, 16, 3), adapts=False))


def test_factors_of_a_role_that_goes_are_reset_and_said(caplog):
  c = config.load("dmg_digits", ["--config.algorithm.name=aggregate"])
  assert c.optimizer.roles.masks.to_dict() == {"rate": 1.0, "decay": 1.0, "constant": False}
  assert [record.getMessage() for record in caplog.records] == [
      "config.optimizer.roles.masks is reset: this run has no masks"]
  algorithms.build(config.load("drt_domainnet", ["--config.model.dynamic=none"]), classes=7, domains=3,
                   steps_per_epoch=10.0)


@pytest.mark.parametrize("overrides,message", [
    (["--config.sed=1"], r"no key config\.sed \(did you mean 'seed'\?\)"),
    (["--config.algorithm.overlap=1"], r"no key config\.algorithm\.overlap \(did you mean 'algorithm\.overlap_weight'"),
    (["--config.algorithm.name=dgm"], r"unknown algorithm 'dgm' in config\.algorithm\.name \(did you mean 'dmg'"),
    (["--config.model.name=resnet19"], r"unknown network 'resnet19' in config\.model\.name \(did you mean 'resnet18'"),
    (["--config.data.name=pac"], r"'pac'.*\(did you mean 'pacs'"),
    (["--config.seed=x"], r"config\.seed.*x"),
    (["--config.algorithm.overlap_weight=big"], r"overlap_weight.*big")])
def test_what_is_not_known_is_named(overrides, message):
  with pytest.raises(UserError, match=message):
    config.load("dmg_pacs", overrides)


@pytest.mark.parametrize("path, message", [
    (str(ROOT / "configs" / "dgm_pacs.py"), r"no config file .*dgm_pacs\.py \(did you mean '.*dmg_pacs\.py'"),
    ("dmg_pac", r"no config 'dmg_pac' \(did you mean 'dmg_pacs'"),
    ("dmg_pacs:resnet5", "no argument 'resnet5'.*did you mean 'resnet50'"),
    ("dmg_pacs:mldg,metareg", "'mldg' and 'metareg' are both of the argument 'method'"),
    ("rcl_mnist_mp:m=big", "'m=big'.*'big' is no float"), ("rcl_mnist_mp:m", "no argument 'm'.*m=0.9"),
    ("rcl_mnist_mp:jigsaw,m=0.5", "RCL's margin, and jigsaw has none"),
    ("dmg_pacs:small=1", "no argument 'small=1'.*did you mean 'small'")])
def test_an_absent_file_or_argument_is_named(path, message):
  with pytest.raises(UserError, match=message):
    config.load(path)


@pytest.mark.parametrize("text, message", [
    (b"x = 1\n", "has no function get_config"), (b"", "has no function get_config"),
    (b"\ndef f(:\n", "cannot import the config .*/own.py line 2 .SyntaxError"),
    (b"x = '\xe9'\n", "cannot import the config .*/own.py .*(?i:utf-8)"),
    (b"import nothing_like_it\n", "line 1 .ModuleNotFoundError: No module named 'nothing_like_it'"),
    (b"def get_config():\n  pass\n", "cannot make the config of .*/own.py .TypeError"),
    (b"def get_config(arg):\n\n  return {}['x']\n", "cannot make the config of .*/own.py line 3 .KeyError: 'x'"),
    (b"def get_config(arg):\n  return 3\n", "get_config of .*/own.py returns int: it must return what")])
def test_a_config_file_of_ones_own_that_is_wrong_is_named(tmp_path, text, message):
  (tmp_path / "own.py").write_bytes(text)
  with pytest.raises(UserError, match=message) as error:
    config.load(f"{tmp_path}/own.py")
  assert "\n" not in str(error.value)


def test_a_file_and_a_name_are_the_same_config():
  path = str(ROOT / "configs" / "dmg_pacs.py:aggregate,resnet50")
  assert config.load(path) == config.load("dmg_pacs:method=aggregate,resnet50")
  assert config_files.run_name(path) == config_files.run_name("dmg_pacs:aggregate,resnet50") == (
      "dmg_pacs-aggregate-resnet50")
  assert config.arguments("rcl_mnist_mp")["m"] == "m=0.9" and config.arguments("dmg_digits") == {}


@pytest.mark.parametrize("override,message", [
    ("data.threads=-1", "config.data.threads is -1: it must be at least 0"),
    ("data.prefetch=-1", "config.data.prefetch is -1"), ("data.image_size=0", "config.data.image_size is 0"),
    (f"seed={2**32}", f"config.seed is {2**32}: it must be below 2\\^32"),
    (f"data.split_seed={2**32}", r"config.data.split_seed is \d+: it must be below 2\^32"),
    ("seed=-1", "config.seed is -1"),
    ("batch_size=0", "config.batch_size is 0: it must be at least 1"), ("log_every=0", "config.log_every is 0"),
    ("optimizer.learning_rate=nan", "config.optimizer.learning_rate is nan: it must be a finite number"),
    ("algorithm.overlap_weight=inf", "config.algorithm.overlap_weight is inf"),
    ("seeds=0", "config.seeds is 0"), ("epochs=0", "config.epochs is 0: it must be above 0"),
    ("report=target_oracle", "use 'source_val' or 'last'")])
def test_values_that_no_run_can_have(override, message):
  with pytest.raises(UserError, match=message):
    config.check(config.load("dmg_pacs", [f"--config.{override}"]))


def test_seeds_end_where_jax_s_keys_would_repeat():
  settings = config.load("dmg_digits", [f"--config.seed={2**32 - 2}", "--config.seeds=2"])
  config.check(settings)
  settings.seeds = 3
  with pytest.raises(UserError, match=r"config.seeds is 3: from config.seed=\d+ on, the last would not be below 2\^32"):
    config.check(settings)


def test_differences_leave_out_what_changes_no_number():
  old = config.load("dmg_pacs")
  new = config.load("dmg_pacs", ["--config.seed=1", "--config.log_every=7", "--config.data.threads=5",
                                 "--config.eval_batch_size=3"])
  assert config.differences(old.to_dict(), new.to_dict()) == ["seed: 0 -> 1"]


@pytest.mark.parametrize("name, steps, advice", [
    ("dmg_digits", 700, []), ("dmg_pacs:small", 1500, []), ("rcl_mnist_mp", 4690, []), ("wemnet_pacs:small", 3000, []),
    ("dmg_pacs", 1000, [r"resnet18 starts from random weights.*learning_rate=0\.001",
                        r"logit of 0\.5 moves by 0\.0001 a step.*in 1000 steps.*roles\.masks\.rate=50"]),
    ("dmg_pacs", 100_000, ["resnet18 starts from random weights"]),
    ("wemnet_pacs", 20_000, [r"resnet18 starts.*roles\.trunk\.rate=1"])])
def test_advice(name, steps, advice):
  """Fine-tuning from random weights, and masks that cannot cross zero; nothing where all is well."""
  lines = config.advice(config.load(name), steps)
  assert len(lines) == len(advice)
  for line, expected in zip(lines, advice, strict=True):
    assert re.search(expected, line)


def test_published_weights_are_fine_tuned_without_advice():
  assert config.advice(config.load("dmg_pacs", {"model.weights": "resnet18.safetensors"}), 100_000) == []


def pictures(folder, side):
  for domain in "ab":
    for kind in "xy":
      (folder / domain / kind).mkdir(parents=True)
      for i in range(3):
        Image.new("RGB", (side + 8, side)).save(folder / domain / kind / f"{i}.png")
  return {"data.dir": str(folder)}


@pytest.mark.parametrize("side, size, network", [(12, 16, "smallnet"), (40, 32, "smallnet"), (70, 64, "resnet18"),
                                                 (300, 96, "resnet18")])
def test_own_images_are_sized_to_what_they_are(side, size, network, tmp_path):
  given = pictures(tmp_path / "holidays", side)
  c = config.load("folder", given)
  assert (c.data.image_size, c.model.name, c.steps, c.eval_every) == (size, network, 2_000, 100)
  assert c.batch_size == 2  # of 6 images a domain
  assert c.optimizer.learning_rate == 1e-3 and config.advice(c, c.steps) == []
  assert config.run_name("folder", c) == "folder-holidays"
  c = config.load("folder:aggregate", given | {"data.image_size": 48, "epochs": 3, "optimizer.learning_rate": 5e-3})
  assert (c.data.image_size, c.steps, c.epochs, c.optimizer.learning_rate) == (48, 0, 3, 5e-3)
  c = config.load("folder", given | {"model.weights": "resnet18.safetensors"})
  assert (c.data.image_size, c.model.name, c.optimizer.learning_rate) == (224, "resnet18", 1e-4)
  assert config.advice(c, c.steps) == []


@pytest.mark.parametrize("images, batch, steps", [
    ((6_000, 4_000, 5_000), 64, 7_031), ((100_000, 100_000, 100_000), 64, 20_000), ((200, 300, 400), 64, 2_000),
    ((100, 300, 400), 32, 2_000)])
def test_own_images_are_passed_fifty_times_within_bounds(images, batch, steps):
  """The largest domain may be the target; a step has at most half of the smallest's images."""
  names = runpy.run_path(str(ROOT / "configs" / "folder.py"))
  c, finish = names["get_config"](), names["finish"]
  finish.__globals__["look"] = lambda root: names["Found"](images, 50)
  c.data.dir = "anywhere"
  finish(c, set())
  assert (c.batch_size, c.steps, c.eval_every, c.optimizer.roles.masks.rate) == (batch, steps, steps // 20, 10.0)
  assert (c.data.image_size, c.model.name, c.optimizer.weight_decay) == (32, "smallnet", 1e-5)
  c = names["get_config"]()
  c.data.dir, c.data.name = "anywhere", "pacs"
  finish(c, set())
  assert (c.steps, c.epochs, c.batch_size) == (0, 50, 64)  # nothing was looked at


def test_misspelt_keys_of_a_file_are_refused(tmp_path):
  file = tmp_path / "own.py"
  file.write_text("from dgjax import config\n\ndef get_config(arg=None):\n"
                  "  c = config.default(algorithm='dmg', model='smallnet', data='digits')\n  c.epoch = 3\n  return c\n")
  with pytest.raises(UserError, match=r"own\.py line 5 .*Key \"epoch\" does not exist.* \"epochs\"") as told:
    config.load(str(file))
  assert len(str(told.value)) < 400  # and no list of all fields
