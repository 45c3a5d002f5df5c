import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from dgjax.losses.discrepancy import class_balance, discrepancy

RNG = np.random.default_rng(0)
FIRST, SECOND = (RNG.normal(size=(5, 4)).astype(np.float32) for _ in range(2))


def probabilities(row):
  e = [np.exp(float(x)) for x in row]
  return [x / sum(e) for x in e]


def test_discrepancy_is_the_mean_absolute_difference_of_probabilities():
  total = 0.0
  for a, b in zip(FIRST, SECOND, strict=True):
    for p, q in zip(probabilities(a), probabilities(b), strict=True):
      total += abs(p - q)
  np.testing.assert_allclose(discrepancy(FIRST, SECOND), total / 20, rtol=1e-5)
  assert discrepancy(jnp.asarray(FIRST, jnp.bfloat16), jnp.asarray(SECOND, jnp.bfloat16)).dtype == jnp.float32


def test_discrepancy_is_at_most_two_over_the_classes():
  far = 100 * np.eye(4, dtype=np.float32)
  np.testing.assert_allclose(discrepancy(far, far[::-1]), 2 / 4, rtol=1e-6)


def test_equal_heads_have_no_gradient():
  value, gradient = jax.value_and_grad(discrepancy)(FIRST, FIRST)
  assert value == 0 and not gradient.any()


def test_class_balance_against_loops():
  mean = [sum(probabilities(row)[c] for row in FIRST) / 5 for c in range(4)]
  expected = -sum(np.log(m + 1e-6) for m in mean) / 4
  np.testing.assert_allclose(class_balance(FIRST), expected, rtol=1e-5)


def test_class_balance_is_least_where_classes_are_even():
  np.testing.assert_allclose(class_balance(100 * np.eye(4, dtype=np.float32)), np.log(4), rtol=1e-4)
  assert class_balance(100 * np.eye(4, dtype=np.float32)[[0, 0, 0, 0]]) > 10


def test_class_balance_over_devices_is_that_of_the_whole_batch():
  halves = FIRST[:4].reshape(2, 2, 4)
  mean = lambda p: jax.lax.pmean(p, "data")  # noqa: E731
  got = jax.vmap(lambda half: class_balance(half, mean), axis_name="data")(halves)
  np.testing.assert_allclose(got, class_balance(FIRST[:4]), rtol=1e-6)


def test_gradients():
  for loss in (lambda x: discrepancy(x, SECOND), lambda x: discrepancy(FIRST, x), class_balance):
    check_grads(loss, (RNG.normal(size=(5, 4)).astype(np.float32),), order=1, modes=["rev"], atol=1e-2, rtol=1e-2,
                eps=1e-2)


def test_shapes_are_checked():
  with pytest.raises(ValueError, match=r"\(5, 4\), \(5, 3\)"):
    discrepancy(FIRST, SECOND[:, :3])
  with pytest.raises(ValueError, match="batch, classes"):
    class_balance(FIRST[0])
