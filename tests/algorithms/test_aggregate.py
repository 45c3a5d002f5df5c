import functools

import jax
import jax.numpy as jnp
import numpy as np
from helpers import CLASSES, DOMAINS, Flatten, Head, Hidden, batch, make, start, tiny_network, trained

from dgjax.models.network import Network


def test_aggregate_is_the_mean_cross_entropy():
  algorithm = make("aggregate")
  state, b = start(algorithm), batch()
  loss, (_, metrics) = jax.jit(algorithm.loss)(state.params, state, b, jax.random.key(0))
  logits, _ = jax.jit(algorithm.forward)(state.params, state, b["image"], jax.random.key(0))
  logits = np.asarray(logits, np.float64)
  expected = np.mean([np.log(np.exp(row).sum()) - row[label] for row, label in zip(logits, b["label"], strict=True)])
  np.testing.assert_allclose(loss, expected, rtol=1e-5)
  np.testing.assert_allclose(metrics["accuracy"], (logits.argmax(1) == b["label"]).mean())


def test_dropout_is_drawn_anew_each_step():
  algorithm = make("aggregate", network=tiny_network(dropout=0.5))
  state = start(algorithm)
  loss = jax.jit(algorithm.loss)
  losses = [loss(state.params, state, batch(), algorithm.step_key(state.replace(step=jnp.int32(s))))[0]
            for s in (0, 1)]
  assert losses[0] != losses[1]


def test_each_example_trains_its_own_head():
  algorithm = make("multi_headed")
  state, b = start(algorithm), batch()
  heads = state.params["heads"]["Dense_0"]["kernel"]
  assert heads.shape == (DOMAINS, 16, CLASSES) and not np.array_equal(heads[0], heads[1])
  assert "fc" not in state.params["network"]
  b["domain"] = np.ones_like(b["domain"])
  grads = jax.jit(jax.grad(lambda p: algorithm.loss(p, state, b, jax.random.key(0))[0]))(state.params)
  kernel = grads["heads"]["Dense_0"]["kernel"]
  assert np.abs(kernel[1]).max() > 0 and not kernel[0].any() and not kernel[2].any()


def test_heads_against_loops():
  algorithm = make("multi_headed")
  state, b = trained(algorithm), batch(9)
  out = jax.jit(algorithm.outputs)(state, b["image"], b["domain"])
  features = jax.jit(functools.partial(algorithm.evaluate, stop="fc"))(state, b["image"])
  dense = state.params["heads"]["Dense_0"]
  each = np.stack([features @ dense["kernel"][d] + dense["bias"][d][None] for d in range(DOMAINS)])
  np.testing.assert_allclose(out["pred_ens"], each.mean(0), atol=1e-5)
  np.testing.assert_allclose(out["known"], each[b["domain"], np.arange(16)], atol=1e-5)
  np.testing.assert_allclose(jax.jit(algorithm.predict)(state, b["image"]), each.mean(0), atol=1e-5)


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
