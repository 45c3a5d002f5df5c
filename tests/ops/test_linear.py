import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from dgjax import ops


def normal(seed, *shape, dtype=jnp.bfloat16):
  return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


def close(ours, theirs, tolerance=1e-2):
  for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
    assert a.shape == b.shape and a.dtype == b.dtype
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    np.testing.assert_allclose(a, b, atol=tolerance * (np.abs(b).max() + 1e-6), rtol=0)


def dense(op, **options):
  return lambda x, w: op(x, w, (((x.ndim - 1,), (0,)), ((), ())), **options)


def gradients(f):
  return jax.grad(lambda x, w: (f(x, w).astype(jnp.float32) ** 2).sum(), (0, 1))


def second(f):
  return jax.grad(lambda x, w: sum((g.astype(jnp.float32) ** 2).sum() for g in gradients(f)(x, w)), (0, 1))


@pytest.mark.parametrize("options", [{}, {"preferred_element_type": jnp.float32}])
@pytest.mark.parametrize("shape", [(5, 40), (3, 7, 40), (1, 1)])
def test_as_lax(backend, shape, options):
  x, w = normal(0, *shape), normal(1, shape[-1], 24)
  ours, theirs = dense(ops.dot_general, **options), dense(lax.dot_general, **options)
  close(jax.jit(ours)(x, w), theirs(x, w))
  close(jax.jit(gradients(ours))(x, w), gradients(theirs)(x, w))
  close(jax.jit(second(ours))(x, w), second(theirs)(x, w), 4e-2)  # rounded to bfloat16 between the orders


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0)])
def test_vmap(backend, axes):
  x, w = normal(0, *(4,) * (axes[0] == 0), 3, 7, 40), normal(1, *(4,) * (axes[1] == 0), 40, 24)
  for derived, tolerance in ((lambda f: f, 1e-2), (gradients, 1e-2), (second, 4e-2)):
    close(jax.jit(jax.vmap(derived(dense(ops.dot_general)), axes))(x, w),
          jax.vmap(derived(dense(lax.dot_general)), axes)(x, w), tolerance)


def test_what_is_not_ours_is_lax_s():
  x, w = normal(0, 5, 40, dtype=jnp.float32), normal(1, 40, 24, dtype=jnp.float32)
  assert "dgjax" not in str(jax.make_jaxpr(dense(ops.dot_general))(x, w))
  close(dense(ops.dot_general)(x, w), dense(lax.dot_general)(x, w))
