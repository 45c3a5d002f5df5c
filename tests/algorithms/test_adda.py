import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import CLASSES, both, make, optimizer, same, start, stepper
from linear import SGD, linear, softmax

from dgjax.errors import UserError


def adda(steps=6, **settings):
  return dataclasses.replace(make("adda", **settings), steps=steps)


def run(algorithm, state, steps, first=0):
  step = stepper(algorithm)
  for i in range(first, first + steps):
    state, metrics = step(state, both(i))
  return state, metrics


def test_the_first_phase_is_erm_on_the_merged_sources():
  algorithm, plain = adda(), make("aggregate")
  state = start(algorithm)
  expected = jax.jit(plain.init)(jax.random.key(0), both()["source"])
  expected = expected.replace(params={"network": state.params["network"]})
  first = state.params["discriminator"]
  update = jax.jit(plain.update)
  for i in range(3):
    expected, wanted = update(expected, both(i)["source"])
  state, metrics = run(algorithm, state, 3)
  np.testing.assert_allclose(metrics["loss"], wanted["loss"], rtol=1e-6)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), (state.params["network"], state.batch_stats),
               (expected.params["network"], expected.batch_stats))
  assert same(state.params["discriminator"], first)


def test_the_second_phase_trains_an_encoder_against_a_frozen_one():
  """Weight decay moves neither the source encoder nor the classifier, and the moments are fresh."""
  algorithm = dataclasses.replace(adda(), optimizer=dataclasses.replace(optimizer(), weight_decay=0.1))
  pretrained, _ = run(algorithm, start(algorithm), 3)
  state, _ = run(algorithm, pretrained, 1, first=3)
  encoder = {name: pretrained.params["network"][name] for name in ("stage1", "stage2")}
  assert same(state.extra["source"], {"params": encoder, "batch_stats": pretrained.batch_stats["network"]})
  # Adam's first step is a whole learning rate, a fifth of the first phase's: its moments started anew.
  moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), state.params, pretrained.params)
  np.testing.assert_allclose(moved["discriminator"]["out"]["kernel"], 2e-3, rtol=1e-3)
  np.testing.assert_allclose(moved["network"]["stage1"]["Conv_0"]["kernel"], 2e-3, rtol=1e-2)
  assert same(state.params["network"]["fc"], pretrained.params["network"]["fc"])
  assert not same(state.batch_stats, pretrained.batch_stats)  # the target's
  later, _ = run(algorithm, state, 2, first=4)
  assert same(later.extra, state.extra) and same(later.params["network"]["fc"], pretrained.params["network"]["fc"])
  np.testing.assert_allclose(later.hparams["learning_rate"], 1e-2, rtol=1e-6)

  images = both()["target"]["image"]
  features = algorithm.evaluate(later, images, stop="fc")
  head = pretrained.params["network"]["fc"]["Dense_0"]
  np.testing.assert_allclose(algorithm.predict(later, images), features @ head["kernel"] + head["bias"][None],
                             atol=1e-5)


def test_the_second_phase_has_its_own_beta1():
  """After one step Adam's mean is (1 - beta1) times the gradient."""
  state = start(adda()).replace(step=jnp.int32(3))
  means = []
  for beta1 in (0.5, 0.9):
    after, _ = stepper(adda(adaptation_beta1=beta1))(state, both(3))
    flat = jax.tree_util.tree_flatten_with_path(after.opt_state["discriminator"])[0]
    means.append(np.concatenate([np.ravel(x) for path, x in flat if "mu" in jax.tree_util.keystr(path)]))
  assert np.abs(means[1]).max() > 0
  np.testing.assert_allclose(means[0], 5 * means[1], rtol=1e-5, atol=1e-9)


def test_the_source_encoder_keeps_its_statistics():
  """The discriminator sees source features normalised by the copy's running statistics, not the batch's or the new."""
  algorithm = adda()
  state, _ = run(algorithm, start(algorithm), 4)
  state = state.replace(batch_stats=jax.tree.map(lambda x: x + 1, state.batch_stats))
  source = algorithm.network.apply(state.extra["source"], both(4)["source"]["image"], stop="fc")
  target, _ = algorithm.forward(state.params, state, both(4)["target"]["image"], algorithm.step_key(state), stop="fc")
  logits = np.asarray(algorithm.discriminate(state.params, jnp.concatenate([source, target])), np.float64)
  expected = -np.log(softmax(logits))[np.arange(28), [0] * 16 + [1] * 12].mean()
  after, metrics = run(algorithm, state, 1, first=4)
  np.testing.assert_allclose(metrics["domain_cross_entropy"], expected, rtol=1e-5)
  assert same(after.extra, state.extra) and not same(after.batch_stats, state.batch_stats)


@pytest.mark.parametrize("averaging,share", [("target", 1.0), ("both", 12 / 28)])
def test_simultaneous_updates_on_logits_against_loops(averaging, share):
  """A linear encoder under a linear discriminator, whose gradients are written out.

  The released code turns all labels around: its loss is a mean over both domains, its gradient the target's alone.
  """
  algorithm = dataclasses.replace(adda(steps=2, network=linear(CLASSES), hidden=(), features="logits",
                                       averaging=averaging, adaptation_rate=0.5), optimizer=SGD)
  state, batch = start(algorithm).replace(step=jnp.int32(5)), both()
  w, b = (np.asarray(state.params["network"]["fc"]["Dense_0"][k], np.float64) for k in ("kernel", "bias"))
  v, c = (np.asarray(state.params["discriminator"]["out"][k], np.float64) for k in ("kernel", "bias"))
  s, t = (batch[side]["image"].reshape(len(batch[side]["image"]), -1).astype(np.float64)
          for side in ("source", "target"))
  logits = np.concatenate([s, t]) @ w + b
  domains = np.eye(2)[[0] * len(s) + [1] * len(t)]
  p = softmax(logits @ v + c)
  error = (p - domains) / len(logits)
  fooled = share * (softmax((t @ w + b) @ v + c) - np.eye(2)[[0] * len(t)]) / len(t)
  after, metrics = stepper(algorithm)(state, batch)
  assert after.step == 6
  rate = 0.1 * 0.5
  np.testing.assert_allclose(after.params["discriminator"]["out"]["kernel"], v - rate * logits.T @ error, atol=1e-5)
  np.testing.assert_allclose(after.params["discriminator"]["out"]["bias"], c - rate * error.sum(0), atol=1e-5)
  np.testing.assert_allclose(after.params["network"]["fc"]["Dense_0"]["kernel"], w - rate * t.T @ (fooled @ v.T),
                             atol=1e-5)
  np.testing.assert_allclose(metrics["domain_cross_entropy"], -(domains * np.log(p)).sum(1).mean(), rtol=1e-5)
  turned = -np.log(p[np.arange(28), [1] * 16 + [0] * 12])
  np.testing.assert_allclose(metrics["adversarial"], (turned[16:] if share == 1 else turned).mean(), rtol=1e-5)
  np.testing.assert_allclose(metrics["domain_accuracy"], (p.argmax(1) == domains.argmax(1)).mean(), rtol=1e-6)


def test_phases_have_metrics_of_their_own():
  algorithm = adda()
  assert [(phase.name, phase.begin) for phase in algorithm.phases] == [("source", 0), ("adaptation", 3)]
  assert [algorithm.phase_at(step).name for step in (0, 2, 3, 6)] == ["source"] * 2 + ["adaptation"] * 2
  state = jax.eval_shape(algorithm.init, jax.random.key(0), both())
  metrics = [set(jax.eval_shape(phase.update, state, both())[1]) for phase in algorithm.phases]
  assert metrics == [{"loss", "accuracy"}, {"loss", "domain_cross_entropy", "adversarial", "domain_accuracy"}]
  with pytest.raises(TypeError, match="ADDA has several phases"):
    algorithm.update(state, both())


@pytest.mark.parametrize("settings,message", [({"pretrain_share": 0.0}, "pretrain_share is 0.0"),
                                              ({"averaging": "source"}, "averaging is 'source'"),
                                              ({"features": "logit"}, r"'logit' \(did you mean 'logits'")])
def test_settings_out_of_range_are_named(settings, message):
  with pytest.raises(UserError, match=message):
    make("adda", **settings)
  with pytest.raises(ValueError, match="set `steps`"):
    make("adda").pretrain_steps  # noqa: B018
