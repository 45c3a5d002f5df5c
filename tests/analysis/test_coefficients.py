import jax
import numpy as np
import pytest

from dgjax.analysis import coefficients
from dgjax.errors import UserError
from dgjax.models import dynamic, resnet, small

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(6, 8, 8, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def collected():
  network = small.smallnet(3, widths=(4, 4, 4), block_conv=dynamic.constructor("both", k=3))
  variables = jax.jit(network.init)(jax.random.key(0), IMAGES[:1])
  mask = np.array([True, True, False, False])
  batches = [{"image": IMAGES[:4]}, {"image": np.concatenate([IMAGES[4:], IMAGES[:2]]), "mask": mask}]
  return network, variables, coefficients.collect(network, variables, batches)


def test_every_layer_and_image_has_its_coefficients(collected):
  network, variables, found = collected
  assert list(found) == ["mixture", "gains"]
  for kind, width in (("mixture", 3), ("gains", 4)):
    assert list(found[kind]) == ["conv1/conv", "conv2/conv", "conv3/conv"]
    assert all(values.shape == (6, width) for values in found[kind].values())  # padding is left out
  np.testing.assert_allclose(coefficients.vectors(found["mixture"]).sum(1), 3, rtol=1e-5)
  h = network.apply(variables, IMAGES, stop="conv2")
  new = variables["params"]["conv2"]["conv"]["dynamic"]
  logits = np.maximum(np.asarray(h).mean((1, 2)) @ new["squeeze"]["kernel"], 0) @ new["routing"]["kernel"]
  want = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
  np.testing.assert_allclose(found["mixture"]["conv2/conv"], want, rtol=1e-4)


def test_layers_side_by_side_and_halves(collected):
  mixture = collected[2]["mixture"]
  assert coefficients.vectors(mixture).shape == (6, 9)
  np.testing.assert_array_equal(coefficients.vectors(mixture, "low"), mixture["conv1/conv"])
  np.testing.assert_array_equal(coefficients.vectors(mixture, "high")[:, 3:], mixture["conv3/conv"])
  with pytest.raises(ValueError, match="no half 'middle'"):
    coefficients.vectors(mixture, "middle")


def test_a_head_that_others_take_the_place_of_is_not_needed(collected):
  network, variables, found = collected
  trunk = {**variables, "params": {name: tree for name, tree in variables["params"].items() if name != "fc"}}
  again = coefficients.collect(network, trunk, [{"image": IMAGES}])
  np.testing.assert_allclose(again["gains"]["conv3/conv"][:4], found["gains"]["conv3/conv"][:4], rtol=1e-5)


def test_blocks_come_in_the_order_of_the_network():
  """Block 10 comes after block 2, though not as text."""
  class Mimic:
    names = ("layer1", "layer2")
    index = names.index

    def apply(self, variables, images, stop, mutable):
      tree = {"layer2": {"0": {"conv2": {"dynamic": {"gains": (images[:, 0, 0],)}}}}}
      tree["layer1"] = {str(i): {"conv2": {"dynamic": {"gains": (images[:, 0, 0],)}}} for i in (10, 2, 0)}
      return None, {"intermediates": tree}

  found = coefficients.collect(Mimic(), {"params": {"layer1": {}, "layer2": {}}}, [{"image": IMAGES}])
  assert list(found["gains"]) == ["layer1/0/conv2", "layer1/2/conv2", "layer1/10/conv2", "layer2/0/conv2"]
  assert resnet.resnet50(3).index("layer2") > resnet.resnet50(3).index("layer1")


def test_a_static_network_has_none():
  network = small.smallnet(3, widths=(4, 4, 4))
  variables = jax.jit(network.init)(jax.random.key(0), IMAGES[:1])
  with pytest.raises(UserError, match=r"set model\.dynamic"):
    coefficients.collect(network, variables, [{"image": IMAGES}])
