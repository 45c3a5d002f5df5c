"""What is asked of every registered algorithm, on the embedded digits: a new method joins by being registered."""

import dataclasses
import functools
import itertools

import grain
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import optimizer, same, stepper, tiny_network

from dgjax import config, data, experiment, parallel
from dgjax.algorithms import ALGORITHMS, Algorithm
from dgjax.algorithms import build as build_algorithm
from dgjax.checkpoint import Checkpoints
from dgjax.data import pipeline

BATCH, SOURCES = 16, 3


@pytest.fixture(scope="module", params=sorted(ALGORITHMS))
def name(request):
  """Every algorithm in turn; all tests of one come together, so that what it compiles serves them all."""
  return request.param


@pytest.fixture(scope="module")
def digits():
  return data.load(config.default(algorithm="aggregate", model="smallnet", data="digits").data, seed=0)


@pytest.fixture(scope="module")
def streams(digits):
  """By whether the method adapts: batches of the sources, and such with a part of the target, of another size."""
  options = {"seed": 0, "image_size": 8, "augment": "none"}
  source = pipeline.train(digits, digits.domains[:SOURCES], batch_size=BATCH, mixing="pooled", **options)
  target = pipeline.unlabelled(digits, digits.domains[SOURCES], batch_size=BATCH // 2, **options)
  return {False: source, True: pipeline.with_target(source, target)}


@pytest.fixture(scope="module")
def every_batch(streams):
  return {adapts: list(itertools.islice(stream.iterator(), 20)) for adapts, stream in streams.items()}


@pytest.fixture
def stream(name, streams):
  return streams[ALGORITHMS[name][0].adapts]


@pytest.fixture
def batches(name, every_batch):
  return every_batch[ALGORITHMS[name][0].adapts]


def build(name):
  """On the tiny network, by SGD: Adam would make a whole step of a gradient that is nothing but rounding."""
  c = config.default(algorithm=name, model="smallnet", data="digits")
  made = build_algorithm(c, classes=10, domains=SOURCES, steps_per_epoch=10.0, steps=10)
  small = {"domain_network": tiny_network(classes=SOURCES)} if made.needs_domain_network else {}
  if hasattr(made, "generator_steps"):  # unrolled: each is a second of compilation
    small["generator_steps"] = 2
  return dataclasses.replace(made, network=tiny_network(classes=10), optimizer=optimizer(1e-3, "sgd"), **small)


class Trial:
  """One method on the tiny network; what its runs vary are arrays in the state, so each layout compiles once."""

  def __init__(self, name, digits):
    self.algorithm, self.prepare = build(name), functools.partial(experiment.normalise, digits)
    self.shapes = experiment.batch_shapes((8, 8, 3), self.algorithm.adapts)
    self.init = jax.jit(lambda key: self.algorithm.init(key, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype),
                                                                          self.shapes)))
    self.layout = functools.cache(lambda kind, devices: parallel.make(kind, devices, BATCH))
    self.update = functools.cache(self._update)

  def _update(self, layout, begin, first):
    """The compiled update of a phase on a layout's devices."""
    devices = self.layout(*layout)
    update = dataclasses.replace(self.algorithm, axis=devices.axis).phase_at(begin).step(first)
    return devices.compile(lambda state, batch, shared: update(state, self.prepare(batch)), updates=True)

  def state(self, layout=("jit", 1), seed=0, change=lambda hparams: hparams):
    """A fresh state on a layout's devices, its swept scalars changed."""
    state = self.init(jax.random.key(seed))
    return jax.device_put(state.replace(hparams=change(state.hparams)), self.layout(*layout).replicated)

  def go_on(self, state, batches, layout=("jit", 1), phase=None):
    """State, which is consumed, and losses after training on `batches`, in the phases of a run or in one alone."""
    losses, begin = [], int(state.step)
    for step, batch in enumerate(batches, begin):
      now = phase or self.algorithm.phase_at(step)
      state, metrics = self.update(layout, now.begin, now.enters_at(step))(state, self.layout(*layout).put(batch), None)
      losses.append(metrics["loss"])
    assert state.step == begin + len(losses)
    return state, np.stack(jax.device_get(losses))


@pytest.fixture(scope="module")
def trial(name, digits):
  return Trial(name, digits)


def gentle(hparams):
  """Penalties at a tenth: some are so strong by default that they are most of the loss."""
  return {key: value / 10 if key.endswith("_weight") else value for key, value in hparams.items()}


def fast(hparams):
  """Gentle, at sixty times the learning rate in all phases."""
  rates = {"learning_rate": jax.tree.map(lambda rate: 60 * rate, hparams["learning_rate"])}
  return {**gentle(hparams), **rates} | {key: jnp.float32(1) for key in hparams if key == "adaptation_rate"}


def test_loss_falls(trial, batches):
  """In each phase, which goes on from where the one before left the state."""
  state = trial.state(change=fast)
  for phase in trial.algorithm.phases:
    state, losses = trial.go_on(state.replace(step=jnp.int32(phase.begin)), batches[:1] * 60, phase=phase)
    assert losses[-10:].mean() < 0.8 * losses[:10].mean(), phase.name


def test_resumed_equals_uninterrupted(trial, stream, batches, tmp_path):
  """Stopped after five steps, where second phases begin."""
  whole, losses = trial.go_on(trial.state(), batches[:8])
  iterator = stream.iterator()
  state, first = trial.go_on(trial.state(), itertools.islice(iterator, 5))
  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(5, {"state": state}, {"data": iterator.get_state()})
  fresh = stream.iterator()
  with Checkpoints(tmp_path) as checkpoints:
    _, trees, progress = checkpoints.restore({"state": trial.state(seed=1)})
  state = trees["state"]
  fresh.set_state(progress["data"])
  state, second = trial.go_on(state, itertools.islice(fresh, 3))
  np.testing.assert_array_equal([*first, *second], losses)
  assert same(state, whole)


def test_vmapped_over_seeds_and_swept_scalars_equals_each_alone(trial, batches):
  alone = [trial.state(), trial.state(seed=1, change=lambda hparams: jax.tree.map(lambda x: 2 * x + 1e-4, hparams))]
  together = jax.tree.map(lambda *leaves: jnp.stack(leaves), *alone)
  expected = np.stack([trial.go_on(state, batches[:10])[1] for state in alone], axis=1)
  vmapped = stepper(trial.algorithm, lambda function: jax.jit(jax.vmap(
      lambda state, batch: function(state, trial.prepare(batch)), in_axes=(0, None))))
  for step, batch in enumerate(batches[:10]):
    together, metrics = vmapped(together, batch)
    np.testing.assert_allclose(metrics["loss"], expected[step], rtol=0, atol=1e-4)


def test_same_on_one_four_and_eight_devices(trial, batches):
  """Eight have one or two examples each, so that what is counted on a device alone would show; in both phases."""
  losses = [trial.go_on(trial.state(("jit", devices)), batches[:10], ("jit", devices))[1] for devices in (1, 4, 8)]
  np.testing.assert_allclose(losses[1], losses[0], rtol=0, atol=1e-4)
  np.testing.assert_allclose(losses[2], losses[0], rtol=0, atol=1e-4)


def test_runs_under_pmap(name, trial, batches):
  """Each device has its own draws and batch statistics, so the losses are near those of jit, not the same."""
  mapped_state, mapped = trial.go_on(trial.state(("pmap", 2), change=gentle), batches[:6], ("pmap", 2))
  _, whole = trial.go_on(trial.state(change=gentle), batches[:6])
  np.testing.assert_allclose(mapped.mean(), whole.mean(), rtol=0.2)
  # Channel dropout draws its rate anew on every device, so that single losses are farther apart.
  np.testing.assert_allclose(mapped, whole, rtol=0.6 if name == "channel_dropout" else 0.4)
  shards = [shard.data for shard in jax.tree.leaves(mapped_state.params)[0].addressable_shards]
  np.testing.assert_array_equal(shards[0], shards[1])  # every device holds the same parameters


def test_one_device_under_pmap_averages_nothing(trial, batches, monkeypatch):
  """On one device pmap is jit, but for the key that it folds its device's number into; with one key they agree."""
  def step_key(self, state, shared=False):
    return jax.random.fold_in(state.key, state.step)

  monkeypatch.setattr(Algorithm, "step_key", step_key)
  _, mapped = trial.go_on(trial.state(("pmap", 1)), batches[:5], ("pmap", 1))
  _, whole = trial.go_on(trial.state(), batches[:5])
  np.testing.assert_allclose(mapped, whole, atol=1e-5)


def test_members_are_of_source_domains(trial):
  """Reports take them so: other heads have other names."""
  state = jax.eval_shape(trial.init, jax.random.key(0))
  images = jax.tree.leaves(trial.shapes, is_leaf=lambda x: isinstance(x, dict) and "image" in x)[0]["image"]
  outputs = jax.eval_shape(trial.algorithm.outputs, state, images)
  assert sum(mode.startswith("member/") for mode in outputs) in (0, SOURCES)


def test_iterators_are_grains(streams):
  for stream in streams.values():
    assert isinstance(stream.iterator(), grain.DatasetIterator)
