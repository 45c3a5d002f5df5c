import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import CLASSES, Flatten, Head, both, make, same, start, stepper
from linear import SGD, linear, softmax

from dgjax.algorithms.self_training import SelfTraining, labelled
from dgjax.errors import UserError
from dgjax.models.network import Network

STEPS = 7  # of which a round has three and the last four


def method(rounds=1, confidence=0.8, **settings):
  how = SelfTraining(rounds=rounds, confidence=confidence)
  return dataclasses.replace(make("mcd", network=linear(CLASSES), self_training=how, **settings),
                             optimizer=dataclasses.replace(SGD, momentum=0.9), steps=STEPS)


def states(algorithm, state, steps=STEPS):
  """The state after each step, and the metrics of each."""
  step, out = stepper(algorithm), []
  for i in range(steps):
    state, metrics = step(state, both(i))
    out.append((state, metrics))
  return out


def test_a_round_starts_again_from_the_first_state_with_the_last_as_its_teacher():
  algorithm = method(confidence=0.4)
  begun = start(algorithm)
  # As after published weights were loaded: the parameters are no longer those of `init`.
  begun = begun.replace(params=jax.tree.map(lambda x: 0.5 * x, begun.params))
  done = states(algorithm, begun)
  third, fourth = done[2][0], done[3][0]
  assert same(fourth.extra["teacher"]["params"], third.params)
  assert same(fourth.extra["initial"]["params"], begun.params)
  assert same(done[-1][0].extra["teacher"]["params"], third.params)  # for the rest of the run
  assert [int(state.step) for state, _ in done] == list(range(1, STEPS + 1))
  assert same(done[-1][0].key, begun.key)

  images = both(3)["target"]["image"]
  heads = third.params["heads"]["fc"]["Dense_0"]
  flat = images.reshape(len(images), -1)
  probs = sum(softmax(flat @ np.asarray(heads["kernel"][i]) + np.asarray(heads["bias"][i])) for i in range(2)) / 2
  assert (probs.max(1) > 0.4).any()
  target = {"image": images, "pseudo_label": probs.argmax(1).astype(np.int32),
            "confident": (probs.max(1) > 0.4).astype(np.float32)}
  plain = dataclasses.replace(algorithm, self_training=SelfTraining())
  fresh = start(plain).replace(params=begun.params, key=jax.random.fold_in(begun.key, 1))
  expected, metrics = jax.jit(plain.update)(fresh, {**both(3), "target": target})
  np.testing.assert_allclose(done[3][1]["confident"], target["confident"].mean(), rtol=1e-6)
  np.testing.assert_allclose(done[3][1]["loss"], metrics["loss"], rtol=1e-5)
  close = lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5)  # noqa: E731
  jax.tree.map(close, (fourth.params, fourth.opt_state), (expected.params, expected.opt_state))


def test_without_confidence_a_round_is_the_method_alone():
  """With dropout, which shows whose draws they are: the run's own before the rounds, others in each round."""
  dropping = Network((("flatten", Flatten), ("fc", functools.partial(Head, CLASSES, 0.5))), {}, "flatten")
  algorithm = dataclasses.replace(method(confidence=1.0), network=dropping)
  plain = dataclasses.replace(algorithm, self_training=SelfTraining())
  done = states(algorithm, start(algorithm))
  state = start(plain)
  # What comes before the rounds is the method alone, in a run as long as that part.
  whole, _ = states(plain, state, 3)[-1]
  assert same((done[2][0].params, done[2][0].opt_state), (whole.params, whole.opt_state))
  assert "confident" not in done[2][1]
  state, update = state.replace(key=jax.random.fold_in(state.key, 1)), jax.jit(plain.update)
  for i in range(3, STEPS):
    assert done[i][1]["confident"] == 0
    state, _ = update(state, both(i))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), done[-1][0].params, state.params)


def test_what_is_labelled():
  """Source rows, then the target's with their confidence; the mean is over those that count."""
  algorithm = method()
  state, batch = start(algorithm), both(size=4, target_size=3)
  source, target = (jnp.asarray(np.random.default_rng(0).normal(size=(1, 2, n, CLASSES)), jnp.float32) for n in (4, 3))
  assert labelled(batch, source, target)[0] is source
  batch["target"] |= {"pseudo_label": np.array([0, 1, 2]), "confident": np.array([1.0, 0.0, 1.0], np.float32)}
  rows = [(source[0, :, i], batch["source"]["label"][i]) for i in range(4)] + [(target[0, :, i], i) for i in (0, 2)]
  expected = sum(-np.log(softmax(np.asarray(row, np.float64)))[h, y] for row, y in rows for h in range(2)) / 6
  np.testing.assert_allclose(algorithm.classification(state, batch, source, target), expected, rtol=1e-5)


def test_settings_out_of_range_are_named():
  with pytest.raises(UserError, match="self_training.rounds is -1"):
    SelfTraining(rounds=-1)
  with pytest.raises(ValueError, match="set `steps`"):
    dataclasses.replace(method(), steps=0).phases  # noqa: B018
  wrong = dataclasses.replace(method(), self_training=SelfTraining(rounds=1, mode="prob_en"))
  with pytest.raises(UserError, match=r"algorithm.self_training.mode is 'prob_en' \(did you mean 'prob_ens'"):
    jax.eval_shape(wrong.init, jax.random.key(0), both())
