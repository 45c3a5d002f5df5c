import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from dgjax import ops
from dgjax.ops import convolution, winograd

GEOMETRY = {"strides": (1, 1), "dilation": (1, 1), "groups": 1}


def noise(seed, *shape):
  return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("m, r", [(2, 3), (3, 3), (4, 3), (2, 5)])
def test_one_tile_is_the_plain_sum(m, r):
  """A^T [(G w) * (B^T x)] of one dimension."""
  a, g, b = winograd.matrices(m, r)
  x, w = noise(0, m + r - 1), noise(1, r)
  plain = [sum(x[i + k] * w[k] for k in range(r)) for i in range(m)]
  np.testing.assert_allclose(a @ ((g @ w) * (b @ x)), plain, rtol=1e-12)


@pytest.mark.parametrize("r, size, padding, m", [
    (3, (4, 4), ((1, 1), (1, 1)), 4), (3, (3, 6), ((1, 1), (1, 1)), 3), (3, (2, 2), ((1, 1), (1, 1)), 2),
    (3, (7, 5), ((0, 2), (1, 0)), 4), (3, (5, 8), ((0, 0), (-1, 2)), 4), (5, (6, 7), ((2, 2), (0, 3)), 2)])
def test_both_maps_are_the_plain_loops(r, size, padding, m):
  x, w = noise(0, 2, *size, 3), noise(1, r, r, 3, 4)
  padded = np.zeros((2, *(n + low + high for n, (low, high) in zip(size, padding, strict=True)), 3))
  (top, _), (left, _) = padding
  for i, j in itertools.product(*map(range, padded.shape[1:3])):
    if 0 <= i - top < size[0] and 0 <= j - left < size[1]:
      padded[:, i, j] = x[:, i - top, j - left]
  height, width = (n - r + 1 for n in padded.shape[1:3])
  assert winograd.tile((height, width), r) == m
  y, dy, dw = np.zeros((2, height, width, 4)), noise(2, 2, height, width, 4), np.zeros(w.shape)
  for i, j, k, n in itertools.product(range(height), range(width), range(r), range(r)):
    y[:, i, j] += padded[:, i + k, j + n] @ w[k, n]
    dw[k, n] += padded[:, i + k, j + n].T @ dy[:, i, j]
  x, w, dy = (jnp.asarray(value, jnp.float32) for value in (x, w, dy))
  np.testing.assert_allclose(winograd.forward(x, w, padding), y, atol=1e-5 * np.abs(y).max())
  np.testing.assert_allclose(winograd.filter_gradient(x, dy, r, padding), dw, atol=1e-5 * np.abs(dw).max())


@pytest.mark.parametrize("r, sides, expected", [
    (3, (24, 24), 4), (3, (6, 6), 3), (3, (3, 3), 3), (3, (2, 2), 2), (3, (7, 7), 4), (5, (24, 24), 2)])
def test_a_tile_is_chosen_for_the_fewest_products(r, sides, expected):
  assert winograd.tile(sides, r) == expected
  assert winograd.tiles((5, *sides, 1), r) == 5 * -(-sides[0] // expected) * -(-sides[1] // expected)


@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-5), ("bfloat16", 1e-2)])
def test_networks_take_it_in_all_passes(backend, monkeypatch, dtype, tolerance):
  """Forward and both gradients; under oneDNN in float32 alone, where it is the faster one."""
  monkeypatch.setattr(convolution, "WIDE", 1)
  monkeypatch.setattr(convolution, "TILES", 1)
  x, w = (jnp.asarray(a, dtype) for a in (noise(0, 2, 9, 8, 5), noise(1, 3, 3, 5, 6)))

  def passes(convolve, x, w, dy):
    y, pull = jax.vjp(lambda x, w: convolve(x, w, (1, 1), ((0, 2), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")),
                      x, w)
    return y, *pull(dy)

  dy = jnp.asarray(noise(2, 2, 9, 8, 6), dtype)
  lowered = jax.jit(lambda *args: passes(ops.conv_general_dilated, *args)).lower(x, w, dy)
  text = lowered.as_text()
  assert "stablehlo.convolution" not in text
  assert ("dgjax_native" in text) == (backend == "native" and dtype == "bfloat16")
  ours = lowered.compile()(x, w, dy)
  exact = passes(lax.conv_general_dilated, *(a.astype(jnp.float32) for a in (x, w, dy)))
  for mine, theirs in zip(ours, exact, strict=True):
    assert mine.dtype == dtype
    np.testing.assert_allclose(mine.astype(jnp.float32), theirs, atol=tolerance * float(jnp.abs(theirs).max()))


def test_gradients_of_images_of_few_results_are_taken_with_zeros_between_them(backend, monkeypatch):
  """With strides, of results of 2x2, where XLA is slow; an odd side leaves a last row that no result has seen."""
  monkeypatch.setattr(convolution, "WIDE", 1)
  monkeypatch.setattr(convolution, "TILES", 1)
  x, w = (jnp.asarray(a, jnp.float32) for a in (noise(0, 2, 5, 4, 5), noise(1, 3, 3, 5, 6)))
  gradient = {}
  for name, op in (("ours", ops.conv_general_dilated), ("lax", lax.conv_general_dilated)):
    def convolve(x, op=op):
      return op(x, w, (2, 2), ((0, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC"))
    dy = jnp.asarray(noise(2, *convolve(x).shape), jnp.float32)
    gradient[name] = jax.jit(lambda dy, f=convolve: jax.vjp(f, x)[1](dy)[0]).lower(dy)
  assert dy.shape == (2, 2, 2, 6)
  if backend == "xla":
    assert "stablehlo.convolution" not in gradient["ours"].as_text()
  ours, exact = (lowered.compile()(dy) for lowered in gradient.values())
  np.testing.assert_allclose(ours, exact, atol=1e-5 * float(jnp.abs(exact).max()))


@pytest.mark.parametrize("kernel, result, changed, suits", [
    ((3, 3, 64, 64), (2, 16, 16, 64), {}, True), ((3, 3, 64, 16), (2, 16, 16, 16), {}, False),
    ((3, 3, 512, 512), (8, 3, 3, 512), {}, False), ((3, 3, 512, 512), (16, 3, 3, 512), {}, True),
    ((3, 3, 512, 512), (1, 2, 2, 512), {}, True), ((3, 3, 512, 512), (64, 1, 1, 512), {}, False),
    ((5, 5, 64, 64), (2, 16, 16, 64), {}, True), ((7, 7, 64, 64), (2, 16, 16, 64), {}, False),
    ((3, 5, 64, 64), (2, 16, 16, 64), {}, False), ((3, 3, 64, 64), (2, 16, 16, 64), {"strides": (2, 1)}, False),
    ((3, 3, 64, 64), (2, 16, 16, 64), {"dilation": (1, 2)}, False),
    ((3, 3, 64, 64), (2, 16, 16, 64), {"groups": 2}, False)])
def test_which_convolutions_suit(kernel, result, changed, suits):
  assert convolution._suits_winograd(kernel, result, jnp.float32, **GEOMETRY | changed) is suits
