import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from dgjax.losses.classification import cross_entropies, cross_entropy, smoothed_cross_entropies

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(6, 4)).astype(np.float32)
LABELS = RNG.integers(0, 4, 6).astype(np.int32)


def softmax(row):
  total = sum(math.exp(x) for x in row)
  return [math.exp(x) / total for x in row]


def test_cross_entropy_is_the_mean_negative_log_probability():
  expected = sum(-math.log(softmax(row)[y]) for row, y in zip(LOGITS.tolist(), LABELS, strict=True)) / 6
  np.testing.assert_allclose(cross_entropy(jnp.asarray(LOGITS), LABELS), expected, rtol=1e-5)


def test_cross_entropy_of_bfloat16_logits_is_computed_in_float32():
  logits = jnp.asarray(LOGITS).astype(jnp.bfloat16)
  assert cross_entropy(logits, LABELS).dtype == jnp.float32
  np.testing.assert_allclose(cross_entropy(logits, LABELS), cross_entropy(logits.astype(jnp.float32), LABELS))


def test_cross_entropy_stays_finite_for_large_logits():
  value, grad = jax.value_and_grad(cross_entropy)(1e4 * jnp.asarray(LOGITS), LABELS)
  assert np.isfinite(value) and np.isfinite(grad).all()


def test_cross_entropy_gradient():
  check_grads(lambda x: cross_entropy(x, LABELS), (jnp.asarray(LOGITS),), order=1, modes=["rev"],
              atol=1e-2, rtol=1e-2, eps=1e-2)
  probs = np.array([softmax(row) for row in LOGITS.tolist()])
  grad = jax.grad(cross_entropy)(jnp.asarray(LOGITS), LABELS)
  np.testing.assert_allclose(grad, (probs - np.eye(4)[LABELS]) / 6, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("logits, labels", [((6, 4), (5,)), ((3, 6, 4), (6,)), ((6, 4), (6, 1))])
def test_cross_entropy_refuses_shapes_that_would_broadcast(logits, labels):
  with pytest.raises(ValueError, match="labels"):
    cross_entropy(jnp.zeros(logits), jnp.zeros(labels, jnp.int32))


def test_smoothing_spreads_over_the_other_classes():
  for i, loss in enumerate(smoothed_cross_entropies(jnp.asarray(LOGITS), LABELS, 0.1)):
    target = [0.9 if c == LABELS[i] else 0.1 / 3 for c in range(4)]
    expected = -sum(t * math.log(p) for t, p in zip(target, softmax(LOGITS[i].tolist()), strict=True))
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
  np.testing.assert_array_equal(smoothed_cross_entropies(LOGITS, LABELS, 0.0), cross_entropies(LOGITS, LABELS))
  check_grads(lambda x: smoothed_cross_entropies(x, LABELS, 0.1).sum(), (jnp.asarray(LOGITS),), order=1, modes=["rev"],
              atol=1e-2, rtol=1e-2, eps=1e-2)
