"""Layers against NumPy loops written from PyTorch's definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from dgjax.models import layers


def test_adaptive_average_pool_covers_pytorchs_windows():
  rng = np.random.default_rng(0)
  for height, width in ((2, 2), (1, 3), (6, 6), (7, 13), (4, 12)):
    x = rng.normal(size=(2, height, width, 3)).astype(np.float32)
    want = np.empty((2, 6, 6, 3))
    for i in range(6):
      for j in range(6):
        rows = slice(int(np.floor(i * height / 6)), int(np.ceil((i + 1) * height / 6)))
        columns = slice(int(np.floor(j * width / 6)), int(np.ceil((j + 1) * width / 6)))
        want[:, i, j] = x[:, rows, columns].mean((1, 2))
    np.testing.assert_allclose(layers.adaptive_average_pool(x, 6), want, atol=1e-6)


def test_a_biass_gradient_is_summed_in_float32():
  """101 * 127 = 12827 has more bits than bfloat16, and a sum of ones in it would stop at 256."""
  module = layers.Conv(2, (1, 1), padding=0, use_bias=True, dtype=jnp.bfloat16)
  x = jnp.zeros((1, 101, 127, 1), jnp.bfloat16)
  params = module.init(jax.random.key(0), x)["params"]
  y, back = jax.vjp(lambda params: module.apply({"params": params}, x), params)
  assert y.dtype == jnp.bfloat16
  np.testing.assert_array_equal(back(jnp.ones_like(y))[0]["bias"], [12827, 12827])


def test_batch_norm_normalises_by_the_biased_variance_and_keeps_the_unbiased():
  rng = np.random.default_rng(0)
  # The third channel's mean is large: E[x^2] - E[x]^2 would lose its variance in float32.
  x = (rng.normal(size=(4, 3, 2, 3)) * [1, 2, 0.5] + [0, 1, 3000]).astype(np.float32)
  scale, bias = rng.normal(size=(2, 3)).astype(np.float32)
  mean, var = np.array([0.1, 0.2, 0.3], np.float32), np.array([1, 2, 3], np.float32)
  norm = layers.BatchNorm()
  variables = {"params": {"scale": scale, "bias": bias}, "batch_stats": {"mean": mean, "var": var}}
  y, new = norm.apply(variables, x, True, mutable=["batch_stats"])
  for c in range(3):
    values = x[..., c].astype(np.float64).ravel()
    m = values.sum() / 24
    spread = ((values - m) ** 2).sum()
    want = (x[..., c] - m) / np.sqrt(spread / 24 + 1e-5) * scale[c] + bias[c]
    np.testing.assert_allclose(y[..., c], want, atol=2e-3 if c == 2 else 1e-5)
    np.testing.assert_allclose(new["batch_stats"]["mean"][c], 0.9 * mean[c] + 0.1 * m, rtol=1e-6)
    np.testing.assert_allclose(new["batch_stats"]["var"][c], 0.9 * var[c] + 0.1 * spread / 23, rtol=1e-5)
    running = (x[..., c] - mean[c]) / np.sqrt(var[c] + 1e-5) * scale[c] + bias[c]
    np.testing.assert_allclose(norm.apply(variables, x, False)[..., c], running, rtol=1e-5, atol=1e-5)


def test_batch_norm_of_a_sharded_batch_is_the_global_batchs():
  norm = layers.BatchNorm()
  x = jax.random.normal(jax.random.key(0), (8, 2, 2, 3))
  variables = norm.init(jax.random.key(1), x, False)
  apply = jax.jit(lambda x: norm.apply(variables, x, True, mutable=["batch_stats"]))
  mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
  sharded = apply(jax.device_put(x, NamedSharding(mesh, PartitionSpec("data"))))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), apply(x), sharded)


def test_conv_and_dense_equal_loops():
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2, 5, 4, 3)).astype(np.float32)
  conv = layers.Conv(2, (3, 3), strides=2, padding=1, use_bias=True)
  params = conv.init(jax.random.key(0), x)["params"]
  padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
  want = np.empty((2, 3, 2, 2))
  for b, i, j, c in np.ndindex(want.shape):
    window = padded[b, 2 * i:2 * i + 3, 2 * j:2 * j + 3]
    want[b, i, j, c] = (window * np.asarray(params["kernel"])[..., c]).sum() + params["bias"][c]
  np.testing.assert_allclose(conv.apply({"params": params}, x), want, atol=1e-5)
  dense = layers.Dense(5)
  params = dense.init(jax.random.key(0), x[:, 0, 0])["params"]
  want = x[:, 0, 0] @ np.asarray(params["kernel"]) + np.asarray(params["bias"])[None]
  np.testing.assert_allclose(dense.apply({"params": params}, x[:, 0, 0]), want, atol=1e-5)


def test_initialisations():
  x = jnp.zeros((1, 4, 4, 16))
  kernel = layers.Conv(64).init(jax.random.key(0), x)["params"]["kernel"]
  assert kernel.std() == pytest.approx(np.sqrt(2 / (9 * 64)), rel=0.03)  # fan_out
  assert abs(kernel).max() > 3 * kernel.std()  # normal, not truncated at two deviations
  conv = layers.Conv(64, use_bias=True, kernel_init=layers.uniform_fan_in).init(jax.random.key(0), x)["params"]
  dense = layers.Head(600).init(jax.random.key(0), jnp.zeros((1, 100)), False)["params"]
  for params, fan_in in ((conv, 9 * 16), (dense, 100)):
    for value in params.values():
      bound = 1 / np.sqrt(fan_in)
      assert 0.9 * bound < abs(value).max() <= bound
      assert value.std() == pytest.approx(bound / np.sqrt(3), rel=0.15)
  normal = layers.Head(600, "normal").init(jax.random.key(0), jnp.zeros((1, 100)), False)["params"]
  assert normal["kernel"].std() == pytest.approx(0.001, rel=0.05)
  assert not normal["bias"].any()


def test_bfloat16_computes_narrow_and_keeps_wide():
  x = jax.random.normal(jax.random.key(0), (4, 4, 4, 3))
  for layer in (layers.Conv(2, dtype=jnp.bfloat16), layers.Dense(2, dtype=jnp.bfloat16)):
    inputs = x if isinstance(layer, layers.Conv) else x[:, 0, 0]
    y, variables = layer.init_with_output(jax.random.key(0), inputs)
    assert y.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    np.testing.assert_allclose(y.astype(jnp.float32), type(layer)(2).apply(variables, inputs), atol=0.05)
  norm = layers.BatchNorm(dtype=jnp.bfloat16)
  y, variables = norm.init_with_output(jax.random.key(0), x.astype(jnp.bfloat16), True)
  assert y.dtype == jnp.bfloat16
  assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
  assert layers.GlobalPool().apply({}, x.astype(jnp.bfloat16), False).dtype == jnp.float32


def test_transposed_convolution_spreads_every_cell_by_the_kernel():
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2, 3, 4, 3)).astype(np.float32)
  for size, strides, padding in ((4, 2, 1), (3, 1, 1), (4, 1, 0)):
    layer = layers.ConvTranspose(2, size, strides, padding)
    params = layer.init(jax.random.key(0), x)["params"]
    bound = 1 / np.sqrt(2 * size * size)  # PyTorch counts a transposed kernel's outputs as its fan-in
    assert 0.8 * bound < np.abs(params["kernel"]).max() <= bound and np.abs(params["bias"]).max() <= bound
    height, width = 2 * strides + size, 3 * strides + size
    want = np.zeros((2, height, width, 2))
    for i, j, a, b in np.ndindex(3, 4, size, size):
      want[:, i * strides + a, j * strides + b] += x[:, i, j].astype(np.float64) @ np.asarray(params["kernel"])[a, b].T
    want = want[:, padding:height - padding, padding:width - padding] + np.asarray(params["bias"])
    np.testing.assert_allclose(layer.apply({"params": params}, x), want, atol=1e-5)
  assert layers.ConvTranspose(2, 4, 2, 1, jnp.bfloat16).apply({"params": params}, x).dtype == jnp.bfloat16
