import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from jax.test_util import check_grads

from dgjax.errors import UserError
from dgjax.losses.overlap import overlap, soft_iou, sparsity

PROBS = hnp.arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(1, 9)),
                   elements=st.floats(0, 1, width=32, allow_subnormal=False))


def loop_iou(probs):
  """Eq. 1, unit by unit."""
  pairs = []
  for i in range(len(probs)):
    for j in range(i + 1, len(probs)):
      both = either = 0.0
      for a, b in zip(probs[i].tolist(), probs[j].tolist(), strict=True):
        both += a * b
        either += a + b - a * b
      pairs.append((both + 1e-6) / (either + 1e-6))
  return pairs


def masks(domains=3, seed=0):
  rng = np.random.default_rng(seed)
  return {"layer4": jnp.asarray(rng.uniform(size=(domains, 7)), jnp.float32),
          "fc": jnp.asarray(rng.uniform(size=(domains, 11)), jnp.float32)}


@settings(deadline=None, max_examples=20)
@given(PROBS)
def test_soft_iou_is_eq_1(probs):
  found = soft_iou(jnp.asarray(probs))
  assert found.dtype == jnp.float32
  np.testing.assert_allclose(found, loop_iou(probs), rtol=1e-5)
  assert np.all((found > 0) & (found <= 1 + 1e-6))


def test_soft_iou_of_binary_masks_is_the_jaccard_coefficient():
  a, b = {0, 1, 2}, {2, 3}
  probs = jnp.array([[float(k in s) for k in range(6)] for s in (a, b)])
  np.testing.assert_allclose(soft_iou(probs), [len(a & b) / len(a | b)], rtol=1e-5)


def test_soft_iou_of_masks_that_are_off_everywhere_is_1():
  np.testing.assert_allclose(soft_iou(jnp.zeros((2, 5))), [1.0])
  assert np.isfinite(jax.grad(lambda m: soft_iou(m).sum())(jnp.zeros((2, 5)))).all()


def test_soft_iou_at_the_paper_initialisation():
  # Mask logits from U(0, 1): probabilities average 0.62; 0.62^2 / (2 * 0.62 - 0.62^2) = 0.45.
  logits = jax.random.uniform(jax.random.key(0), (3, 4096))
  np.testing.assert_allclose(soft_iou(jax.nn.sigmoid(logits)), 0.45, atol=0.01)


def test_soft_iou_computes_half_precision_masks_in_float32():
  probs = masks()["fc"].astype(jnp.bfloat16)
  assert soft_iou(probs).dtype == jnp.float32
  np.testing.assert_allclose(soft_iou(probs), loop_iou(np.asarray(probs, np.float32)), rtol=1e-5)


def test_soft_iou_refuses_other_shapes():
  with pytest.raises(ValueError, match=r"\(domains, units\)"):
    soft_iou(jnp.zeros(3))


@pytest.mark.parametrize("domains", [2, 3, 5])
def test_overlap_sums_layers_and_averages_or_sums_pairs(domains):
  probs = masks(domains)
  pairs = [loop_iou(np.asarray(p)) for p in probs.values()]
  np.testing.assert_allclose(overlap(probs), sum(sum(layer) / len(layer) for layer in pairs), rtol=1e-5)
  np.testing.assert_allclose(overlap(probs, "sum"), sum(sum(layer) for layer in pairs), rtol=1e-5)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_one_domain_has_no_overlap_and_no_gradient(reduction):
  value, grads = jax.value_and_grad(lambda m: overlap(m, reduction))(masks(1))
  assert value == 0 and all((g == 0).all() for g in grads.values())


def test_unknown_reduction_is_named():
  with pytest.raises(UserError, match=r"'men' \(did you mean 'mean'\?\)"):
    overlap(masks(), "men")


def test_sparsity_is_the_sum_of_all_probabilities():
  probs = masks()
  expected = sum(p for layer in probs.values() for row in np.asarray(layer).tolist() for p in row)
  np.testing.assert_allclose(sparsity(probs), expected, rtol=1e-5)


@pytest.mark.parametrize("loss", [overlap, lambda m: overlap(m, "sum"), sparsity])
def test_gradients_through_the_sigmoid(loss):
  logits = jax.tree.map(lambda p: 4 * p - 2, masks())
  check_grads(lambda x: loss(jax.tree.map(jax.nn.sigmoid, x)), (logits,), order=1, modes=["rev"],
              atol=1e-2, rtol=1e-2, eps=1e-2)


def test_gradient_of_soft_iou_in_closed_form():
  m = np.random.default_rng(1).uniform(size=(2, 6))
  # Quotient rule on Eq. 1: d(both)/dm_0 = m_1, d(either)/dm_0 = 1 - m_1.
  both, either = (m[0] * m[1]).sum() + 1e-6, (m[0] + m[1] - m[0] * m[1]).sum() + 1e-6
  expected = (m[1] * either - (1 - m[1]) * both) / either**2
  grad = jax.grad(lambda x: soft_iou(x)[0])(jnp.asarray(m, jnp.float32))
  np.testing.assert_allclose(grad[0], expected, rtol=1e-4)


@pytest.mark.parametrize("loss", [overlap, sparsity])
def test_jit_and_vmap_equal_one_at_a_time(loss):
  runs = [masks(seed=s) for s in range(3)]
  together = jax.jit(jax.vmap(loss))(jax.tree.map(lambda *x: jnp.stack(x), *runs))
  np.testing.assert_allclose(together, [loss(m) for m in runs], rtol=1e-5)
