"""RCL and the methods that it is compared with."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import batch, make, start, tiny_network, trained

from dgjax import models
from dgjax.algorithms.channel_dropout import drop_channels
from dgjax.algorithms.jigsaw import ORDERS
from dgjax.algorithms.rsc import above, ranks
from dgjax.errors import UserError
from dgjax.losses.classification import cross_entropy
from dgjax.losses.contrastive import reverse_contrastive
from dgjax.losses.permutation import shuffle_tiles
from dgjax.losses.redundancy import covariance, double_soft_orthogonality
from dgjax.models.network import Network
from dgjax.optimizers import Schedule

KEY = jax.random.key(5)


def loss_of(algorithm, state, b, key=KEY):
  """The loss, what it replaces in the state, and the metrics."""
  loss, (changes, metrics) = jax.jit(algorithm.loss)(state.params, state, b, key)
  return loss, changes, metrics


def forward(algorithm):
  """The compiled pass."""
  return jax.jit(algorithm.forward, static_argnames=("start", "stop"))


@pytest.mark.parametrize("name, weight", [
    ("rcl", "contrastive_weight"), ("jigsaw", "jigsaw_weight"), ("reconstruction", "reconstruction_weight"),
    ("spectral_decoupling", "logit_weight")])
def test_without_its_penalty_a_method_is_aggregate(name, weight):
  """From the same seed, with dropout in the network and in BatchNorm's running statistics too."""
  method = make(name, network=tiny_network(dropout=0.5), **{weight: 0.0})
  aggregate = make("aggregate", network=method.network)
  state, plain = start(method), start(aggregate)
  update, update_plain = jax.jit(method.update), jax.jit(aggregate.update)
  for i in range(3):
    state, metrics = update(state, batch(i))
    plain, expected = update_plain(plain, batch(i))
    np.testing.assert_allclose(metrics["loss"], expected["loss"], rtol=1e-6)
  for mine, theirs in ((state.params["network"], plain.params["network"]), (state.batch_stats, plain.batch_stats)):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), mine, theirs)


def test_rcl_is_cross_entropy_plus_the_contrastive_loss_of_the_same_pass():
  algorithm = make("rcl", contrastive_weight=0.3, margin=1.1, rescale="channel", reduction="mean")
  state, b = trained(algorithm), batch(3)
  loss, changes, metrics = loss_of(algorithm, state, b)
  features, _ = forward(algorithm)(state.params, state, b["image"], KEY, stop="pool")
  logits, stats = forward(algorithm)(state.params, state, b["image"], KEY)
  contrastive = reverse_contrastive(features, b["label"], 1.1, rescale="channel", reduction="mean")
  assert contrastive < 0
  np.testing.assert_allclose(loss, cross_entropy(logits, b["label"]) + 0.3 * contrastive, rtol=1e-5)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), changes["batch_stats"], stats)
  np.testing.assert_allclose(metrics["contrastive"], contrastive, rtol=1e-5)


def test_rcls_term_counts_from_an_epoch_on_and_pools_as_it_is_told():
  algorithm = make("rcl", margin=float("inf"), begin=2.0, pooling="max")
  schedule = Schedule(steps_per_epoch=4.5)
  algorithm = dataclasses.replace(algorithm, optimizer=dataclasses.replace(algorithm.optimizer, schedule=schedule))
  state, b = start(algorithm), batch()
  features, _ = forward(algorithm)(state.params, state, b["image"], KEY, stop="pool")
  expected = reverse_contrastive(features, b["label"], jnp.inf, pooling="max")
  loss = jax.jit(algorithm.loss)
  for step, counts in ((0, False), (8, False), (9, True), (20, True)):
    total, (_, metrics) = loss(state.params, state.replace(step=jnp.int32(step)), b, KEY)
    np.testing.assert_allclose(metrics["contrastive"], expected, rtol=1e-5)
    np.testing.assert_allclose(total, metrics["cross_entropy"] + counts * metrics["contrastive"], rtol=1e-5)


@pytest.mark.parametrize("model, dtype, side", [("mnistnet", "float32", 28), ("resnet18", "bfloat16", 64)])
@pytest.mark.parametrize("name", ["rcl", "channel_dropout", "jigsaw", "reconstruction", "spectral_decoupling", "rsc"])
def test_every_method_on_other_networks(name, model, dtype, side):
  """By shapes: the state comes back with its shapes and types, and the loss is a float32 scalar."""
  network = models.build({**models.defaults(model), "dtype": dtype}, 4)
  algorithm = make(name, network=network, **({"form": "original"} if name == "rsc" else {}))
  state = jax.eval_shape(algorithm.init, jax.random.key(0), batch(side=side))
  updated, metrics = jax.eval_shape(algorithm.update, state, batch(side=side))
  assert jax.tree.map(lambda x: (x.shape, x.dtype), updated) == jax.tree.map(lambda x: (x.shape, x.dtype), state)
  assert (metrics["loss"].shape, metrics["loss"].dtype) == ((), jnp.float32)


def convolutions(function, *arguments):
  return jax.jit(function).lower(*arguments).as_text().count("stablehlo.convolution")


def test_features_and_logits_come_from_one_pass():
  rcl, aggregate = make("rcl"), make("aggregate")
  counts = [convolutions(method.update, start(method), batch()) for method in (rcl, aggregate)]
  assert counts[0] == counts[1]


def test_rcl_trains_the_feature_extractor_alone_beyond_cross_entropy():
  algorithm = make("rcl", margin=float("inf"))
  state, b = start(algorithm), batch()

  def contrastive(params):
    return algorithm.loss(params, state, b, KEY)[1][1]["contrastive"]

  grads = jax.grad(contrastive)(state.params)["network"]
  assert np.abs(grads["stage1"]["Conv_0"]["kernel"]).max() > 0
  assert not any(leaf.any() for leaf in jax.tree.leaves(grads["fc"]))


def test_an_infinite_margin_is_swept_like_any_other():
  algorithm = make("rcl")
  state = start(algorithm)
  margins = jnp.array([0.0, jnp.inf])
  states = jax.vmap(lambda margin: state.replace(hparams={**state.hparams, "margin": margin}))(margins)
  _, metrics = jax.jit(jax.vmap(algorithm.update, in_axes=(0, None)))(states, batch())
  assert metrics["contrastive"][0] == 0 and metrics["contrastive"][1] < 0 and np.isfinite(metrics["loss"]).all()


@pytest.mark.parametrize("form, factor", [("mean", 1.0), ("norm", 2.0)])
def test_spectral_decoupling_adds_the_squared_logits(form, factor):
  algorithm = make("spectral_decoupling", form=form)
  state, b = trained(algorithm), batch(3)
  loss, _, metrics = loss_of(algorithm, state, b)
  logits, _ = forward(algorithm)(state.params, state, b["image"], KEY)
  np.testing.assert_allclose(metrics["logits"], factor * np.square(logits).mean(), rtol=1e-5)  # four classes
  np.testing.assert_allclose(loss, metrics["cross_entropy"] + 5 * metrics["logits"], rtol=1e-6)


def test_channel_dropout_drops_whole_channels_of_each_example():
  features = jnp.asarray(np.random.default_rng(0).normal(size=(64, 3, 2, 16)), jnp.float32)
  rates, drop = [], jax.jit(drop_channels)
  for seed in range(40):
    out = np.asarray(drop(jax.random.key(seed), features) / features)
    assert (np.ptp(out, axis=(1, 2)) < 1e-5).all()  # alike at every position
    kept = np.unique(out[out > 0].round(3))
    assert len(kept) == 1 and kept[0] <= 16.001  # one factor for the batch, which the cap bounds
    rates.append(1 - 1 / kept[0])
    assert abs((out == 0).mean() - rates[-1]) < 0.1  # 1 / (1 - rate): the mean of a feature stays
    if 0.3 < rates[-1] < 0.7:
      assert len(np.unique((out[:, 0, 0] == 0), axis=0)) > 30  # each example its own channels
  assert min(rates) < 0.15 and max(rates) > 0.8 and abs(np.mean(rates) - 0.5) < 0.15


def test_channel_dropout_penalises_kernel_and_channels_before_dropout():
  algorithm = make("channel_dropout", orthogonality_weight=1.0, covariance_weight=0.01, covariance_samples="means")
  state, b = trained(algorithm), batch(3)
  loss, changes, metrics = loss_of(algorithm, state, b)
  features, logits, stats = algorithm.forward_through(state.params, state, b["image"], KEY, "pool",
                                                      lambda x: drop_channels(jax.random.fold_in(KEY, 1), x))
  orthogonality = double_soft_orthogonality(state.params["network"]["stage2"]["Conv_0"]["kernel"])
  np.testing.assert_allclose(loss, cross_entropy(logits, b["label"]) + orthogonality
                             + 0.01 * covariance(features, "means"), rtol=1e-5)
  plain, _ = forward(algorithm)(state.params, state, b["image"], KEY, stop="pool")
  np.testing.assert_allclose(features, plain, rtol=1e-6)
  assert not np.allclose(logits, forward(algorithm)(state.params, state, b["image"], KEY)[0])
  assert metrics["covariance"] > 0 and changes["batch_stats"].keys() == stats.keys()
  np.testing.assert_allclose(algorithm.predict(state, b["image"]), algorithm.evaluate(state, b["image"]))


def test_orthogonality_needs_a_network_that_names_the_kernel():
  network = tiny_network()
  nameless = Network(network.stages, network.masked, network.features)
  algorithm = make("channel_dropout", network=nameless)
  state = start(algorithm)
  assert "orthogonality_weight" not in state.hparams and "covariance_weight" in state.hparams
  assert "orthogonality" not in loss_of(algorithm, state, batch())[2]
  swept = state.replace(hparams={**state.hparams, "orthogonality_weight": jnp.float32(1)})
  with pytest.raises(UserError, match="set it to 0 and do not sweep it"):
    algorithm.update(swept, batch())
  with pytest.raises(UserError, match=r"algorithm\.orthogonality_weight.* another model\.name"):
    make("channel_dropout", network=nameless, orthogonality_weight=1.0)


def test_jigsaw_classifies_images_and_tells_the_order_of_shuffled_ones():
  algorithm = make("jigsaw", network=tiny_network(dropout=0.5))
  state, b = trained(algorithm), batch(3)
  assert state.params["jigsaw"]["kernel"].shape == (16, 24)
  loss, changes, metrics = loss_of(algorithm, state, b)
  order_key, dropout_key = jax.random.split(jax.random.fold_in(KEY, 1))
  order = np.asarray(jax.random.randint(order_key, (16,), 0, 24))
  assert len(set(order)) > 6  # one draw for each image
  shuffled = shuffle_tiles(b["image"], ORDERS[order])
  features, _ = forward(algorithm)(state.params, state, shuffled, dropout_key, stop="fc")
  puzzle = cross_entropy(features @ state.params["jigsaw"]["kernel"] + state.params["jigsaw"]["bias"][None], order)
  logits, stats = forward(algorithm)(state.params, state, b["image"], KEY)
  np.testing.assert_allclose(loss, cross_entropy(logits, b["label"]) + 10 * puzzle, rtol=1e-5)
  np.testing.assert_allclose(metrics["jigsaw"], puzzle, rtol=1e-5)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), changes["batch_stats"], stats)


def test_jigsaw_names_the_size_that_it_cannot_cut():
  algorithm = make("jigsaw")
  with pytest.raises(UserError, match=r"9x9 pixels .* data\.image_size"):
    jax.eval_shape(algorithm.update, start(algorithm), batch(side=9))


def test_reconstruction_decodes_the_features_to_the_input():
  algorithm = make("reconstruction", reconstruction_weight=0.7)
  state, b = start(algorithm), batch(3)
  update, errors = jax.jit(algorithm.update), []
  for _ in range(40):
    state, metrics = update(state, b)
    np.testing.assert_allclose(metrics["loss"], metrics["cross_entropy"] + 0.7 * metrics["reconstruction"], rtol=1e-5)
    errors.append(metrics["reconstruction"])
  assert errors[-1] < 0.8 * errors[0]


def test_ranks_and_thresholds_by_hand():
  scores = jnp.array([[3.0, 1, 2, 2], [0, 0, 0, 5]])
  np.testing.assert_array_equal(ranks(scores), [[0, 3, 1, 2], [1, 2, 3, 0]])
  np.testing.assert_array_equal(above(scores, 1), [[1, 0, 0, 0], [0, 0, 0, 1]])
  np.testing.assert_array_equal(above(scores, 9), [[1, 0, 1, 1], [0, 0, 0, 1]])


def rsc_inputs(form, seed=0, **settings):
  algorithm = make("rsc", form=form, **settings)
  state, rng = trained(algorithm), np.random.default_rng(seed)
  features = jnp.asarray(rng.normal(size=(16, 3, 3, 16)), jnp.float32)
  return algorithm, state, features, batch(3)["label"]


def sensitivities(state, features, labels):
  """Of the tiny network's classifier, a mean over space and a linear layer: in closed form, everywhere the same."""
  kernel = np.asarray(state.params["network"]["fc"]["Dense_0"]["kernel"], np.float64)
  weights = kernel[:, labels].T / (features.shape[1] * features.shape[2])
  return np.broadcast_to(weights[:, None, None], features.shape), weights


def test_rsc_scores_are_the_true_logits_gradient():
  algorithm, state, features, labels = rsc_inputs("channel")
  gradient, logits = algorithm.sensitivity(state, features, labels)
  np.testing.assert_allclose(gradient, sensitivities(state, features, labels)[0], atol=1e-6)
  np.testing.assert_allclose(logits, algorithm.evaluate(state, features, start="pool"), atol=1e-6)


def test_rsc_channel_form_mutes_the_largest_share_of_every_example():
  algorithm, state, features, labels = rsc_inputs("channel")
  _, weights = sensitivities(state, features, labels)
  counts = []
  for seed in range(12):
    key = jax.random.key(seed)
    mask = np.asarray(algorithm.mute_channels(state, features, labels, key))
    count = int(np.floor(jax.random.uniform(key) * 16))
    for i in range(16):
      muted = sorted(range(16), key=lambda c, i=i: -weights[i, c])[:count]
      np.testing.assert_array_equal(mask[i, 0, 0], [c not in muted for c in range(16)])
    counts.append(count)
  assert min(counts) < 4 and max(counts) > 11


@pytest.mark.parametrize("step, share", [(0, 0.3), (10 * 4 - 1, 0.3), (10 * 4, 0.5), (1000, 1.0)])
def test_rsc_original_form_example_by_example(step, share):
  algorithm, state, features, labels = rsc_inputs("original")
  schedule = Schedule(steps_per_epoch=4.0)
  algorithm = dataclasses.replace(algorithm, optimizer=dataclasses.replace(algorithm.optimizer, schedule=schedule))
  state = state.replace(step=jnp.int32(step))
  _, weights = sensitivities(state, features, labels)
  x = np.asarray(features, np.float64)
  classify = lambda x: np.asarray(jax.nn.softmax(algorithm.evaluate(state, jnp.asarray(x, jnp.float32), start="pool")))  # noqa: E731
  forms = set()
  for seed in range(4):
    key = jax.random.key(seed)
    spatial = bool(jax.random.bernoulli(key))
    forms.add(spatial)
    masks = np.ones(x.shape)
    for i in range(16):
      if spatial:  # 3 of 9 positions
        score = {p: (x[i][p] * weights[i]).sum() for p in np.ndindex(3, 3)}
        for p in sorted(score, key=score.get)[-3:]:
          masks[i][p] = 0
      else:  # 5 of 16 channels
        masks[i][..., np.argsort(weights[i])[-5:]] = 0
    before, after = classify(x), classify(x * masks)
    drop = np.array([max(0, before[i, labels[i]] - after[i, labels[i]] - 1e-4) for i in range(16)])
    threshold = np.sort(drop)[::-1][min(round(16 * share), 15)]
    expected = np.where((drop > threshold)[:, None, None, None], masks, 1)
    assert 0 < (drop > threshold).sum() <= round(16 * share)
    np.testing.assert_array_equal(algorithm.mute_original(state, features, labels, key), expected)
  assert forms == {True, False}


@pytest.mark.parametrize("form", ["channel", "original"])
def test_rsc_trains_on_masked_features_with_the_mask_constant(form):
  algorithm = make("rsc", form=form)
  state, b = trained(algorithm), batch(3)
  mute = algorithm.mute_channels if form == "channel" else algorithm.mute_original
  features, stats = forward(algorithm)(state.params, state, b["image"], KEY, stop="pool")
  mask = mute(state, features, b["label"], jax.random.fold_in(KEY, 1))

  def masked(params):
    features, stats = algorithm.forward(params, state, b["image"], KEY, stop="pool")
    logits, _ = algorithm.forward(params, state.replace(batch_stats=stats), features * mask, KEY, start="pool")
    return cross_entropy(logits, b["label"])

  expected, gradient = jax.jit(jax.value_and_grad(masked))(state.params)
  (loss, (changes, _)), found = jax.jit(jax.value_and_grad(algorithm.loss, has_aux=True))(state.params, state, b, KEY)
  np.testing.assert_allclose(loss, expected, rtol=1e-5)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), found, gradient)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), changes["batch_stats"], stats)


def test_rsc_original_form_on_a_single_position():
  """A map of 1x1: one position cannot be above itself, so that the spatial form mutes nothing."""
  algorithm, state, features, labels = rsc_inputs("original")
  masks = [algorithm.mute_original(state, features[:, :1, :1], labels, jax.random.key(seed)) for seed in range(4)]
  assert all(mask.shape == (16, 1, 1, 16) for mask in masks) and any(mask.all() for mask in masks)


@pytest.mark.parametrize("name, settings, message", [
    ("rcl", {"rescale": "bach"}, r"algorithm\.rescale is 'bach' \(did you mean 'batch'"),
    ("rcl", {"reduction": "avg"}, r"algorithm\.reduction is 'avg'"),
    ("rcl", {"margin": -0.1}, r"algorithm\.margin is -0\.1.* may be inf"),
    ("spectral_decoupling", {"form": "norms"}, r"algorithm\.form is 'norms' \(did you mean 'norm'"),
    ("channel_dropout", {"covariance_samples": "mean"}, r"covariance_samples is 'mean' \(did you mean 'means'"),
    ("rsc", {"form": "chanel"}, r"algorithm\.form is 'chanel' \(did you mean 'channel'"),
    ("rsc", {"share": 1.5}, r"algorithm\.share must be in \[0, 1\]")])
def test_wrong_settings_are_told(name, settings, message):
  with pytest.raises(UserError, match=message):
    make(name, **settings)
