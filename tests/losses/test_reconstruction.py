import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dgjax.losses.reconstruction import mean_squared_error, to_tanh_range


def test_normalised_images_come_back_to_minus_one_to_one():
  pixels = np.random.default_rng(0).uniform(size=(2, 4, 4, 3)).astype(np.float32)
  pixels[0, 0, 0], pixels[1, 2, 3] = 0, 1
  for images in (pixels, (pixels - 0.5) / 0.25, 2 * pixels - 1):
    np.testing.assert_allclose(to_tanh_range(images), 2 * pixels - 1, atol=1e-6)


def test_images_of_one_value_stay_finite():
  assert np.isfinite(to_tanh_range(jnp.full((2, 3), 7.0))).all()


def test_mean_squared_error_and_its_gradient():
  rng = np.random.default_rng(0)
  a, b = rng.normal(size=(2, 2, 3, 3, 2)).astype(np.float32)
  expected = sum((x - y) ** 2 for x, y in zip(a.ravel().tolist(), b.ravel().tolist(), strict=True)) / a.size
  value, gradient = jax.value_and_grad(mean_squared_error)(a, b)
  np.testing.assert_allclose(value, expected, rtol=1e-5)
  np.testing.assert_allclose(gradient, 2 * (a - b) / a.size, rtol=1e-5)
  assert mean_squared_error(jnp.asarray(a, jnp.bfloat16), b).dtype == jnp.float32


def test_shapes_that_would_broadcast_are_refused():
  with pytest.raises(ValueError, match="targets"):
    mean_squared_error(jnp.zeros((2, 3)), jnp.zeros((2, 1)))
