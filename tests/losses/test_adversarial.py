import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dgjax.losses.adversarial import domain_cross_entropy


def test_against_a_loop():
  rng = np.random.default_rng(0)
  source, target = rng.normal(size=5) * 3, rng.normal(size=3) * 3
  total = 0.0
  for logit in source:
    total -= np.log(1 / (1 + np.exp(-logit))) / 5 / 2
  for logit in target:
    total -= np.log(1 - 1 / (1 + np.exp(-logit))) / 3 / 2
  np.testing.assert_allclose(domain_cross_entropy(jnp.float32(source), jnp.float32(target)), total, rtol=1e-5)


def test_ends_of_the_range():
  zero = jnp.zeros(4)
  np.testing.assert_allclose(domain_cross_entropy(zero, zero[:2]), np.log(2), rtol=1e-6)
  sure = jnp.full(4, 1e4)  # no overflow where the discriminator is sure
  assert domain_cross_entropy(sure, -sure) == 0 and jnp.isfinite(domain_cross_entropy(-sure, sure))
  assert domain_cross_entropy(sure.astype(jnp.bfloat16), zero).dtype == jnp.float32


def test_gradient_is_the_discriminators_error():
  source, target = jnp.float32([0.3, -1.0]), jnp.float32([2.0, 0.1, -0.4])
  by_source, by_target = jax.grad(domain_cross_entropy, (0, 1))(source, target)
  np.testing.assert_allclose(by_source, (jax.nn.sigmoid(source) - 1) / 4, rtol=1e-5)
  np.testing.assert_allclose(by_target, jax.nn.sigmoid(target) / 6, rtol=1e-5)


def test_shapes():
  with pytest.raises(ValueError, match="one logit an example"):
    domain_cross_entropy(jnp.zeros((4, 1)), jnp.zeros(4))
