import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dgjax import ops

CASES = [((9, 8), (3, 3), (2, 2), ((1, 1), (1, 1))), ((8, 8), (2, 2), (2, 2), "VALID"),
         ((9, 10), (3, 2), (1, 3), ((1, 0), (0, 1))), ((7, 9), (2, 3), (3, 2), "SAME")]


def same(ours, theirs, tolerance=1e-6):
  for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
    assert a.shape == b.shape and a.dtype == b.dtype
    np.testing.assert_allclose(np.asarray(a, np.float64), np.asarray(b, np.float64), rtol=tolerance, atol=tolerance)


def cubes(f):
  return jax.grad(lambda x: (f(x).astype(jnp.float32) ** 3).sum())


def distinct(shape):
  return jnp.asarray(np.random.default_rng(0).permutation(np.prod(shape)).reshape(shape) * 0.01, jnp.float32)


@pytest.mark.parametrize("size, window, strides, padding, dtype",
                         [*((*case, "float32") for case in CASES), (*CASES[0], "bfloat16")])
def test_as_lax_with_ties(backend, size, window, strides, padding, dtype):
  x = jnp.asarray(np.random.default_rng(0).integers(-3, 3, (2, *size, 70)) / 2, dtype)
  ours, theirs = (lambda x, op=op: op(x, window, strides, padding) for op in (ops.max_pool, nn.max_pool))
  same(jax.jit(ours)(x), jax.jit(theirs)(x))
  same(jax.jit(cubes(ours))(x), jax.jit(cubes(theirs))(x), 1e-6 if dtype == "float32" else 2e-2)
  ours, theirs = (jax.jit(jax.vmap(cubes(f), 3))(jnp.stack([x, -x], 3)) for f in (ours, theirs))
  same(ours, theirs, 1e-6 if dtype == "float32" else 2e-2)


@pytest.mark.parametrize("size, window, strides, padding", CASES)
def test_derivatives_of_any_order(backend, size, window, strides, padding):
  x = distinct((2, *size, 3))  # lax itself breaks ties differently from one order to the next
  ours, theirs = (lambda x, op=op: op(x, window, strides, padding) for op in (ops.max_pool, nn.max_pool))
  same(jax.jvp(ours, (x,), (x * x,)), jax.jvp(theirs, (x,), (x * x,)), 1e-5)
  def second(f):
    return jax.grad(lambda x: (cubes(f)(x) ** 2).sum())
  same(jax.jit(second(ours))(x), jax.jit(second(theirs))(x), 1e-4)
  def third(f):
    return jax.grad(lambda x: (second(f)(x) * x).sum())
  same(jax.jit(third(ours))(x), jax.jit(third(theirs))(x), 1e-3)


def test_the_first_maximum_by_loops(backend):
  x = np.random.default_rng(1).integers(0, 3, (1, 5, 4, 2)).astype(np.float32)
  dy = np.arange(1, 1 + 3 * 2 * 2, dtype=np.float32).reshape(1, 3, 2, 2)
  expected = np.zeros_like(x)
  for row, column, channel in itertools.product(range(3), range(2), range(2)):
    best, place = -np.inf, None
    for i, j in itertools.product(range(3), range(3)):
      h, w = 2 * row + i - 1, 2 * column + j - 1
      if 0 <= h < 5 and 0 <= w < 4 and x[0, h, w, channel] > best:
        best, place = x[0, h, w, channel], (h, w)
    expected[0, *place, channel] += dy[0, row, column, channel]
  _, pull = jax.vjp(lambda x: ops.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1))), jnp.asarray(x))
  np.testing.assert_array_equal(pull(jnp.asarray(dy))[0], expected)


def test_a_nan_is_seen(backend):
  x = distinct((1, 6, 6, 2)).at[0, 2, 3, 1].set(jnp.nan)
  for padding in ("VALID", "SAME"):
    y = ops.max_pool(x, (3, 3), (2, 2), padding)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(nn.max_pool(x, (3, 3), (2, 2), padding)))


def test_on_a_gpu_nothing_scatters(monkeypatch):
  """XLA has no deterministic scatter of a maximum's gradient, and refuses it under its flag for such operations."""
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  x = jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.bfloat16)
  for gradient in (cubes(lambda x: ops.max_pool(x, (3, 3), (2, 2), "SAME")),
                   jax.vmap(cubes(lambda x: ops.max_pool(x[None], (2, 2), (2, 2))))):
    assert "scatter" not in jax.jit(gradient).trace(x).lower(lowering_platforms=("cuda",)).as_text()


def test_other_types():
  x = distinct((1, 6, 6, 2))
  same(ops.max_pool(x.astype(jnp.float16), (2, 2), (2, 2)), nn.max_pool(x.astype(jnp.float16), (2, 2), (2, 2)))
