import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from dgjax import optimizers
from dgjax.errors import UserError
from dgjax.optimizers import Schedule


def role(path):
  """Of small trees: masks are masks, all else is the trunk."""
  return "masks" if path[0] == "masks" else "trunk"


def make(steps_per_epoch=100.0, **changes):
  """An optimiser of a run that has a trunk, a head and masks."""
  return optimizers.from_config(settings(**changes), steps_per_epoch, role, ("trunk", "head", "masks"))


def settings(**changes):
  schedule = {"name": "exponential", "clock": "epoch", "decay": 0.99, "gamma": 1e-4, "power": 0.75}
  return ConfigDict({"name": "adam", "learning_rate": 1e-3, "weight_decay": 1e-2, "beta1": 0.9, "momentum": 0.9,
                     "nesterov": False, "decay": 0.9, "epsilon": 1e-8, "clip": 0.0, "schedule": schedule,
                     "decayed": "all", "roles": {"masks": {"rate": 100.0, "decay": 50.0, "constant": False}}} | changes)


def run(optimizer, params, grads):
  """Parameters after each of a list of gradients."""
  state, seen = optimizer.build(optimizer.hparams(), jnp.int32(0)).init(params), []
  for step, grad in enumerate(grads):
    updates, state = optimizer.build(optimizer.hparams(), jnp.int32(step)).update(grad, state, params)
    params = jax.tree.map(jnp.add, params, updates)
    seen.append(params)
  return seen


@pytest.mark.parametrize("beta1", [0.9, 0.5])
def test_adam_with_coupled_l2_and_two_rates_against_loops(beta1):
  """Adam as PyTorch has it, gradient + weight_decay * parameter; masks have factors on both; x0.99 per epoch."""
  rng = np.random.default_rng(0)
  params = {"network": {"w": rng.normal(size=3)}, "masks": {"fc": rng.normal(size=2)}}
  grads = [jax.tree.map(lambda p: rng.normal(size=p.shape), params) for _ in range(5)]
  optimizer = make(2.0, beta1=beta1)
  f32 = lambda tree: jax.tree.map(jnp.float32, tree)  # noqa: E731
  got = run(optimizer, f32(params), [f32(g) for g in grads])
  for outer, inner, rate, decay in (("network", "w", 1e-3, 1e-2), ("masks", "fc", 1e-1, 0.5)):
    p = params[outer][inner].copy()
    m, v = np.zeros_like(p), np.zeros_like(p)
    for t in range(5):
      g = grads[t][outer][inner] + decay * p
      m, v = beta1 * m + (1 - beta1) * g, 0.999 * v + 0.001 * g * g
      p = p - rate * 0.99 ** (t // 2) * (m / (1 - beta1 ** (t + 1))) / (np.sqrt(v / (1 - 0.999 ** (t + 1))) + 1e-8)
      np.testing.assert_allclose(got[t][outer][inner], p, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("momentum,nesterov", [(0.0, False), (0.9, False), (0.9, True)])
def test_sgd_against_loops(momentum, nesterov):
  rng = np.random.default_rng(0)
  p, grads = rng.normal(size=3), [rng.normal(size=3) for _ in range(4)]
  optimizer = make(name="sgd", momentum=momentum, nesterov=nesterov)
  got = run(optimizer, {"w": jnp.float32(p)}, [{"w": jnp.float32(g)} for g in grads])
  buffer = np.zeros(3)
  for t in range(4):
    g = grads[t] + 1e-2 * p
    buffer = momentum * buffer + g
    p = p - 1e-3 * (g + momentum * buffer if nesterov else buffer)
    np.testing.assert_allclose(got[t]["w"], p, rtol=1e-5)


def test_rmsprop_with_clipping_against_loops():
  """TensorFlow's, with which CrossGrad was trained: decay 0.9, momentum 0.9, epsilon 1, elements within 0.1."""
  rng = np.random.default_rng(0)
  p, grads = rng.normal(size=3), [rng.normal(size=3) for _ in range(4)]
  made = make(2.0, name="rmsprop", epsilon=1.0, clip=0.1)
  got = run(made, {"w": jnp.float32(p)}, [{"w": jnp.float32(g)} for g in grads])
  square, velocity = np.ones(3), np.zeros(3)
  for t in range(4):
    g = np.clip(grads[t] + 1e-2 * p, -0.1, 0.1)
    square = 0.9 * square + 0.1 * g * g
    velocity = 0.9 * velocity + 1e-3 * 0.99 ** (t // 2) * g / np.sqrt(square + 1.0)
    p = p - velocity
    np.testing.assert_allclose(got[t]["w"], p, rtol=1e-5)


def test_adadelta_against_loops():
  rng = np.random.default_rng(0)
  p, grads = rng.normal(size=3), [rng.normal(size=3) for _ in range(4)]
  made = make(name="adadelta", epsilon=1e-6, learning_rate=1.0)
  got = run(made, {"w": jnp.float32(p)}, [{"w": jnp.float32(g)} for g in grads])
  square, change = np.zeros(3), np.zeros(3)
  for t in range(4):
    g = grads[t] + 1e-2 * p
    square = 0.9 * square + 0.1 * g * g
    step = np.sqrt(change + 1e-6) / np.sqrt(square + 1e-6) * g
    change = 0.9 * change + 0.1 * step * step
    p = p - step
    np.testing.assert_allclose(got[t]["w"], p, rtol=1e-5)


def test_schedules():
  steps = [jnp.int32(s) for s in (0, 9, 10, 25)]
  exponential = Schedule(name="exponential", decay=0.99, steps_per_epoch=10)
  np.testing.assert_allclose([exponential(s) for s in steps], [1, 1, 0.99, 0.99**2], rtol=1e-6)
  inverse = Schedule(name="inverse", clock="step", gamma=1e-4, power=0.75)
  np.testing.assert_allclose([inverse(s) for s in steps], [(1 + 1e-4 * int(s)) ** -0.75 for s in steps], rtol=1e-6)
  np.testing.assert_allclose(Schedule(name="inverse", gamma=1.0, power=1.0, steps_per_epoch=12.5)(jnp.int32(25)), 1 / 3)
  staircase = Schedule(name="exponential", decay=0.94, period=2, steps_per_epoch=5)
  np.testing.assert_allclose([staircase(jnp.int32(s)) for s in (9, 10, 19, 20)], [1, 0.94, 0.94, 0.94**2], rtol=1e-6)
  assert float(Schedule()(jnp.int32(1000))) == 1


def test_a_role_may_keep_its_rate_whatever_the_schedule():
  """The released PACS runs leave the masks' learning rate alone."""
  constant = {"masks": {"rate": 10.0, "decay": 1.0, "constant": True}}
  optimizer = make(10.0, name="sgd", momentum=0.0, weight_decay=0.0, roles=constant)
  params = {"network": {"w": jnp.ones(1)}, "masks": {"fc": jnp.ones(1)}}
  transform = optimizer.build(optimizer.hparams(), jnp.int32(50))
  updates, _ = transform.update(params, transform.init(params), params)
  np.testing.assert_allclose(updates["masks"]["fc"], -1e-2, rtol=1e-6)
  np.testing.assert_allclose(updates["network"]["w"], -1e-3 * 0.99**5, rtol=1e-6)


def test_weight_decay_of_kernels_alone():
  """Biases, norms' scales and masks do not decay."""
  params = {"network": {"conv": {"kernel": jnp.ones(2), "bias": jnp.ones(2)}}, "masks": {"fc": jnp.ones(2)}}
  optimizer = make(name="sgd", momentum=0.0, decayed="kernels")
  transform = optimizer.build(optimizer.hparams(), jnp.int32(0))
  updates, _ = transform.update(jax.tree.map(jnp.zeros_like, params), transform.init(params), params)
  np.testing.assert_allclose(updates["network"]["conv"]["kernel"], -1e-5, rtol=1e-6)
  assert not updates["network"]["conv"]["bias"].any() and not updates["masks"]["fc"].any()


def test_a_role_that_the_run_does_not_have_is_named():
  factors = {"rate": 10.0, "decay": 1.0, "constant": False}
  with pytest.raises(UserError, match=r"optimizer\.roles\.residuals: .*has the roles trunk, head, masks"):
    make(roles={"residuals": factors})
  assert "residuals" not in make(roles={"residuals": factors | {"rate": 1.0}}).hparams()["roles"]


def test_rates_and_factors_sweep_under_vmap():
  """One program trains with two learning rates and two factors of a role, each as the lone run does."""
  params = {"w": jnp.ones(3), "masks": jnp.ones(2)}
  grad = {"w": jnp.arange(3.0), "masks": jnp.arange(2.0)}
  optimizer = make(name="sgd")

  def after(rate, factor):
    hparams = jax.tree.map(jnp.float32, optimizer.hparams())
    hparams = {**hparams, "learning_rate": rate, "roles": {"masks": {**hparams["roles"]["masks"], "rate": factor}}}
    transform = optimizer.build(hparams, jnp.int32(0))
    return transform.update(grad, transform.init(params), params)[0]

  rates, factors = jnp.array([1e-3, 1e-1]), jnp.array([1.0, 5.0])
  got, alone = jax.vmap(after)(rates, factors), [after(*pair) for pair in zip(rates, factors, strict=True)]
  jax.tree.map(lambda x, *each: np.testing.assert_allclose(x, np.stack(each), rtol=1e-6), got, *alone)
  np.testing.assert_allclose(alone[1]["w"] / alone[0]["w"], 100, rtol=1e-5)  # the base rate moves everything
  np.testing.assert_allclose(alone[1]["masks"] / alone[0]["masks"], 500, rtol=1e-5)


def test_unknown_names_name_the_key():
  with pytest.raises(UserError, match=r"no optimizer 'adm' \(did you mean 'adam'\?\)"):
    make(name="adm")
  with pytest.raises(UserError, match=r"optimizer\.decayed is 'kernel' \(did you mean 'kernels'"):
    make(decayed="kernel")
  with pytest.raises(UserError, match=r"optimizer\.schedule\.clock is 'hour'"):
    Schedule(clock="hour")
  with pytest.raises(UserError, match=r"optimizer\.schedule\.period is 0"):
    Schedule(period=0)
  with pytest.raises(UserError, match="no schedule 'cosin'"):
    Schedule(name="cosin")
