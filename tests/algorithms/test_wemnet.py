"""Section by section what WEMNet asks of its masks, modules and gradients, against plain loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import CLASSES, both, make, plain_network, start

from dgjax.algorithms import defaults
from dgjax.algorithms.wemnet import class_masks, domain_error, weight_mask
from dgjax.errors import UserError
from dgjax.models.network import Network
from dgjax.ops.reversal import Ramp

RNG = np.random.default_rng(0)
STEP = 700


def sigmoid(x):
  return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


def loop_mask(kernel):
  """Eq. 1 and 2, or 5 and 6."""
  features, outputs = kernel.shape
  mask = np.zeros((outputs, features))
  for c in range(outputs):
    threshold = sum(sigmoid(abs(kernel[h, c])) for h in range(features)) / features
    for h in range(features):
      mask[c, h] = sigmoid(abs(kernel[h, c])) > threshold
  return mask


def ready(network=None, step=STEP, **settings):
  """A method and a state well into the reversal's schedule."""
  algorithm = make("wemnet", network or plain_network(), **settings)
  return algorithm, start(algorithm).replace(step=jnp.int32(step))


def parts(algorithm, state, b):
  """Both terms of the loss, as functions of the parameters."""
  def term(name):
    return lambda params: algorithm.loss(params, state, b, jax.random.key(0))[1][1][name]
  return term("cross_entropy"), term("domain_cross_entropy")


def nothing(tree):
  return not any(leaf.any() for leaf in jax.tree.leaves(tree))


def linear(params, x):
  return x @ np.asarray(params["kernel"]) + np.asarray(params["bias"])


@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0])
@pytest.mark.parametrize("outputs", [1, 5])
def test_masks_against_a_loop(scale, outputs):
  kernel = (RNG.normal(size=(24, outputs)) * scale).astype(np.float32)
  mask = weight_mask(jnp.asarray(kernel))
  assert mask.shape == (outputs, 24) and mask.dtype == jnp.float32
  # beside the threshold single and double precision may differ
  sure = np.abs(sigmoid(np.abs(kernel)) - sigmoid(np.abs(kernel)).mean(0)).T > 1e-6
  assert sure.mean() > 0.9 and np.array_equal(np.asarray(mask)[sure], loop_mask(kernel)[sure])
  assert scale > 1 or 0.2 < mask.mean() < 0.8


def test_the_sigmoid_is_part_of_the_mask():
  kernel = np.float32([[0.1], [0.2], [2.0], [9.0]])  # the mean of |w| is 2.8, but 2.0 counts
  assert weight_mask(kernel).tolist() == [[0, 0, 1, 1]]
  assert weight_mask(-kernel).tolist() == [[0, 0, 1, 1]]


@pytest.mark.parametrize("value", [0.0, 0.1, -0.3, 1e-6, 50.0])
@pytest.mark.parametrize("features", [3, 10, 257])
def test_equal_weights_are_no_mask(value, features):
  assert nothing(weight_mask(jnp.full((features, 2), value)))


def test_masks_get_no_gradient():
  assert nothing(jax.grad(lambda kernel: weight_mask(kernel).sum())(jnp.asarray(RNG.normal(size=(6, 2)))))
  with pytest.raises(ValueError, match="need a kernel"):
    weight_mask(jnp.zeros(3))


def test_masks_of_examples_against_a_loop():
  mask = (RNG.random((3, 7)) > 0.5).astype(np.float32)
  labels, p = np.array([2, 0]), RNG.dirichlet(np.ones(3), 4).astype(np.float32)
  got = class_masks(jnp.asarray(mask), labels, p)
  expected = np.zeros((6, 7))
  for i, label in enumerate(labels):
    for c in range(3):
      expected[i] += mask[c] * (label == c)
  for i in range(4):
    for c in range(3):
      expected[2 + i] += mask[c] * p[i, c]
  np.testing.assert_allclose(got, expected, rtol=1e-5)
  assert got.min() >= 0 and got.max() <= 1 + 1e-6


def test_the_whole_loss_against_loops():
  algorithm, state = ready(adversarial_weight=0.6)
  b, params = both(), jax.device_get(state.params)
  features, total_cls, total_source, total_target = {}, 0.0, 0.0, 0.0
  for part in ("source", "target"):
    features[part] = np.asarray(algorithm.forward(params, state, b[part]["image"], jax.random.key(0), stop="fc")[0])
  head, disc = params["network"]["fc"]["Dense_0"], params["discriminator"]["out"]
  domain, classes = loop_mask(disc["kernel"])[0], loop_mask(head["kernel"])

  def logits(f):  # Eq. 3
    code = linear(params["dim"]["encoder"], f) * domain
    return linear(head, f - linear(params["dim"]["decoder"], code))

  def score(f, mask):  # Eq. 9
    code = linear(params["sem"]["encoder"], f) * mask
    return sigmoid(linear(disc, f + linear(params["sem"]["decoder"], code))[0])

  for f, label in zip(features["source"], b["source"]["label"], strict=True):
    z = logits(f)
    total_cls -= (z[label] - np.log(np.exp(z).sum())) / 16  # Eq. 4
    total_source -= np.log(score(f, classes[label])) / 16  # Eq. 10
  for f in features["target"]:
    z = np.exp(logits(f))
    total_target -= np.log(1 - score(f, z / z.sum() @ classes)) / 12
  _, (_, metrics) = jax.jit(algorithm.loss)(state.params, state, b, jax.random.key(0))
  np.testing.assert_allclose(metrics["cross_entropy"], total_cls, rtol=1e-4)
  np.testing.assert_allclose(metrics["domain_cross_entropy"], (total_source + total_target) / 2, rtol=1e-4)
  np.testing.assert_allclose(metrics["loss"], total_cls + 0.6 * (total_source + total_target) / 2, rtol=1e-4)


def test_who_learns_from_which_term():
  algorithm, state = ready()
  classify, confuse = parts(algorithm, state, both())
  by_class, by_domain = (jax.jit(jax.grad(term))(state.params) for term in (classify, confuse))
  assert nothing(by_class["discriminator"]) and nothing(by_class["sem"]) and not nothing(by_class["dim"])
  assert nothing(by_domain["network"]["fc"]) and nothing(by_domain["dim"]) and not nothing(by_domain["sem"])
  for grads in (by_class, by_domain):
    assert not nothing(grads["network"]["hidden"])


def test_modules_that_add_nothing_leave_dann():
  algorithm, state = ready()
  zeros = jax.tree.map(jnp.zeros_like, {name: state.params[name] for name in ("dim", "sem")})
  dann = make("dann", plain_network(), hidden=())
  params = {name: state.params[name] for name in ("network", "discriminator")}
  b, key = both(), jax.random.key(0)
  loss, (_, metrics) = algorithm.loss({**params, **zeros}, state, b, key)
  expected, (_, expected_metrics) = dann.loss(params, state.replace(params=params), b, key)
  assert loss == expected and metrics == expected_metrics
  grads = jax.jit(jax.grad(lambda params: algorithm.loss({**params, **zeros}, state, b, key)[0]))(params)
  expected = jax.jit(jax.grad(lambda params: dann.loss(params, state.replace(params=params), b, key)[0]))(params)
  for x, y in zip(jax.tree.leaves(grads), jax.tree.leaves(expected), strict=True):
    np.testing.assert_allclose(x, y, atol=1e-7)


def test_modules_do_not_start_at_zero():
  _, state = ready()
  bound = 1 / np.sqrt(12)
  for module in ("dim", "sem"):
    for layer in ("encoder", "decoder"):
      kernel = state.params[module][layer]["kernel"]
      assert kernel.shape == (12, 12) and 0.9 * bound < jnp.abs(kernel).max() <= bound


@pytest.mark.parametrize("dim,sem", [(True, False), (False, True), (False, False)])
def test_each_module_alone(dim, sem):
  """Table 3: without DIM the classifier sees f, without SEM the discriminator does."""
  algorithm, state = ready(dim=dim, sem=sem)
  assert {"dim", "sem"} & state.params.keys() == {name for name, on in (("dim", dim), ("sem", sem)) if on}
  b, params = both(), {name: state.params[name] for name in ("network", "discriminator")}
  dann = make("dann", plain_network(), hidden=())
  _, (_, metrics) = jax.jit(algorithm.loss)(state.params, state, b, jax.random.key(0))
  _, (_, plain) = jax.jit(dann.loss)(params, state.replace(params=params), b, jax.random.key(0))
  assert (metrics["cross_entropy"] == plain["cross_entropy"]) == (not dim)
  assert (metrics["domain_cross_entropy"] == plain["domain_cross_entropy"]) == (not sem)


def test_sem_helps_the_discriminator_or_fights_it():
  """Reversed before SEM, its gradient is the discriminator's; after it, that is turned around."""
  grads = {}
  for reversal in ("before", "after"):
    algorithm, state = ready(reversal=reversal)
    grads[reversal] = jax.jit(jax.grad(parts(algorithm, state, both())[1]))(state.params)
  coefficient = 2 / (1 + np.exp(-STEP / 1000)) - 1
  for name, factor in (("sem", -coefficient), ("discriminator", 1.0), ("network", 1.0)):
    for x, y in zip(jax.tree.leaves(grads["after"][name]), jax.tree.leaves(grads["before"][name]), strict=True):
      np.testing.assert_allclose(x, factor * y, atol=1e-6)


def test_prediction_is_without_the_domains_part():
  algorithm, state = ready()
  images = both()["target"]["image"]
  features = algorithm.evaluate(state, images, stop="fc")
  expected = algorithm.evaluate(state, algorithm.ignore_domain(state.params, features), start="fc")
  np.testing.assert_array_equal(algorithm.predict(state, images), expected)
  assert (algorithm.predict(state, images) != algorithm.evaluate(state, images)).any()


def test_on_mstn_the_centroids_are_of_features():
  algorithm, state = ready(base="mstn", semantic_ramp=Ramp(slope=10.0, length=1000.0))
  assert state.extra["source"].shape == (CLASSES, 12)
  after, metrics = jax.jit(algorithm.update)(state, both())
  assert after.extra["source"].any() and metrics["semantic"] > 0
  alone, without = ready()
  after, metrics = jax.jit(alone.update)(without, both())
  assert after.extra == {} and "semantic" not in metrics


def test_the_domain_error_and_its_measures():
  logits = RNG.normal(size=9).astype(np.float32) * 4
  np.testing.assert_allclose(domain_error(logits), [100 * abs(sigmoid(x) - 0.5) for x in logits], rtol=1e-4, atol=1e-4)
  algorithm, state = ready()
  images = both()["target"]["image"]
  errors = algorithm.domain_errors(state, images)
  f = algorithm.evaluate(state, images, stop="fc")
  for name, features in (("with", f), ("without", algorithm.ignore_domain(state.params, f))):
    np.testing.assert_allclose(errors[name], domain_error(algorithm.discriminate(state.params, features)[:, 0]))
  assert errors["with"].shape == (12,) and (errors["with"] != errors["without"]).any()


def test_defaults():
  settings = defaults("wemnet")
  assert (settings["adversarial_weight"], settings["hidden"], settings["reversal"]) == (1.0, (), "before")
  assert settings["ramp"] == {"slope": 1.0, "length": 1000.0, "delay": 0.0}


def test_a_network_without_one_linear_layer_at_its_end_is_refused():
  network = plain_network()
  headless = Network(stages=network.stages[:1], masked={}, features="flatten")
  with pytest.raises(UserError, match="whose last stage is one linear layer"):
    make("wemnet", headless).classifier_kernel({"network": {"flatten": {}}})
