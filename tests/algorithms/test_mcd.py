import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import CLASSES, DOMAINS, Head, both, make, start, tiny_network
from linear import Flatten, softmax

from dgjax.errors import UserError
from dgjax.losses.moments import moment_distance, moments, official_moment_distance
from dgjax.models.network import Network
from dgjax.optimizers import Optimizer


def deep():
  """A linear trunk of five units and a linear head."""
  stages = (("flatten", Flatten), ("hidden", functools.partial(Head, 5)), ("fc", functools.partial(Head, CLASSES)))
  return Network(stages, {}, "flatten")


def sgd(momentum=0.0, weight_decay=0.0):
  return Optimizer(name="sgd", learning_rate=0.1, weight_decay=weight_decay, momentum=momentum)


def simple(name="mcd", optimizer=None, **settings):
  return dataclasses.replace(make(name, network=deep(), **settings), optimizer=optimizer or sgd())


class Loops:
  """The two linear layers and the losses of a pair of heads, with gradients, in NumPy."""

  def __init__(self, params, pair=(0, 1)):
    get = lambda tree: [np.asarray(tree["Dense_0"][k], np.float64) for k in ("kernel", "bias")]  # noqa: E731
    self.v, self.c = get(params["network"]["hidden"])
    kernels, biases = get(params["heads"]["fc"])
    self.heads = [(kernels[i], biases[i]) for i in pair]

  def features(self, x):
    return x.reshape(len(x), -1).astype(np.float64) @ self.v + self.c

  def probabilities(self, x):
    return [softmax(self.features(x) @ w + b) for w, b in self.heads]

  def backward(self, x, by_logits):
    """Gradients by (v, c) and by each head, given those by each head's logits."""
    f = self.features(x)
    by_f = sum(g @ w.T for g, (w, _) in zip(by_logits, self.heads, strict=True))
    trunk = x.reshape(len(x), -1).astype(np.float64).T @ by_f, by_f.sum(0)
    return trunk, [(f.T @ g, g.sum(0)) for g in by_logits]

  def cross_entropy(self, x, y, smoothing=0.0):
    """Sum over heads, and gradients by logits."""
    target = np.full((len(x), CLASSES), smoothing / (CLASSES - 1))
    target[np.arange(len(x)), y] = 1 - smoothing
    probs = self.probabilities(x)
    return sum(-(target * np.log(p)).sum(1).mean() for p in probs), [(p - target) / len(x) for p in probs]

  def discrepancy(self, x):
    """Mean |p1 - p2|, and gradients by logits."""
    p, q = self.probabilities(x)
    sign = np.sign(p - q) / p.size
    back = lambda p, g: p * (g - (p * g).sum(1, keepdims=True))  # noqa: E731
    return np.abs(p - q).mean(), [back(p, sign), back(q, -sign)]

  def balance(self, x):
    """Sum over heads of -mean_c log(mean_b p + 1e-6), and gradients by logits."""
    value, by_logits = 0.0, []
    for p in self.probabilities(x):
      mean = p.mean(0) + 1e-6
      value += -np.log(mean).mean()
      g = np.broadcast_to(-1 / (mean * CLASSES * len(x)), p.shape)
      by_logits.append(p * (g - (p * g).sum(1, keepdims=True)))
    return value, by_logits

  def descend(self, trunk, heads, rate=0.1):
    if trunk is not None:
      self.v, self.c = self.v - rate * trunk[0], self.c - rate * trunk[1]
    if heads is not None:
      self.heads = [(w - rate * g[0], b - rate * g[1]) for (w, b), g in zip(self.heads, heads, strict=True)]

  def assert_equal(self, params):
    np.testing.assert_allclose(params["network"]["hidden"]["Dense_0"]["kernel"], self.v, atol=2e-5)
    np.testing.assert_allclose(params["network"]["hidden"]["Dense_0"]["bias"], self.c, atol=2e-5)
    for i, (w, b) in enumerate(self.heads):
      np.testing.assert_allclose(params["heads"]["fc"]["Dense_0"]["kernel"][i], w, atol=2e-5)
      np.testing.assert_allclose(params["heads"]["fc"]["Dense_0"]["bias"][i], b, atol=2e-5)


def plus(*terms):
  """Weighted sum of pairs of gradients (trunk, heads)."""
  total = lambda arrays: sum(weight * np.asarray(a) for (weight, _), a in zip(terms, arrays, strict=True))  # noqa: E731
  trunk = tuple(total([g[0][k] for _, g in terms]) for k in range(2))
  return trunk, [tuple(total([g[1][h][k] for _, g in terms]) for k in range(2)) for h in range(2)]


@pytest.mark.parametrize("steps", [0, 2])
def test_three_steps_against_loops(steps):
  """Step A moves everything, B the heads, C the trunk; each from where the one before ended."""
  algorithm = simple(discrepancy_weight=2.0, balance_weight=0.3, label_smoothing=0.1, generator_steps=steps)
  state, batch = start(algorithm), both()
  x, y, t = batch["source"]["image"], batch["source"]["label"], batch["target"]["image"]
  loops = Loops(state.params)
  (ce, by_ce), (h, by_h) = loops.cross_entropy(x, y, 0.1), loops.balance(t)
  loops.descend(*plus((1, loops.backward(x, by_ce)), (0.3, loops.backward(t, by_h))))
  by_ce, by_h, by_d = loops.cross_entropy(x, y, 0.1)[1], loops.balance(t)[1], loops.discrepancy(t)[1]
  loops.descend(None, plus((1, loops.backward(x, by_ce)), (0.3, loops.backward(t, by_h)),
                           (-2, loops.backward(t, by_d)))[1])
  for _ in range(steps):
    loops.descend(plus((2, loops.backward(t, loops.discrepancy(t)[1])))[0], None)
  after, metrics = jax.jit(algorithm.update)(state, batch)
  loops.assert_equal(after.params)
  np.testing.assert_allclose(metrics["loss"], ce + 0.3 * h, rtol=1e-5)
  assert after.step == 1


def test_one_step_is_the_closed_form_of_the_reversal():
  """The heads ascend weight * D, the trunk descends weight * reversal * D."""
  algorithm = simple(form="one_step", discrepancy_weight=5.0, reversal=4.0, balance_weight=0.3, label_smoothing=0.1)
  state, batch = start(algorithm), both()
  x, y, t = batch["source"]["image"], batch["source"]["label"], batch["target"]["image"]
  loops = Loops(state.params)
  (ce, by_ce), (h, by_h), (d, by_d) = loops.cross_entropy(x, y, 0.1), loops.balance(t), loops.discrepancy(t)
  ce_grads, h_grads, d_grads = loops.backward(x, by_ce), loops.backward(t, by_h), loops.backward(t, by_d)
  loops.descend(plus((1, ce_grads), (0.3, h_grads), (5 * 4, d_grads))[0],
                plus((1, ce_grads), (0.3, h_grads), (-5, d_grads))[1])
  after, metrics = jax.jit(algorithm.update)(state, batch)
  loops.assert_equal(after.params)
  np.testing.assert_allclose(metrics["loss"], ce + 0.3 * h - 5 * d, rtol=1e-5)
  np.testing.assert_allclose(metrics["discrepancy"], d, rtol=1e-5)


def test_with_zero_weights_both_heads_train_on_the_merged_sources_alone():
  """One step without D and H is ERM of two heads; the target's images change nothing."""
  algorithm = simple(form="one_step", discrepancy_weight=0.0)
  state, batch = start(algorithm), both()
  update, loops = jax.jit(algorithm.update), Loops(state.params)
  other = {**batch, "target": {"image": 3 - batch["target"]["image"]}}
  after, _ = update(state, batch)
  loops.descend(*loops.backward(batch["source"]["image"],
                                loops.cross_entropy(batch["source"]["image"], batch["source"]["label"])[1]))
  loops.assert_equal(after.params)
  jax.tree.map(np.testing.assert_array_equal, after.params, update(state, other)[0].params)


def test_what_a_step_leaves_out_stays_as_it_is():
  """Neither old momentum nor weight decay moves the trunk in B, or the heads in C."""
  algorithm = simple(optimizer=sgd(momentum=0.9, weight_decay=0.1))
  state, batch = start(algorithm), both()
  key = jax.random.key(0)
  descend = jax.jit(algorithm.descend, static_argnums=(0, 1))
  warm, _ = descend(algorithm.three_step_loss, ("network", "heads"), state, batch, key, jnp.zeros(()))
  for names, still, loss, weight in ((("heads",), "network", algorithm.three_step_loss, (jnp.ones(()),)),
                                     (("network",), "heads", algorithm.generator_loss, ())):
    after, _ = descend(loss, names, warm, batch, key, *weight)
    for tree in (0, 1):
      before, now = ((s.params, s.opt_state)[tree] for s in (warm, after))
      jax.tree.map(np.testing.assert_array_equal, before[still], now[still])
      moved = [not np.array_equal(a, b) for a, b in zip(jax.tree.leaves(before[names[0]]),
                                                        jax.tree.leaves(now[names[0]]), strict=True)]
      assert any(moved)


def running(mean, *batches):
  """Running means after BatchNorm has seen batches in turn."""
  for x in batches:
    mean = 0.9 * mean + 0.1 * x.mean((0, 1, 2))
  return mean


@pytest.mark.parametrize("passes", ["separate", "joint"])
def test_statistics_are_of_the_passes_in_their_order(passes):
  """In steps A and B the source, then the target, or both as one batch; in step C the target alone, or both."""
  algorithm = make("mcd", network=tiny_network(), passes=passes)
  state, batch = start(algorithm), both()
  images = [batch[domain]["image"] for domain in ("source", "target")]
  x, t = (jax.lax.conv_general_dilated(i, state.params["network"]["stage1"]["Conv_0"]["kernel"], (1, 1), "SAME",
                                       dimension_numbers=("NHWC", "HWIO", "NHWC")) for i in images)
  x, t = np.asarray(x, np.float64), np.asarray(t, np.float64)
  whole = np.concatenate([x, t])
  for loss, seen, weight in ((algorithm.three_step_loss, (x, t) if passes == "separate" else (whole,), (0.0,)),
                             (algorithm.generator_loss, (t,) if passes == "separate" else (whole,), ())):
    _, (changes, _) = jax.jit(loss)(state.params, state, batch, jax.random.key(0), *weight)
    got = changes["batch_stats"]["network"]["stage1"]["BatchNorm_0"]["mean"]
    np.testing.assert_allclose(got, running(np.zeros(8), *seen), atol=1e-6)


def test_one_batch_of_both_domains_in_three_steps():
  """Without BatchNorm nothing else differs from separate passes; the trunk's momentum can be left out."""
  plain = simple(optimizer=sgd(momentum=0.9), balance_weight=0.1, generator_steps=1)
  joint = dataclasses.replace(plain, passes="joint", generator_momentum=False)
  state, batch = start(joint), both()
  after, expected = jax.jit(joint.update)(state, batch)[0], jax.jit(plain.update)(start(plain), batch)[0]
  assert not jax.tree.leaves(after.opt_state["network"]) and jax.tree.leaves(after.opt_state["heads"])
  jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-6), after.params["heads"],
               expected.params["heads"])
  # The trunk steps twice from rest: with momentum its second step holds 0.9 of the first, which is its trace before.
  slow = dataclasses.replace(plain, generator_steps=0)
  first = jax.jit(slow.update)(start(slow), batch)[0].params["network"]
  for i, leaf in enumerate(jax.tree.leaves(after.params["network"])):
    begun, one, two = (jax.tree.leaves(tree)[i] for tree in (state.params["network"], first,
                                                             expected.params["network"]))
    np.testing.assert_allclose(leaf, two - 0.9 * (one - begun), atol=1e-5)
  with pytest.raises(UserError, match="generator_momentum is false, but adam has no momentum"):
    make("mcd", generator_momentum=False)


def test_heads_have_their_own_draws_and_share_the_trunk():
  algorithm = make("mcd", network=tiny_network(dropout=0.5), hidden=(6,))
  state = start(algorithm)
  assert set(state.params["network"]) == {"stage1", "stage2"} and set(state.params["heads"]) == {"hidden1", "fc"}
  kernel = state.params["heads"]["hidden1"]["fc"]["kernel"]
  assert kernel.shape == (2, 16, 6) and not np.array_equal(kernel[0], kernel[1])
  twin = jax.tree.map(lambda leaf: jnp.stack([leaf[0], leaf[0]]), state.params["heads"])
  params = {**state.params, "heads": twin}
  features = np.arange(8, dtype=np.float32)[:, None].repeat(16, 1)
  logits, statistics = jax.jit(algorithm.heads)(params, state, features, jax.random.key(0))
  assert logits.shape == (1, 2, 8, CLASSES) and not np.array_equal(logits[0, 0], logits[0, 1])  # by dropout alone
  mean = statistics["heads"]["hidden1"]["bn"]["mean"]
  assert mean.shape == (2, 6) and np.abs(mean).max() > 0


def test_hidden_layers_of_the_heads_start_as_they_are_told():
  """DRT's released code: N(0, 0.01^2), not PyTorch's uniform of up to 1 / sqrt(400)."""
  heads = make("mcd", hidden=(400,), hidden_init="normal_0.01").classifier.init(jax.random.key(0), jnp.ones((1, 400)))
  dense = heads["params"]["hidden1"]["fc"]
  assert np.std(dense["kernel"]) == pytest.approx(0.01, rel=0.05) and np.abs(dense["kernel"]).max() > 0.03
  assert not dense["bias"].any()
  with pytest.raises(UserError, match=r"algorithm\.hidden_init is 'normal_0\.1' \(did you mean 'normal_0\.01'"):
    make("mcd", hidden_init="normal_0.1")


def test_ways_to_predict():
  algorithm = simple()
  state, images = start(algorithm), both()["target"]["image"]
  loops = Loops(state.params)
  each = [loops.features(images) @ w + b for w, b in loops.heads]
  out = jax.jit(algorithm.outputs)(state, images)
  np.testing.assert_allclose(jax.jit(algorithm.predict)(state, images), (each[0] + each[1]) / 2, atol=1e-4)
  np.testing.assert_allclose(jnp.exp(out["prob_ens"]), sum(map(softmax, each)) / 2, atol=1e-4)
  for i in range(2):
    np.testing.assert_allclose(out[f"head/{i}"], each[i], atol=1e-4)
  surest = [each[0][i] if each[0][i].max() >= each[1][i].max() else each[1][i] for i in range(len(images))]
  np.testing.assert_allclose(out["max_logit"], surest, atol=1e-4)


@pytest.mark.parametrize("raw", [False, True])
def test_m3sda_against_loops(raw):
  """Each pair learns its own domain; moments join in step A; D sums over pairs."""
  algorithm = simple("m3sda", moment_weight=0.2, orders=2, raw=raw, discrepancy_weight=0.0, generator_steps=0)
  state, batch = start(algorithm), both()
  x, y, d, t = *(batch["source"][name] for name in ("image", "label", "domain")), batch["target"]["image"]
  pairs = [Loops(state.params, (2 * i, 2 * i + 1)) for i in range(DOMAINS)]
  grads = [pair.backward(x[d == i], pair.cross_entropy(x[d == i], y[d == i])[1]) for i, pair in enumerate(pairs)]

  def distance(v, c):
    f = [jnp.asarray(images.reshape(len(images), -1)) @ v + c[None] for images in (x, t)]
    return moment_distance(moments(f[0], jnp.eye(DOMAINS)[d], 2, central=not raw),
                           moments(f[1], jnp.ones((12, 1)), 2, central=not raw))

  trunk = state.params["network"]["hidden"]["Dense_0"]
  value, by_moments = jax.jit(jax.value_and_grad(distance, (0, 1)))(trunk["kernel"], trunk["bias"])
  after, metrics = jax.jit(lambda state: algorithm.descend(
      algorithm.three_step_loss, ("network", "heads"), state, batch, jax.random.key(0), jnp.zeros(())))(state)
  ce = sum(pair.cross_entropy(x[d == i], y[d == i])[0] for i, pair in enumerate(pairs))
  np.testing.assert_allclose(metrics["cross_entropy"], ce, rtol=1e-5)
  np.testing.assert_allclose(metrics["loss"], ce + 0.2 * value, rtol=1e-5)
  np.testing.assert_allclose(metrics["discrepancy"], sum(pair.discrepancy(t)[0] for pair in pairs), rtol=1e-4)
  for k, name in enumerate(("kernel", "bias")):
    expected = trunk[name] - 0.1 * (sum(g[0][k] for g in grads) + 0.2 * by_moments[k])
    np.testing.assert_allclose(after.params["network"]["hidden"]["Dense_0"][name], expected, atol=2e-5)
    for i, g in enumerate(grads):
      before = state.params["heads"]["fc"]["Dense_0"][name]
      for h in range(2):
        np.testing.assert_allclose(after.params["heads"]["fc"]["Dense_0"][name][2 * i + h],
                                   before[2 * i + h] - 0.1 * g[1][h][k], atol=2e-5)


def test_m3sda_of_one_source_without_moments_is_mcd():
  settings = {"discrepancy_weight": 2.0, "balance_weight": 0.1}
  one = dataclasses.replace(simple("m3sda", moment_weight=0.0, **settings), domains=1)
  plain, batch = simple(**settings), both()
  batch["source"]["domain"] = np.zeros_like(batch["source"]["domain"])
  after, expected = jax.jit(one.update)(start(one), batch)[0], jax.jit(plain.update)(start(plain), batch)[0]
  jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-6), after.params, expected.params)


def test_m3sda_with_the_released_codes_distance():
  """Rows are put by domain whatever their order; where domains are not of one size the loss is no number."""
  algorithm = dataclasses.replace(simple("m3sda"), domains=4, official=True, orders=2)
  rng = np.random.default_rng(0)
  source, target = rng.normal(size=(8, 5)).astype(np.float32), rng.normal(size=(2, 5)).astype(np.float32)
  domains = np.array([3, 1, 0, 2, 1, 0, 3, 2])
  got = algorithm.official_distance(source, target, domains)
  by_domain = np.stack([source[domains == d] for d in range(4)])
  np.testing.assert_allclose(got, official_moment_distance(by_domain, target, 2), rtol=1e-6)
  assert np.isnan(algorithm.official_distance(source, target, np.array([3, 1, 0, 2, 1, 0, 3, 3])))
  images = both(size=8, target_size=2)
  state = jax.eval_shape(algorithm.init, jax.random.key(0), images)
  _, metrics = jax.eval_shape(algorithm.update, state, images)
  assert metrics["moment_distance"].shape == ()
  with pytest.raises(UserError, match="set target_batch_size to 2, and data.mixing"):
    algorithm.official_distance(source, source, domains)
  with pytest.raises(UserError, match="for 4 source domains, and there are 3"):
    make("m3sda", official=True)
  with pytest.raises(UserError, match="algorithm.raw and algorithm.official exclude each other"):
    dataclasses.replace(algorithm, raw=True)


def test_ways_to_predict_of_m3sda():
  algorithm = simple("m3sda")
  state, images = start(algorithm), both()["target"]["image"]
  domain = np.arange(12) % DOMAINS
  each = np.stack([p for i in range(DOMAINS) for p in Loops(state.params, (2 * i, 2 * i + 1)).probabilities(images)])
  out = jax.jit(algorithm.outputs)(state, images, domain)
  np.testing.assert_allclose(jnp.exp(jax.jit(algorithm.predict)(state, images)), each.mean(0), atol=1e-4)
  np.testing.assert_allclose(jnp.exp(out["first_ens"]), each[[0, 2, 4]].mean(0), atol=1e-4)
  own = [(each[2 * d, i] + each[2 * d + 1, i]) / 2 for i, d in enumerate(domain)]
  np.testing.assert_allclose(jnp.exp(out["known"]), own, atol=1e-4)


@pytest.mark.parametrize("settings,message", [({"form": "two_step"}, r"algorithm.form is 'two_step'"),
                                              ({"generator_steps": -1}, "generator_steps is -1")])
def test_settings_out_of_range_are_named(settings, message):
  with pytest.raises(UserError, match=message):
    make("mcd", **settings)
  with pytest.raises(UserError, match="orders is 0"):
    make("m3sda", orders=0)


def test_under_pmap_losses_are_of_the_whole_batch():
  """Domains, moments and class balance are counted over all devices; without BatchNorm nothing else differs."""
  algorithm = dataclasses.replace(simple("m3sda", moment_weight=0.2, orders=3, balance_weight=0.5), axis="data")
  whole = dataclasses.replace(algorithm, axis=None)
  state, batch = start(whole), both(size=16, target_size=16)
  parts = jax.tree.map(lambda x: x.reshape(2, 8, *x.shape[1:]), batch)
  mapped = jax.jit(jax.vmap(algorithm.update, in_axes=(None, 0), axis_name="data"))(state, parts)[0]
  expected = jax.jit(whole.update)(state, batch)[0]
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a[0], b, atol=1e-5), mapped.params, expected.params)
