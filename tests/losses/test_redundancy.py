import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from dgjax.errors import UserError
from dgjax.losses.redundancy import covariance, double_soft_orthogonality

RNG = np.random.default_rng(0)


def loop_orthogonality(w):
  """Both products entry by entry, the large one too."""
  total = 0.0
  for matrix in (w.T, w):
    for i in range(len(matrix)):
      for j in range(len(matrix)):
        total += (sum(a * b for a, b in zip(matrix[i], matrix[j], strict=True)) - (i == j)) ** 2
  return total


@pytest.mark.parametrize("shape", [(2, 3, 2, 5), (7, 3), (3, 7), (4, 4)])
def test_orthogonality_is_both_products_against_the_identity(shape):
  kernel = RNG.normal(size=shape).astype(np.float32)
  expected = loop_orthogonality(kernel.reshape(-1, shape[-1]).astype(np.float64))
  np.testing.assert_allclose(double_soft_orthogonality(kernel), expected, rtol=1e-5)


def test_orthogonal_filters_leave_the_difference_of_the_sizes():
  kernel = np.linalg.qr(RNG.normal(size=(50, 8)))[0].astype(np.float32)
  value, gradient = jax.value_and_grad(double_soft_orthogonality)(kernel)
  np.testing.assert_allclose(value, 42, rtol=1e-6)
  np.testing.assert_allclose(gradient, 0, atol=1e-5)


def test_the_large_product_is_never_made():
  compiled = jax.jit(jax.grad(double_soft_orthogonality)).lower(jnp.zeros((5, 5, 64, 16))).compile()
  assert compiled.memory_analysis().temp_size_in_bytes < 4 * 1600 * 16 * 4 < 1600 * 1600 * 4


def loop_covariance(rows):
  """DeCov, covariance by covariance."""
  mean = [sum(row[c] for row in rows) / len(rows) for c in range(rows.shape[1])]
  total = 0.0
  for i in range(rows.shape[1]):
    for j in range(rows.shape[1]):
      if i != j:
        total += (sum((row[i] - mean[i]) * (row[j] - mean[j]) for row in rows) / len(rows)) ** 2
  return total / 2


def test_covariance_of_positions_and_of_means():
  x = (RNG.normal(size=(3, 2, 4, 5)) + 2).astype(np.float32)
  wide = x.astype(np.float64)
  np.testing.assert_allclose(covariance(x), loop_covariance(wide.reshape(-1, 5)), rtol=1e-4)
  np.testing.assert_allclose(covariance(x, "means"), loop_covariance(wide.mean((1, 2))), rtol=1e-4)
  np.testing.assert_allclose(covariance(x[:, 0, 0]), loop_covariance(wide[:, 0, 0]), rtol=1e-4)
  assert covariance(jnp.asarray(x, jnp.bfloat16)).dtype == jnp.float32


def test_one_channel_and_one_sample_have_no_covariance():
  assert covariance(RNG.normal(size=(4, 2, 2, 1))) == 0 and covariance(RNG.normal(size=(1, 3))) == 0


def test_gradients():
  kernel = RNG.normal(size=(2, 2, 2, 3)).astype(np.float32)
  maps = RNG.normal(size=(3, 2, 2, 4)).astype(np.float32)
  for loss, x in ((double_soft_orthogonality, kernel), (covariance, maps), (lambda x: covariance(x, "means"), maps)):
    check_grads(loss, (x,), order=1, modes=["rev"], atol=1e-2, rtol=1e-2, eps=1e-2)


def test_wrong_settings_and_shapes_are_told():
  with pytest.raises(UserError, match=r"'position' \(did you mean 'positions'\?\)"):
    covariance(jnp.zeros((2, 3)), "position")
  with pytest.raises(ValueError, match="filters"):
    double_soft_orthogonality(jnp.zeros(3))
