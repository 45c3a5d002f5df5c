import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import CLASSES, batch, both, make, plain_network, start

from dgjax.errors import UserError
from dgjax.ops.reversal import Ramp


def test_without_the_discriminator_it_is_erm():
  algorithm, plain = make("dan", adversarial_weight=0.0), make("aggregate")
  state, expected = start(algorithm), start(plain)
  state = state.replace(params={**state.params, "network": expected.params["network"]})
  for i in range(3):
    state, _ = jax.jit(algorithm.update)(state, batch(i))
    expected, _ = jax.jit(plain.update)(expected, batch(i))
  for got, want in zip(jax.tree.leaves(state.params["network"]), jax.tree.leaves(expected.params["network"]),
                       strict=True):
    np.testing.assert_array_equal(got, want)


def test_the_trunk_ascends_what_the_discriminator_descends():
  """Trunk: label gradient - weight * coefficient * domain gradient; discriminator: weight * domain gradient."""
  weight, step = 0.5, jnp.int32(30)
  algorithm = make("dan", adversarial_weight=weight, hidden=(8,), ramp=Ramp(slope=2.0, length=40.0, delay=10.0))
  state, b = start(algorithm).replace(step=step), batch()
  coefficient = 2 / (1 + np.exp(-2.0 * (30 - 10) / 40)) - 1

  def domain_loss(params):
    embedding, _ = algorithm.forward(params, state, b["image"], jax.random.key(0), stop="fc")
    logits = algorithm.discriminator.apply({"params": params["discriminator"]}, embedding)
    return -jnp.mean(jax.nn.log_softmax(logits)[np.arange(16), b["domain"]])

  def grads(loss):
    return jax.jit(jax.grad(loss))(state.params)

  got = grads(lambda params: algorithm.loss(params, state, b, jax.random.key(0))[0])
  label = grads(lambda params: make("aggregate").loss(params, state, b, jax.random.key(0))[0])
  domain = grads(domain_loss)
  for name in got:
    factor = weight if name == "discriminator" else -weight * coefficient
    for path, leaf in jax.tree_util.tree_leaves_with_path(got[name]):
      find = lambda tree, path=path: dict(jax.tree_util.tree_leaves_with_path(tree[name]))[path]  # noqa: B023, E731
      np.testing.assert_allclose(leaf, find(label) + factor * find(domain), atol=1e-5)


def close(a, b, **options):
  """Whether two pytrees hold nearly the same numbers."""
  assert jax.tree.structure(a) == jax.tree.structure(b)
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    np.testing.assert_allclose(x, y, **options)


def grads_of(algorithm, state, b):
  return jax.jit(jax.grad(lambda params: algorithm.loss(params, state, b, jax.random.key(0))[0]))(state.params)


@pytest.mark.parametrize("name,weights", [
    ("dann", {"adversarial_weight": 0.0}), ("mstn", {"adversarial_weight": 0.0, "semantic_weight": 0.0}),
    ("wemnet", {"adversarial_weight": 0.0, "dim": False})])
def test_without_alignment_it_is_training_on_the_sources_alone(name, weights):
  algorithm, plain = (make(n, plain_network(), **w) for n, w in ((name, weights), ("aggregate", {})))
  state, b = start(algorithm).replace(step=jnp.int32(500)), both()
  expected = start(plain).replace(params={"network": state.params["network"]})
  grads = grads_of(algorithm, state, b)
  close(grads.pop("network"), grads_of(plain, expected, b["source"])["network"], atol=1e-6)
  assert not any(leaf.any() for leaf in jax.tree.leaves(grads))
  other = {"source": b["source"], "target": {"image": b["target"]["image"] * 3 + 1}}
  loss = jax.jit(lambda b: algorithm.loss(state.params, state, b, jax.random.key(0))[0])
  assert loss(b) == loss(other)


def test_dann_reverses_half_the_gradient_of_both_domains():
  weight, step = 0.5, 700
  algorithm = make("dann", plain_network(), adversarial_weight=weight, hidden=(8,))
  state, b = start(algorithm).replace(step=jnp.int32(step)), both()
  coefficient = 2 / (1 + np.exp(-step / 1000)) - 1  # TLL's

  def domain_loss(params):
    total = 0.0
    for part, domain in (("source", 1), ("target", 0)):
      features, _ = algorithm.forward(params, state, b[part]["image"], jax.random.key(0), stop="fc")
      p = jax.nn.sigmoid(algorithm.discriminate(params, features)[:, 0])
      total -= jnp.log(p if domain else 1 - p).mean() / 2
    return total

  label = grads_of(make("aggregate", plain_network()), state, b["source"])
  domain, got = jax.jit(jax.grad(domain_loss))(state.params), grads_of(algorithm, state, b)
  close(got["discriminator"], jax.tree.map(lambda x: weight * x, domain["discriminator"]), atol=1e-6)
  close(got["network"], jax.tree.map(lambda x, y: x - weight * coefficient * y, label["network"], domain["network"]),
        atol=1e-6)


def test_source_and_target_are_one_batch():
  algorithm, b = make("dann"), both()
  state = start(algorithm)
  after, _ = jax.jit(algorithm.update)(state, b)
  images = np.concatenate([b["source"]["image"], b["target"]["image"]])
  _, expected = jax.jit(algorithm.forward)(state.params, state, images, jax.random.key(0))
  close(after.batch_stats, expected, rtol=1e-5)


def test_ramps_over_the_run():
  whole = make("dann", ramp=Ramp(slope=10.0, length=0.0), steps=200)
  np.testing.assert_allclose(whole.coefficient(whole.ramp, jnp.int32(50)), 2 / (1 + np.exp(-2.5)) - 1, rtol=1e-5)
  unknown = make("dann", ramp=Ramp(length=0.0))
  with pytest.raises(UserError, match="whose length is not known"):
    unknown.coefficient(unknown.ramp, jnp.int32(1))


def test_mstn_moves_centroids_and_draws_them_together():
  """Two steps against a loop: by label in the sources, by prediction in the target, a gradient of 0.3 each."""
  algorithm = make("mstn", plain_network(), adversarial_weight=0.0, semantic_weight=2.0, hidden=(8,),
                   semantic_ramp=Ramp(slope=4.0, length=50.0))
  state = start(algorithm).replace(step=jnp.int32(20))
  assert jax.tree.map(lambda x: (x.shape, float(x.sum())), state.extra) == dict.fromkeys(
      ("source", "target"), ((CLASSES, 12), 0.0))
  state, _ = jax.jit(algorithm.update)(state, both(1))
  b, old = both(2), state.extra
  features, logits = (np.asarray(algorithm.forward(
      state.params, state, np.concatenate([b["source"]["image"], b["target"]["image"]]), jax.random.key(0),
      stop=stop)[0]) for stop in ("fc", None))
  new = {}
  for part, rows, labels in (("source", slice(0, 16), b["source"]["label"]),
                             ("target", slice(16, None), logits[16:].argmax(-1))):
    new[part] = np.array(old[part])
    for k in range(CLASSES):
      if (labels == k).any():
        new[part][k] = 0.7 * new[part][k] + 0.3 * features[rows][labels == k].mean(0)
  after, metrics = jax.jit(algorithm.update)(state, b)
  close(after.extra, new, rtol=1e-4, atol=1e-6)
  distance = np.mean((new["source"] - new["target"]) ** 2)
  np.testing.assert_allclose(metrics["semantic"], distance, rtol=1e-4)
  weight = 2.0 * (2 / (1 + np.exp(-4.0 * 21 / 50)) - 1)
  np.testing.assert_allclose(metrics["loss"], metrics["cross_entropy"] + weight * distance, rtol=1e-5)
  np.testing.assert_allclose(metrics["accuracy"], (logits[:16].argmax(1) == b["source"]["label"]).mean(), rtol=1e-6)
  told = np.asarray(algorithm.discriminate(state.params, features))[:, 0] > 0
  np.testing.assert_allclose(metrics["domain_accuracy"], (told[:16].mean() + (~told[16:]).mean()) / 2, rtol=1e-6)


def test_alignment_of_logits():
  algorithm = make("mstn", aligned="logits", hidden=())
  state = start(algorithm)
  assert state.params["discriminator"]["out"]["kernel"].shape == (CLASSES, 1)
  assert state.extra["target"].shape == (CLASSES, CLASSES)


@pytest.mark.parametrize("name,settings,message", [
    ("dann", {"aligned": "logit"}, r"algorithm.aligned is 'logit' \(did you mean 'logits'"),
    ("mstn", {"absent": "drop"}, "algorithm.absent is 'drop'"),
    ("mstn", {"momentum": 1.0}, "algorithm.momentum is 1.0"),
    ("wemnet", {"base": "adda"}, "algorithm.base is 'adda'"),
    ("wemnet", {"reversal": "befor"}, r"algorithm.reversal is 'befor' \(did you mean 'before'"),
    ("wemnet", {"hidden": (8,)}, "DIM takes its mask from a linear discriminator"),
    ("wemnet", {"aligned": "logits"}, "the masks are of features")])
def test_settings_that_do_not_fit(name, settings, message):
  with pytest.raises(UserError, match=message):
    make(name, **settings)
