import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import DOMAINS, batch, make, plain_network, start, stepper, tiny_network
from linear import SGD, Linear, linear

from dgjax.errors import UserError


def with_sgd(name, **settings):
  return dataclasses.replace(make(name, network=linear(4), **settings), optimizer=SGD)


def drawn(algorithm, state, count):
  return [int(i) for i in algorithm.draw(state, count)]


def rows(b, domain):
  return b["domain"] == domain


def mldg_loss(kernel, bias, b, held_out, rate, weight):
  """F + weight * G(theta - rate * grad F) of a linear classifier, domain by domain."""
  net = Linear({"fc": {"Dense_0": {"kernel": kernel, "bias": bias}}})
  x, y = b["image"].astype(np.float64), b["label"]
  others = [d for d in range(DOMAINS) if d != held_out]
  loss, by_kernel, by_bias = 0.0, 0.0, 0.0
  for d in others:
    loss += net.loss(x[rows(b, d)], y[rows(b, d)])
    grads = net.grads(x[rows(b, d)], y[rows(b, d)])
    by_kernel, by_bias = by_kernel + grads[0], by_bias + grads[1]
  fast = Linear({"fc": {"Dense_0": {"kernel": net.kernel - rate * by_kernel, "bias": net.bias - rate * by_bias}}})
  return loss + weight * fast.loss(x[rows(b, held_out)], y[rows(b, held_out)]), fast, by_kernel


def test_mldg_is_algorithm_1_to_second_order():
  """The value by loops; the gradient, which goes through the inner step, by finite differences of it."""
  algorithm = with_sgd("mldg", inner_rate=0.02, meta_weight=0.7)
  state, b = start(algorithm), batch()
  head = state.params["network"]["fc"]["Dense_0"]
  kernel, bias = np.asarray(head["kernel"], np.float64), np.asarray(head["bias"], np.float64)
  held_out = drawn(algorithm, state, 1)[0]
  value = lambda kernel: mldg_loss(kernel, bias, b, held_out, 0.02, 0.7)[0]  # noqa: E731
  after, metrics = jax.jit(algorithm.update)(state, b)
  np.testing.assert_allclose(metrics["loss"], value(kernel), rtol=1e-5)
  got = (kernel - np.asarray(after.params["network"]["fc"]["Dense_0"]["kernel"])) / 0.1
  for i, j in ((0, 0), (25, 1), (100, 2), (191, 3)):
    step = np.zeros_like(kernel)
    step[i, j] = 1e-4
    np.testing.assert_allclose(got[i, j], (value(kernel + step) - value(kernel - step)) / 2e-4, rtol=2e-3, atol=2e-4)


def test_mldg_to_first_order_ignores_how_the_step_came_about():
  """Its gradient is grad F(theta) + weight * grad G at the stepped parameters."""
  algorithm = with_sgd("mldg", inner_rate=0.02, meta_weight=0.7, first_order=True)
  state, b = start(algorithm), batch()
  head = state.params["network"]["fc"]["Dense_0"]
  held_out = drawn(algorithm, state, 1)[0]
  _, fast, by_kernel = mldg_loss(np.asarray(head["kernel"]), np.asarray(head["bias"]), b, held_out, 0.02, 0.7)
  chosen = rows(b, held_out)
  expected = by_kernel + 0.7 * fast.grads(b["image"][chosen].astype(np.float64), b["label"][chosen])[0]
  after, _ = jax.jit(algorithm.update)(state, b)
  got = (head["kernel"] - after.params["network"]["fc"]["Dense_0"]["kernel"]) / 0.1
  np.testing.assert_allclose(got, expected, atol=1e-4)


def test_mldg_holds_out_every_domain_in_turn():
  algorithm = make("mldg")
  state = start(algorithm)
  seen = {drawn(algorithm, state.replace(step=jnp.int32(step)), 1)[0] for step in range(30)}
  assert seen == set(range(DOMAINS))


def test_mldg_without_a_test_step_is_the_sum_of_the_other_domains_losses():
  algorithm = make("mldg", meta_weight=0.0)
  state, b = start(algorithm), batch()
  held_out = drawn(algorithm, state, 1)[0]
  key = jax.random.key(0)
  logits, _ = jax.jit(algorithm.forward)(state.params, state, b["image"], key)
  each = -np.asarray(jax.nn.log_softmax(logits))[np.arange(16), b["label"]]
  expected = sum(each[rows(b, d)].mean() for d in range(DOMAINS) if d != held_out)
  np.testing.assert_allclose(jax.jit(algorithm.loss)(state.params, state, b, key)[0], expected, rtol=1e-5)


def test_a_domain_that_a_batch_lacks_counts_nothing():
  algorithm = make("mldg")
  b = batch()
  losses = algorithm.by_domain(jnp.zeros((16, 4)), b["label"], np.where(b["domain"] == 2, 0, b["domain"]))
  np.testing.assert_allclose(losses, [np.log(4), np.log(4), 0], rtol=1e-6)


def metareg(**settings):
  return dataclasses.replace(with_sgd("metareg", inner_rate=0.05, regulariser_rate=0.3, initial=0.02, **settings),
                             steps=10)


def test_one_inner_step_has_a_closed_form():
  """d CE_b / d phi_j = -inner_rate * (d CE_b / d beta_j) * sign(theta_j), beta one step from theta.

  Theta is what the step's training makes of a's task network: a step down the mean loss of a's examples.
  """
  algorithm = metareg()
  state, b = start(algorithm), batch()
  a, other = drawn(algorithm, state, 2)
  assert a != other
  task = jax.tree.map(lambda x: np.asarray(x[a], np.float64), state.params["tasks"])["fc"]["Dense_0"]
  x, y = b["image"].astype(np.float64), b["label"]
  by_kernel, by_bias, _ = Linear({"fc": {"Dense_0": task}}).grads(x[rows(b, a)], y[rows(b, a)])
  task = {"kernel": task["kernel"] - 0.1 * by_kernel, "bias": task["bias"] - 0.1 * by_bias}
  net = Linear({"fc": {"Dense_0": task}})
  by_kernel = net.grads(x[rows(b, a)], y[rows(b, a)])[0] + 0.02 * np.sign(task["kernel"])
  by_bias = net.grads(x[rows(b, a)], y[rows(b, a)])[1] + 0.02 * np.sign(task["bias"])
  stepped = {"kernel": task["kernel"] - 0.05 * by_kernel, "bias": task["bias"] - 0.05 * by_bias}
  beta = Linear({"fc": {"Dense_0": stepped}})
  by_beta = beta.grads(x[rows(b, other)], y[rows(b, other)])[0]
  expected = np.maximum(0.02 - 0.3 * (-0.05 * by_beta * np.sign(task["kernel"])), 0)
  after, metrics = stepper(algorithm)(state, b)
  jax.tree.map(lambda got, want: np.testing.assert_allclose(got[a], want, atol=1e-5),
               after.params["tasks"]["fc"]["Dense_0"], task)
  np.testing.assert_allclose(after.extra["regulariser"]["fc"]["Dense_0"]["kernel"], expected, atol=1e-6)
  assert expected.min() < 0.02 < expected.max()
  np.testing.assert_allclose(metrics["meta_loss"], beta.loss(x[rows(b, other)], y[rows(b, other)]), rtol=1e-5)


def test_the_trunk_takes_every_domains_step():
  """Its step is down the sum of the domains' mean losses, each under its own task network."""
  algorithm = dataclasses.replace(metareg(), network=plain_network())
  state, b = start(algorithm), batch()
  trunk = state.params["network"]["hidden"]["Dense_0"]

  def loss(kernel):
    hidden = jax.nn.relu(b["image"].reshape(16, -1) @ kernel + trunk["bias"].reshape(1, -1))
    total = 0.0
    for domain in range(DOMAINS):
      head = jax.tree.map(lambda leaf, d=domain: leaf[d], state.params["tasks"]["fc"]["Dense_0"])
      logits = hidden @ head["kernel"] + head["bias"].reshape(1, -1)
      own = np.flatnonzero(rows(b, domain))
      total -= jax.nn.log_softmax(logits)[own, b["label"][own]].mean()
    return total

  value, gradient = jax.jit(jax.value_and_grad(loss))(trunk["kernel"])
  after, metrics = stepper(algorithm)(state, b)
  np.testing.assert_allclose(metrics["loss"], value, rtol=1e-5)
  np.testing.assert_allclose(after.params["network"]["hidden"]["Dense_0"]["kernel"], trunk["kernel"] - 0.1 * gradient,
                             atol=1e-5)


def test_episodes_run_on_the_new_trunk_and_leave_its_statistics_alone():
  algorithm = dataclasses.replace(make("metareg", initial=0.01), steps=10)
  state, b = start(algorithm), batch()
  keys = [jax.random.fold_in(algorithm.step_key(state), i) for i in range(3)]
  trained, _ = jax.jit(algorithm.descend, static_argnums=(0, 1))(
      algorithm.task_losses, ("network", "tasks"), state, b, keys[0])
  features, _ = jax.jit(algorithm.forward, static_argnames="stop")(trained.params, trained, b["image"], keys[1],
                                                                   stop="fc")
  expected = jax.jit(algorithm.episode)(state.extra["regulariser"], trained.params["tasks"], features, b,
                                        algorithm.draw(state, 2), state.hparams["inner_rate"], keys[2])
  after, metrics = stepper(algorithm)(state, b)
  np.testing.assert_allclose(metrics["meta_loss"], expected, rtol=1e-4)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), after.batch_stats, trained.batch_stats)


def test_two_inner_steps_against_finite_differences():
  algorithm = metareg(inner_steps=2)
  state, b = start(algorithm), batch()
  features, pair = b["image"].reshape(16, -1), jnp.array([2, 0])

  @jax.jit
  def value(phi):
    return algorithm.episode({"fc": {"Dense_0": phi}}, state.params["tasks"], features, b, pair, jnp.float32(0.05),
                             jax.random.key(0))

  phi = jax.tree.map(lambda x: jnp.full(x.shape, 0.02), state.extra["regulariser"]["fc"]["Dense_0"])
  grads = jax.jit(jax.grad(value))(phi)
  direction = jax.tree.map(jnp.sign, grads)
  shifted = [float(value(jax.tree.map(lambda p, d, s=s: p + s * d, phi, direction))) for s in (0.02, -0.02)]
  np.testing.assert_allclose(sum(float(jnp.abs(g).sum()) for g in jax.tree.leaves(grads)),
                             (shifted[0] - shifted[1]) / 0.04, rtol=2e-2)


def test_the_second_phase_trains_a_fresh_task_network_under_a_fixed_regulariser():
  algorithm = dataclasses.replace(make("metareg", initial=0.01), steps=10)
  state = start(algorithm)
  fresh, heads = state.params["network"]["fc"], state.params["tasks"]
  step = stepper(algorithm)
  for i in range(5):
    state, metrics = step(state, batch(i))
    assert set(metrics) == {"loss", "accuracy", "meta_loss"}
  jax.tree.map(np.testing.assert_array_equal, state.params["network"]["fc"], fresh)
  assert not np.array_equal(jax.tree.leaves(heads)[-1], jax.tree.leaves(state.params["tasks"])[-1])
  regulariser, heads = state.extra["regulariser"], state.params["tasks"]
  expected = sum(float((phi * np.abs(theta)).sum()) for phi, theta in
                 zip(jax.tree.leaves(regulariser), jax.tree.leaves({"fc": fresh}), strict=True))
  state, metrics = step(state, batch(5))
  assert set(metrics) == {"loss", "accuracy", "penalty"}
  np.testing.assert_allclose(metrics["penalty"], expected, rtol=1e-5)
  jax.tree.map(np.testing.assert_array_equal, state.extra["regulariser"], regulariser)
  jax.tree.map(np.testing.assert_array_equal, state.params["tasks"], heads)
  # Adam's first step after the switch is a whole learning rate again: its moments started anew.
  moved = np.abs(np.asarray(state.params["network"]["fc"]["Dense_0"]["kernel"]) - fresh["Dense_0"]["kernel"])
  np.testing.assert_allclose(moved.max(), 1e-2, rtol=1e-3)


def test_without_a_regulariser_the_second_phase_is_erm():
  algorithm, plain = dataclasses.replace(make("metareg", regulariser_rate=0.0), steps=10), make("aggregate")
  state, expected = start(algorithm), start(plain)
  state = state.replace(params={**state.params, "network": expected.params["network"]},
                        step=jnp.int32(algorithm.meta_steps))
  step, update = stepper(algorithm), jax.jit(plain.update)
  for i in range(3):
    state, metrics = step(state, batch(i))
    expected, wanted = update(expected, batch(i))
    np.testing.assert_allclose(metrics["loss"], wanted["loss"], rtol=1e-5)


def test_a_deeper_task_network_may_not_normalise():
  algorithm = make("metareg", network=tiny_network(), task="stage2")
  with pytest.raises(UserError, match="algorithm.task is 'stage2': the task network must be without BatchNorm"):
    start(algorithm)


@pytest.mark.parametrize("settings,message", [({"meta_share": 1.0}, "meta_share is 1.0"),
                                              ({"inner_steps": 0}, "inner_steps is 0")])
def test_settings_out_of_range_are_named(settings, message):
  with pytest.raises(UserError, match=message):
    make("metareg", **settings)
