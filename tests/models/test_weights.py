"""Import and export under torchvision's names, without PyTorch."""

import json
import logging
import struct
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

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


@pytest.fixture
def said(caplog):
  """A function that returns, and forgets, what has been logged for the user."""
  caplog.set_level(logging.INFO, "dgjax")

  def take():
    text = "\n".join(record.getMessage() for record in caplog.records)
    caplog.clear()
    return text
  return take


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
  exported = weights.to_torchvision(variables)
  assert exported.keys() == tensors.keys() and all(value.flags.c_contiguous for value in exported.values())
  jax.tree.map(np.testing.assert_array_equal, exported, tensors)


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
         conv1__bn__bias=np.ones(4, np.int8), fc__weight=np.full((5, 8), 1e39))
  with pytest.raises(UserError) as error:
    weights.load(path, variables)
  assert str(error.value) == (
      f"{path}: not the weights of this network: missing conv2.conv.weight; surplus extra.weight; "
      "misshapen fc.bias (4,) not (5,); not floating-point conv1.bn.bias (int8); "
      "not finite as float32 fc.weight")
  with pytest.raises(UserError, match=r"missing .* and 9 more; surplus"):
    weights.load(edited(path, **{name: None for name in safetensors.numpy.load_file(path)},
                        other=np.ones(1, np.float32)), variables)


def test_a_head_of_other_classes_stays_fresh_only_when_asked(tiny, said, random_variables):
  variables, path = tiny
  other = random_variables(small.smallnet(3, widths=(4, 6, 8)), 16, seed=1)
  with pytest.raises(UserError, match=r"misshapen fc\.bias \(5,\) not \(3,\), fc\.weight \(5, 8\) not \(3, 8\)"):
    weights.load(path, other)
  loaded = weights.load(path, other, fresh_head="fc")
  assert said() == f"{path}: fc starts fresh: 5 classes there, 3 here"
  headless = {**variables, "params": {name: value for name, value in variables["params"].items() if name != "fc"}}
  trunk = weights.load(path, headless, fresh_head="fc")
  assert said() == f"{path}: fc starts fresh: the network here is without it"
  jax.tree.map(np.testing.assert_array_equal, trunk, headless)
  with pytest.raises(UserError, match=r"surplus fc\.bias, fc\.weight$"):
    weights.load(path, headless)
  weights.load(path, variables, fresh_head="fc")  # nothing differs, nothing is said
  assert not said()
  jax.tree.map(np.testing.assert_array_equal, loaded["params"]["fc"], other["params"]["fc"])
  np.testing.assert_array_equal(loaded["params"]["conv1"]["conv"]["kernel"],
                                variables["params"]["conv1"]["conv"]["kernel"])
  # With another number of features the network is another.
  wider = random_variables(small.smallnet(3, widths=(4, 6, 10)), 16)
  with pytest.raises(UserError, match=r"misshapen conv3"):
    weights.load(path, wider, fresh_head="fc")


def test_a_head_of_another_size_or_none_starts_fresh_and_says_so(tiny, said):
  variables, path = tiny
  weights.load(edited(path, fc__weight=np.ones((5, 9), np.float32)), variables, fresh_head="fc")
  assert said() == f"{path}: fc starts fresh: fc.weight is (5, 9) there, (5, 8) here"
  loaded = weights.load(edited(path, fc__weight=None, fc__bias=None), variables, fresh_head="fc")
  assert said() == f"{path}: fc starts fresh: the file is without it"
  jax.tree.map(np.testing.assert_array_equal, loaded, variables)
  with pytest.raises(UserError, match=r"missing fc\.bias, fc\.weight$"):
    weights.load(path, variables)


@pytest.mark.parametrize("prefix", ["module.", "state_dict.", "model.", "backbone.", "module.features.",
                                    "state_dict_G.", "state_dict.module.backbone."])
def test_the_network_is_found_below_a_prefix(tiny, said, prefix):
  variables, path = tiny
  tensors = {f"{prefix}{name}": value for name, value in safetensors.numpy.load_file(path).items()}
  tensors[f"{prefix}conv1.bn.num_batches_tracked"] = np.array(3)
  safetensors.numpy.save_file(tensors, path)
  loaded = weights.load(path, jax.tree.map(np.zeros_like, variables))
  jax.tree.map(np.testing.assert_array_equal, loaded, variables)
  assert said() == f"{path}: the network is read from below the prefix '{prefix}'"
  safetensors.numpy.save_file({**tensors, "head.weight": np.ones(3, np.float32)}, path)
  weights.load(path, variables)
  assert said().endswith(f"'{prefix}'; left out: head.weight")
  safetensors.numpy.save_file({**tensors, **{f"ema.{name}": value for name, value in tensors.items()}}, path)
  with pytest.raises(UserError, match=rf"2 times, under the prefixes .*ema\.{prefix}.*save one alone"):
    weights.load(path, variables)


def test_nested_dicts_are_read_under_dotted_names():
  state = {"epoch": 3, "state_dict": {"fc": {"weight": 1}, "bias": 2}, "optimizer": {}}
  assert weights.flatten(state) == {"epoch": 3, "state_dict.fc.weight": 1, "state_dict.bias": 2}


def test_published_dynamic_networks_load(tmp_path, random_variables, said):
  """DRT's names: each Phi a convolution `conv_s`, the attention branch `fc`, in a block; a head of its own."""
  network = models.build(models.defaults("resnet50") | {"dynamic": "subspace"}, 7)
  variables = random_variables(network, 32)
  tensors = {}
  for name, value in weights.to_torchvision(variables).items():
    block, _, part = name.partition(".conv2.dynamic.")
    if part == "phi":
      tensors |= {f"{block}.conv_s{k + 1}.weight": np.ascontiguousarray(value[k].T[:, :, None, None])
                  for k in range(4)}
    elif part:
      tensors[f"{block}.fc.{ {'squeeze.weight': 0, 'routing.weight': 2}[part]}.weight"] = value
    elif not name.startswith("fc."):
      tensors[name] = value
  assert {"layer1.0.fc.0.weight", "layer1.0.fc.2.weight", "layer4.2.conv_s4.weight"} <= tensors.keys()
  path = str(tmp_path / "published.safetensors")
  safetensors.numpy.save_file({f"state_dict_G.{name}": value for name, value in tensors.items()}
                              | {"state_dict_F1.classifier.1.weight": np.ones((2, 2), np.float32)}, path)
  loaded = weights.load(path, jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), variables), fresh_head="fc")
  assert "fc starts fresh: the file is without it" in said()
  assert not np.any(loaded["params"].pop("fc")["kernel"])
  jax.tree.map(np.testing.assert_array_equal, loaded["params"],
               {name: value for name, value in variables["params"].items() if name != "fc"})


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2"])
def test_numbers_of_8_bits_are_refused_by_name(tiny, dtype):
  variables, path = tiny
  header = json.dumps({"fc.bias": {"dtype": dtype, "shape": [2], "data_offsets": [0, 2]}}).encode()
  with open(path, "wb") as file:
    file.write(struct.pack("<Q", len(header)) + header + b"00")
  with pytest.raises(UserError, match=rf"numbers of 8 bits are not read: fc\.bias \({dtype}\)"):
    weights.load(path, variables)


def test_bfloat16_widens(tiny):
  variables, path = tiny
  kernel = np.asarray(jnp.asarray(variables["params"]["fc"]["kernel"].T, jnp.bfloat16))
  loaded = weights.load(edited(path, fc__weight=np.ascontiguousarray(kernel)), variables)
  np.testing.assert_array_equal(loaded["params"]["fc"]["kernel"], kernel.T.astype(np.float32))


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
