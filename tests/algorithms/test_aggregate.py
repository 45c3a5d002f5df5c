import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import CLASSES, DOMAINS, Flatten, Head, Hidden, batch, make, start, tiny_network, trained

from dgjax.models.network import Network


def test_aggregate_is_the_mean_cross_entropy():
  algorithm = make("aggregate")
  state, b = start(algorithm), batch()
  loss, (_, metrics) = algorithm.loss(state.params, state, b, jax.random.key(0))
  logits, _ = algorithm.forward(state.params, state, b["image"], jax.random.key(0))
  logits = np.asarray(logits, np.float64)
  expected = np.mean([np.log(np.exp(row).sum()) - row[label] for row, label in zip(logits, b["label"], strict=True)])
  np.testing.assert_allclose(loss, expected, rtol=1e-5)
  np.testing.assert_allclose(metrics["accuracy"], (logits.argmax(1) == b["label"]).mean())


@pytest.mark.parametrize("name", ["aggregate", "multi_headed"])
def test_dropout_is_drawn_anew_each_step(name):
  """That of the heads, too, and in training alone."""
  algorithm = make(name, network=tiny_network(dropout=0.5))
  state = start(algorithm)
  loss = jax.jit(lambda step: algorithm.loss(state.params, state, batch(),
                                             algorithm.step_key(state.replace(step=step)))[0])
  assert loss(jnp.int32(0)) != loss(jnp.int32(1))
  assert jax.eval_shape(algorithm.predict, state, batch()["image"]).shape == (16, CLASSES)


def test_each_example_trains_its_own_head():
  algorithm = make("multi_headed")
  state, b = start(algorithm), batch()
  heads = state.params["heads"]["Dense_0"]["kernel"]
  assert heads.shape == (DOMAINS, 16, CLASSES) and not np.array_equal(heads[0], heads[1])
  assert "fc" not in state.params["network"]
  b["domain"] = np.ones_like(b["domain"])
  grads = jax.grad(lambda p: algorithm.loss(p, state, b, jax.random.key(0))[0])(state.params)
  kernel = grads["heads"]["Dense_0"]["kernel"]
  assert np.abs(kernel[1]).max() > 0 and not kernel[0].any() and not kernel[2].any()


def test_heads_against_loops():
  algorithm = make("multi_headed")
  state, b = trained(algorithm), batch(9)
  out = algorithm.outputs(state, b["image"], b["domain"])
  features = algorithm.evaluate(state, b["image"], stop="fc")
  dense = state.params["heads"]["Dense_0"]
  each = np.stack([features @ dense["kernel"][d] + dense["bias"][d][None] for d in range(DOMAINS)])
  np.testing.assert_allclose(out["pred_ens"], each.mean(0), atol=1e-5)
  np.testing.assert_allclose(out["known"], each[b["domain"], np.arange(16)], atol=1e-5)
  np.testing.assert_allclose(algorithm.predict(state, b["image"]), each.mean(0), atol=1e-5)


def test_shared_heads_are_aggregate():
  """The released code's AlexNet: all heads are one (facts of DMG)."""
  shared, aggregate = make("multi_headed", shared_heads=True), make("aggregate")
  state, plain = start(shared), start(aggregate)
  head = jax.tree.map(lambda x: x[0], state.params["heads"])
  plain = plain.replace(params={"network": {**state.params["network"], "fc": head}})
  for i in range(3):
    state, metrics = jax.jit(shared.update)(state, batch(i))
    plain, expected = jax.jit(aggregate.update)(plain, batch(i))
    np.testing.assert_allclose(metrics["loss"], expected["loss"], rtol=1e-5)


def test_multi_headed_shares_every_stage_but_the_head_whatever_their_names():
  network = Network(stages=(("flatten", Flatten), ("early", functools.partial(Hidden, 6)),
                            ("zone", functools.partial(Hidden, 5)), ("logits", functools.partial(Head, CLASSES))),
                    masked={}, features="flatten")
  params = jax.eval_shape(make("multi_headed", network=network).init, jax.random.key(0), batch()).params
  assert set(params["network"]) == {"early", "zone"} and params["heads"]["Dense_0"]["kernel"].shape[1:] == (5, CLASSES)
