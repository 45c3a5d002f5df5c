"""Dynamic residuals against a NumPy loop over examples, in all their forms."""

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dgjax import models
from dgjax.errors import UserError
from dgjax.models import dynamic, layers, resnet

DYNAMIC = tuple(variant for variant in dynamic.VARIANTS if variant != "none")


def convolve(image, kernel, strides):
  """Convolution of one image (height, width, in) with zeros that keep its size, position by position."""
  side = len(kernel)
  padded = np.pad(image, [(side // 2, side // 2)] * 2 + [(0, 0)])
  rows, columns = (range(0, n, strides) for n in image.shape[:2])
  return np.array([[np.einsum("hwi,hwio->o", padded[i:i + side, j:j + side], kernel) for j in columns] for i in rows])


def loops(params, h, block_input, variant, gate, strides):
  """Eqs. 2 to 5 example by example."""
  out = []
  for image, seen in zip(h, block_input, strict=True):
    new, kernel = params["dynamic"], params["kernel"]
    pooled = np.array([channel.mean() for channel in np.moveaxis(seen, -1, 0)])
    hidden = np.maximum(pooled @ new["squeeze"]["kernel"], 0)
    residual = np.zeros_like(kernel)
    if variant in ("channel", "both"):
      a = hidden @ new["gain"]["kernel"]
      gain = {"sigmoid": 1 / (1 + np.exp(-a)), "hard": np.clip(a + 3, 0, 6) / 3 - 1}[gate]
      residual = residual + gain * kernel
    if variant in ("subspace", "both"):
      weights = np.exp(hidden @ new["routing"]["kernel"])
      for share, phi in zip(weights / weights.sum(), new["phi"], strict=True):
        residual[len(kernel) // 2, len(kernel) // 2] += share * phi
    out.append(convolve(image, kernel + residual, strides))
  return np.array(out)


def random_params(module, *inputs, seed=0):
  """Normal parameters: the attention branch's own start at 0.01 would leave the mixture uniform."""
  rng = np.random.default_rng(seed)
  shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), *inputs))["params"]
  return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)


@pytest.mark.parametrize("form", ("auto", *dynamic.FORMS))
@pytest.mark.parametrize(("variant", "gate", "strides", "side"), [
    ("channel", "sigmoid", 2, 3), ("subspace", "sigmoid", 1, 3), ("both", "sigmoid", 2, 3), ("both", "hard", 1, 5)])
def test_every_form_equals_loops(form, variant, gate, strides, side):
  rng = np.random.default_rng(0)
  h = rng.normal(size=(3, 5, 6, 4)).astype(np.float32)
  seen = rng.normal(size=(3, 4, 4, 7)).astype(np.float32) + rng.normal(size=(3, 1, 1, 7)).astype(np.float32)
  module = dynamic.constructor(variant, 3, gate, form)(2, side=side, strides=strides)
  params = random_params(module, h, seen)
  want = loops(params, h, seen, variant, gate, strides)
  assert want.std() > 1 and want.shape == (3, -(-5 // strides), -(-6 // strides), 2)
  got = jax.jit(module.apply)({"params": params}, h, seen)
  np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5 * np.abs(want).max())


@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("variant", DYNAMIC)
def test_forms_agree_in_value_and_gradient(variant, strides):
  rng = np.random.default_rng(1)
  h, seen = (rng.normal(1, 1, size=(4, 5, 5, c)).astype(np.float32) for c in (6, 32))
  weight = rng.normal(size=(4, -(-5 // strides), -(-5 // strides), 3)).astype(np.float32)
  params = None
  found = {}
  for form in ("auto", *dynamic.FORMS):
    module = dynamic.constructor(variant, form=form)(3, strides=strides)
    params = params or random_params(module, h, seen, seed=2)

    def loss(params, h, seen, module=module):
      y = module.apply({"params": params}, h, seen)
      return (weight * y + 0.1 * y**2).sum(), y

    (_, value), grads = jax.jit(jax.value_and_grad(loss, (0, 1, 2), has_aux=True))(params, h, seen)
    found[form] = jax.tree.leaves((value, grads))
  assert all(np.abs(leaf).max() > 1e-3 for leaf in found["kernel"])  # everything has a gradient
  for form in ("auto", "mixing", "inputs", "outputs"):
    for got, want in zip(found[form], found["kernel"], strict=True):
      np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5 * np.abs(want).max())


def test_parameters_start_as_released():
  x = jnp.ones((2, 4, 4, 64))
  params = jax.jit(dynamic.constructor("both")(128).init)(jax.random.key(0), x, x)["params"]
  assert jax.tree.map(np.shape, params) == {"kernel": (3, 3, 64, 128), "dynamic": {
      "squeeze": {"kernel": (64, 4)}, "gain": {"kernel": (4, 128)}, "routing": {"kernel": (4, 4)}, "phi": (4, 64, 128)}}
  phi = params["dynamic"]["phi"]
  np.testing.assert_allclose(phi.std((1, 2)), np.sqrt(2 / 128), rtol=0.05)  # each as a 1x1 convolution, fan out
  assert np.abs(np.corrcoef(phi.reshape(4, -1))[np.triu_indices(4, 1)]).max() < 0.1  # and each its own
  np.testing.assert_allclose(params["dynamic"]["squeeze"]["kernel"].std(), 0.01, rtol=0.2)
  static = jax.jit(layers.BlockConv(128).init)(jax.random.key(0), x, x)["params"]
  np.testing.assert_array_equal(params["kernel"], static["kernel"])
  image = jnp.ones((2, 4, 4, 3))
  shapes = jax.eval_shape(dynamic.constructor("subspace")(8).init, jax.random.key(0), image, image)
  assert shapes["params"]["dynamic"]["squeeze"]["kernel"].shape == (3, 4)


def test_gains_stay_in_their_range():
  a = np.linspace(-9, 9, 7, dtype=np.float32)
  sigmoid, hard = (np.asarray(dynamic.GATES[name](a)) for name in ("sigmoid", "hard"))
  assert 1 < sigmoid.min() < sigmoid.max() < 2 and sigmoid[3] == 1.5
  np.testing.assert_allclose(hard, [0, 0, 0, 1, 2, 2, 2], atol=1e-6)


def names(network, side=32):
  variables = jax.eval_shape(lambda: network.init(jax.random.key(0), jnp.zeros((1, side, side, 3))))
  return {jax.tree_util.keystr(path, simple=True, separator="/")
          for path, _ in jax.tree_util.tree_leaves_with_path(variables["params"])}


@pytest.mark.parametrize(("name", "convolutions"), [
    ("resnet18", [f"layer{i}/{j}/conv{k}" for i, j, k in itertools.product((1, 2, 3, 4), (0, 1), (1, 2))]),
    ("resnet50", [f"layer{i}/{j}/conv2" for i, count in enumerate((3, 4, 6, 3), 1) for j in range(count)]),
    ("digitnet", [f"conv{i}/conv" for i in (1, 2, 3)])])
def test_where_residuals_are(name, convolutions):
  config = models.defaults(name)
  static, both = (names(models.build({**config, "dynamic": variant}, 7)) for variant in ("none", "both"))
  new = {f"{conv}/dynamic/{leaf}" for conv in convolutions
         for leaf in ("phi", "squeeze/kernel", "routing/kernel", "gain/kernel")}
  assert static < both and both - static == new
  assert {path for path in both if re.search(dynamic.PATTERN, path)} == new
  assert not any(re.search(dynamic.PATTERN, path) for path in static)


@pytest.mark.parametrize("name", ["resnet2", "digitnet_small", "smallnet"])
def test_an_example_does_not_depend_on_the_others(name):
  network = models.build({**models.defaults(name), "dynamic": "both", "dtype": "bfloat16"}, 5)
  x = np.random.default_rng(0).normal(size=(4, 16, 16, 3)).astype(np.float32)
  variables = jax.jit(network.init)(jax.random.key(0), x)
  logits = jax.jit(network.apply)(variables, x)
  assert logits.dtype == jnp.float32
  np.testing.assert_allclose(logits[::-1], jax.jit(network.apply)(variables, x[::-1]), rtol=0.02, atol=0.02)


def test_both_convolutions_of_a_basic_block_see_its_input():
  block = resnet.BasicBlock(3, 1, layers.Conv, dynamic.constructor("subspace"), layers.BatchNorm)
  x = np.random.default_rng(0).normal(1, 1, size=(2, 6, 6, 3)).astype(np.float32)
  variables = jax.jit(lambda x: block.init(jax.random.key(0), x, False))(x)
  _, seen = jax.jit(lambda v, x: block.apply(v, x, False, mutable=["intermediates"]))(variables, x)
  for conv in ("conv1", "conv2"):
    new = variables["params"][conv]["dynamic"]
    logits = np.maximum(x.mean((1, 2)) @ new["squeeze"]["kernel"], 0) @ new["routing"]["kernel"]
    want = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(seen["intermediates"][conv]["dynamic"]["mixture"][0], want, rtol=1e-5)


def test_settings_are_checked():
  config = models.defaults("resnet18")
  for key, wrong, message in (("dynamic", "subspac", r"model.dynamic: unknown.*did you mean 'subspace'"),
                              ("dynamic_gate", "soft", r"model.dynamic_gate: unknown 'soft'"),
                              ("dynamic_form", "mixin", r"model.dynamic_form: unknown.*did you mean 'mixing'"),
                              ("dynamic_k", 0, r"model.dynamic_k is 0")):
    with pytest.raises(UserError, match=message):
      models.build({**config, key: wrong}, 7)
  with pytest.raises(UserError, match=r"model.dynamic is 'both', but alexnet .*digitnet, .*resnet18"):
    models.build({**models.defaults("alexnet"), "dynamic": "both"}, 7)
