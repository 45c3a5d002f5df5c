import jax
import jax.numpy as jnp
import numpy as np

from dgjax.ops.reversal import Ramp, reverse_gradient


def test_reversal_is_the_identity_with_a_negative_gradient():
  x = jnp.array([1.0, -2.0, 3.0])
  np.testing.assert_array_equal(reverse_gradient(x, jnp.float32(0.3)), x)
  by_x, by_coefficient = jax.grad(lambda x, c: (reverse_gradient(x, c) ** 2).sum(), (0, 1))(x, jnp.float32(0.3))
  np.testing.assert_allclose(by_x, -0.3 * 2 * x, rtol=1e-6)
  assert by_coefficient == 0


def test_reversal_keeps_the_type():
  x = jnp.ones(2, jnp.bfloat16)
  assert jax.grad(lambda x: reverse_gradient(x, jnp.float32(1)).sum().astype(jnp.float32))(x).dtype == jnp.bfloat16


def test_ramp_is_the_published_schedule():
  ramp = Ramp(slope=15.0, length=50_000.0, delay=2_000.0)
  for step in (0, 1999, 2000, 5000, 27_000, 52_000, 200_000):
    p = max(step - 2000, 0) / 50_000
    np.testing.assert_allclose(ramp(jnp.int32(step)), 2 / (1 + np.exp(-15 * p)) - 1, atol=1e-6)
