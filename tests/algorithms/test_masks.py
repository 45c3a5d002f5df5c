import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dgjax import models
from dgjax.algorithms import masks
from dgjax.algorithms.masks import MaskSettings
from dgjax.errors import UserError

KEY = jax.random.key(0)


def test_straight_through_is_exact_in_value_and_passes_the_gradient():
  probs = jnp.array([0.1, 0.3, 0.50001, 0.999])
  hard = jnp.array([1.0, 0.0, 1.0, 0.0])
  np.testing.assert_array_equal(masks.straight_through(hard, probs), hard)
  weight = jnp.array([2.0, -1.0, 3.0, 0.5])
  gradient = jax.grad(lambda p: (weight * masks.straight_through(hard, p)).sum())(probs)
  np.testing.assert_array_equal(gradient, weight)  # that of the hard mask, handed on to the probabilities


def test_gradient_to_the_logits_is_that_of_the_probabilities():
  """d loss / d logit = d loss / d b * m (1 - m), in a plain loop (DMG, section 3.2)."""
  logits = {"fc": jnp.array([[0.3, -1.0, 0.0], [2.0, 0.1, -0.5]])}
  domain, weight = jnp.array([0, 1, 1, 0]), jnp.arange(12.0).reshape(4, 3)

  def loss(logits):
    gates = masks.training_gates(KEY, MaskSettings(), masks.probabilities(logits), domain)
    return (gates["fc"] * weight).sum()

  gradient = jax.grad(loss)(logits)["fc"]
  expected = np.zeros((2, 3))
  for i in range(4):
    for k in range(3):
      m = 1 / (1 + np.exp(-float(logits["fc"][domain[i], k])))
      expected[domain[i], k] += float(weight[i, k]) * m * (1 - m)
  np.testing.assert_allclose(gradient, expected, rtol=1e-5)


def test_each_example_draws_its_own_mask_with_its_domains_probability():
  probs = {"a": jnp.array([[0.0, 1.0, 0.2], [1.0, 0.0, 0.7]]), "b": jnp.full((2, 3), 0.5)}
  domain = jnp.repeat(jnp.array([0, 1]), 4000)
  drawn = masks.training_gates(KEY, MaskSettings(), probs, domain)
  assert set(np.unique(drawn["a"])) == {0.0, 1.0}
  np.testing.assert_allclose(drawn["a"][:4000].mean(0), probs["a"][0], atol=0.03)
  np.testing.assert_allclose(drawn["a"][4000:].mean(0), probs["a"][1], atol=0.03)
  assert not np.array_equal(drawn["b"][0::2], drawn["b"][1::2])
  assert abs(np.corrcoef(drawn["a"][:4000, 2], drawn["b"][:4000, 2])[0, 1]) < 0.05  # stages draw independently


def test_greedy_and_soft():
  probs, domain = {"a": jnp.array([[0.4, 0.5, 0.6]])}, jnp.array([0, 0])
  hard = masks.training_gates(KEY, MaskSettings(training="greedy"), probs, domain)["a"]
  np.testing.assert_array_equal(hard, [[0, 0, 1]] * 2)
  soft = masks.training_gates(KEY, MaskSettings(training="soft"), probs, domain)["a"]
  np.testing.assert_array_equal(soft, probs["a"][domain])


def test_initial_logits():
  widths = {"layer4": 5, "fc": 4000}
  drawn = masks.init_logits(KEY, MaskSettings(), widths, 3)
  assert {name: value.shape for name, value in drawn.items()} == {"layer4": (3, 5), "fc": (3, 4000)}
  assert 0 <= drawn["fc"].min() < 0.01 and 0.99 < drawn["fc"].max() <= 1
  assert not np.array_equal(drawn["fc"][0], drawn["fc"][1])
  constant = masks.init_logits(KEY, MaskSettings(init="constant", init_value=1.5), widths, 3)
  np.testing.assert_array_equal(constant["layer4"], np.full((3, 5), 1.5))


@pytest.mark.parametrize("network,placement,stages", [
    ("resnet18", "paper", ("layer4", "fc")), ("resnet50", "code", ("layer3", "layer4", "fc")),
    ("alexnet", "paper", ("classifier.1", "classifier.4", "classifier.6"))])
def test_placement(network, placement, stages):
  assert masks.masked_stages(models.build(models.defaults(network), 7), placement) == stages


def test_unknown_settings_name_the_key():
  with pytest.raises(UserError, match=r"masks\.placement is 'papr' \(did you mean 'paper'"):
    masks.masked_stages(models.build(models.defaults("resnet18"), 7), "papr")
  with pytest.raises(UserError, match=r"masks\.init is 'unifrm'"):
    MaskSettings(init="unifrm")
  with pytest.raises(UserError, match=r"masks\.training is 'hard'"):
    MaskSettings(training="hard")
