import jax.numpy as jnp
import numpy as np
import pytest

from dgjax.algorithms.ensembles import ensemble


def softmax(x):
  e = np.exp(x - x.max())
  return e / e.sum()


def test_rules_against_loops():
  members = np.random.default_rng(0).normal(size=(3, 5, 4)).astype(np.float32)
  domain = np.array([2, 0, 1, 1, 0])
  out = ensemble(jnp.asarray(members), jnp.asarray(domain))
  for b in range(5):
    logits = sum(members[d, b] for d in range(3)) / 3
    probs = sum(softmax(members[d, b]) for d in range(3)) / 3
    np.testing.assert_allclose(out["pred_ens"][b], logits, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(np.exp(out["prob_ens"][b]), probs, rtol=1e-5)
    np.testing.assert_array_equal(out["known"][b], members[domain[b], b])
  np.testing.assert_array_equal(out["member/1"], members[1])


def test_an_unseen_domain_has_no_known_member():
  assert "known" not in ensemble(jnp.zeros((2, 3, 4)))


@pytest.mark.parametrize("rule", ["pred_ens", "prob_ens"])
def test_one_member_is_its_own_ensemble(rule):
  member = jnp.asarray(np.random.default_rng(1).normal(size=(1, 3, 4)), jnp.float32)
  np.testing.assert_array_equal(ensemble(member)[rule].argmax(-1), member[0].argmax(-1))
