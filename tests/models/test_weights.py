"""Import and export under torchvision's names, without PyTorch."""

import logging
import sys

import jax
import numpy as np
import pytest
import safetensors.numpy
from absl import logging as absl_logging

from dgjax import models
from dgjax.errors import UserError
from dgjax.models import dynamic, small, weights


def resnet_names(blocks, depth):
  """Torchvision's names of a ResNet, written down from its layout."""
  def norm(name):
    return [f"{name}.{part}" for part in ("weight", "bias", "running_mean", "running_var")]
  names = ["conv1.weight", *norm("bn1"), "fc.weight", "fc.bias"]
  for layer, count in enumerate(blocks, 1):
    for block in range(count):
      prefix = f"layer{layer}.{block}"
      for i in range(1, depth + 1):
        names += [f"{prefix}.conv{i}.weight", *norm(f"{prefix}.bn{i}")]
      if block == 0 and (layer > 1 or depth == 3):
        names += [f"{prefix}.downsample.0.weight", *norm(f"{prefix}.downsample.1")]
  return names


@pytest.fixture
def tiny(tmp_path, random_variables):
  """A small network's random variables and a file of them."""
  variables = random_variables(small.smallnet(5, widths=(4, 6, 8)), 16)
  path = str(tmp_path / "small.safetensors")
  weights.save(path, variables)
  return variables, path


def edited(path, **changes):
  """Rewrites a file with tensors replaced, added, or (None) left out."""
  tensors = {**safetensors.numpy.load_file(path), **{name.replace("__", "."): v for name, v in changes.items()}}
  safetensors.numpy.save_file({name: value for name, value in tensors.items() if value is not None}, path)
  return path


def test_names_are_torchvisions():
  for name, blocks, depth in (("resnet18", (2, 2, 2, 2), 2), ("resnet34", (3, 4, 6, 3), 2),
                              ("resnet50", (3, 4, 6, 3), 3), ("resnet101", (3, 4, 23, 3), 3)):
    network = models.build(models.defaults(name), 7)
    shapes = jax.eval_shape(lambda n=network: n.init(jax.random.key(0), np.zeros((1, 64, 64, 3), np.float32)))
    assert sorted(weights.names(shapes)) == sorted(resnet_names(blocks, depth))
  network = models.build(models.defaults("alexnet"), 7)
  shapes = jax.eval_shape(lambda: network.init(jax.random.key(0), np.zeros((1, 64, 64, 3), np.float32)))
  layers = [*(f"features.{i}" for i in (0, 3, 6, 8, 10)), *(f"classifier.{i}" for i in (1, 4, 6))]
  assert sorted(weights.names(shapes)) == sorted(f"{layer}.{part}" for layer in layers for part in ("weight", "bias"))


def test_round_trip_and_layout(tmp_path, random_variables):
  variables = random_variables(models.build(models.defaults("resnet18"), 7), 64)
  path = str(tmp_path / "resnet18.safetensors")
  weights.save(path, variables)
  tensors = safetensors.numpy.load_file(path)
  params = variables["params"]
  for o, i, h, w in ((0, 0, 0, 0), (5, 2, 1, 6), (63, 1, 6, 3)):
    assert tensors["conv1.weight"][o, i, h, w] == params["conv1"]["conv1"]["kernel"][h, w, i, o]
  assert tensors["fc.weight"].shape == (7, 512)
  assert tensors["fc.weight"][3, 100] == params["fc"]["kernel"][100, 3]
  np.testing.assert_array_equal(tensors["layer2.0.downsample.1.running_var"],
                                variables["batch_stats"]["layer2"]["0"]["downsample.1"]["var"])
  loaded = weights.load(path, jax.tree.map(np.zeros_like, variables))
  assert jax.tree.structure(loaded) == jax.tree.structure(variables)
  jax.tree.map(np.testing.assert_array_equal, loaded, variables)
  assert [file.name for file in tmp_path.iterdir()] == ["resnet18.safetensors"]


def test_half_precision_widens_and_counters_are_passed_over(tiny):
  variables, path = tiny
  half = np.ascontiguousarray(variables["params"]["fc"]["kernel"].T, np.float16)
  loaded = weights.load(edited(path, fc__weight=half, conv1__bn__num_batches_tracked=np.array(3)), variables)
  assert loaded["params"]["fc"]["kernel"].dtype == np.float32
  np.testing.assert_array_equal(loaded["params"]["fc"]["kernel"], half.T.astype(np.float32))


def test_a_network_without_statistics_keeps_its_structure(tmp_path):
  variables = {"params": {"fc": {"kernel": np.ones((2, 3), np.float32)}}, "batch_stats": {}}
  path = str(tmp_path / "x.safetensors")
  weights.save(path, variables)
  assert jax.tree.map(np.shape, weights.load(path, variables)) == jax.tree.map(np.shape, variables)


def test_faults_are_named(tiny):
  variables, path = tiny
  edited(path, conv2__conv__weight=None, extra__weight=np.ones(3, np.float32), fc__bias=np.ones(4, np.float32),
         conv1__bn__bias=np.ones(4, np.int8))
  with pytest.raises(UserError) as error:
    weights.load(path, variables)
  assert str(error.value) == (
      f"{path}: not the weights of this network: missing conv2.conv.weight; surplus extra.weight; "
      "misshapen fc.bias (4,) not (5,); not floating-point conv1.bn.bias")
  with pytest.raises(UserError, match=r"missing .* and 9 more; surplus"):
    weights.load(edited(path, **{name: None for name in safetensors.numpy.load_file(path)},
                        other=np.ones(1, np.float32)), variables)


def test_a_head_of_other_classes_stays_fresh_only_when_asked(tiny, random_variables):
  variables, path = tiny
  other = random_variables(small.smallnet(3, widths=(4, 6, 8)), 16, seed=1)
  with pytest.raises(UserError, match=r"misshapen fc\.bias \(5,\) not \(3,\), fc\.weight \(5, 8\) not \(3, 8\)"):
    weights.load(path, other)
  records = []
  handler = logging.Handler()
  handler.emit = lambda record: records.append(record.getMessage())
  absl_logging.get_absl_logger().addHandler(handler)
  verbosity = absl_logging.get_verbosity()
  absl_logging.set_verbosity(absl_logging.INFO)
  try:
    loaded = weights.load(path, other, fresh_head="fc")
    assert records.pop() == f"{path}: fc starts fresh: 5 classes there, 3 here"
    headless = {**variables, "params": {name: value for name, value in variables["params"].items() if name != "fc"}}
    trunk = weights.load(path, headless, fresh_head="fc")
    assert records.pop() == f"{path}: fc starts fresh: the network here is without it"
    jax.tree.map(np.testing.assert_array_equal, trunk, headless)
    with pytest.raises(UserError, match=r"surplus fc\.bias, fc\.weight$"):
      weights.load(path, headless)
    weights.load(path, variables, fresh_head="fc")  # nothing differs, nothing is said
    assert not records
  finally:
    absl_logging.set_verbosity(verbosity)
    absl_logging.get_absl_logger().removeHandler(handler)
  jax.tree.map(np.testing.assert_array_equal, loaded["params"]["fc"], other["params"]["fc"])
  np.testing.assert_array_equal(loaded["params"]["conv1"]["conv"]["kernel"],
                                variables["params"]["conv1"]["conv"]["kernel"])
  # Another number of features is not another number of classes.
  wider = random_variables(small.smallnet(3, widths=(4, 6, 10)), 16)
  with pytest.raises(UserError, match=r"misshapen .*fc\.weight \(5, 8\) not \(3, 10\)"):
    weights.load(path, wider, fresh_head="fc")


def test_unreadable_files_are_one_line(tiny, tmp_path, monkeypatch):
  variables, path = tiny
  cut = tmp_path / "cut.safetensors"
  with open(path, "rb") as file:
    cut.write_bytes(file.read()[:-10])
  (tmp_path / "x.npz").write_bytes(b"")
  (tmp_path / "x.pth").write_bytes(b"")
  monkeypatch.setitem(sys.modules, "torch", None)
  for name, message in (("absent.safetensors", r"model\.weights: no file"), ("cut.safetensors", "cut short"),
                        ("x.npz", r"neither \.safetensors nor \.pth"), ("x.pth", r"pip install dgjax\[torch\]")):
    with pytest.raises(UserError, match=message) as error:
      weights.load(str(tmp_path / name), variables)
    assert name in str(error.value) and "\n" not in str(error.value)


def test_residuals_stay_fresh_where_a_file_has_none(tiny, tmp_path, random_variables):
  variables, path = tiny
  network = small.smallnet(5, widths=(4, 6, 8), block_conv=dynamic.constructor("both"))
  new = random_variables(network, 16, seed=1)
  with pytest.raises(UserError, match=r"missing conv1\.conv\.dynamic"):
    weights.load(path, new)
  loaded = weights.load(path, new, fresh=dynamic.PATTERN)
  for stage in ("conv1", "conv2", "conv3"):
    conv = loaded["params"][stage]["conv"]
    np.testing.assert_array_equal(conv["kernel"], variables["params"][stage]["conv"]["kernel"])
    jax.tree.map(np.testing.assert_array_equal, conv["dynamic"], new["params"][stage]["conv"]["dynamic"])
  with pytest.raises(UserError, match=r"missing conv2\.conv\.weight$"):
    weights.load(edited(path, conv2__conv__weight=None), new, fresh=dynamic.PATTERN)
  whole = str(tmp_path / "dynamic.safetensors")
  weights.save(whole, new)
  again = weights.load(whole, jax.tree.map(np.zeros_like, new), fresh=dynamic.PATTERN)
  jax.tree.map(np.testing.assert_array_equal, again, new)
  with pytest.raises(UserError, match=r"missing conv3\.conv\.dynamic\.phi$"):
    weights.load(edited(whole, conv3__conv__dynamic__phi=None), new, fresh=dynamic.PATTERN)
