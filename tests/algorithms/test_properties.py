"""What is asked of every registered algorithm, on the embedded digits: a new method joins by being registered."""

import dataclasses
import itertools

import grain
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import optimizer, same, tiny_network

from dgjax import config, data, parallel, train
from dgjax.algorithms import ALGORITHMS, Algorithm
from dgjax.algorithms import build as build_algorithm
from dgjax.checkpoint import Checkpoints
from dgjax.data import pipeline

BATCH, SOURCES = 16, 3
# Which examples are near enough for RCL's loss is decided by rounding where two distances are all but equal.
CONTINUOUS = {"rcl": {"margin": np.inf}}
every_algorithm = pytest.mark.parametrize("name", sorted(ALGORITHMS))


@pytest.fixture(scope="module")
def digits():
  return data.load(config.default(algorithm="aggregate", model="smallnet", data="digits").data, seed=0)


@pytest.fixture(scope="module")
def streams(digits):
  """By whether the method adapts: batches of the sources, and such with a part of the target, of another size."""
  options = {"seed": 0, "image_size": 16, "augment": "none"}
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


def build(name, **changes):
  c = config.default(algorithm=name, model="smallnet", data="digits")
  made = build_algorithm(c, classes=10, domains=SOURCES, steps_per_epoch=10.0, steps=10)
  if made.needs_domain_network:
    changes = {"domain_network": tiny_network(classes=SOURCES)} | changes
  return dataclasses.replace(made, **{"network": tiny_network(classes=10), "optimizer": optimizer(1e-3)} | changes)


def with_small_penalties(name, **changes):
  """A method with its penalties at a tenth: some are so strong by default that they are most of the loss."""
  algorithm = build(name, **changes)
  weights = {key: getattr(algorithm, key) / 10 for key in algorithm.swept if key.endswith("_weight")}
  return dataclasses.replace(algorithm, **weights)


def first_state(algorithm, layout, seed=0):
  """A fresh state on a layout's devices; drawn on one device, so that one compilation serves all layouts."""
  batch = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), train.batch_shapes((16, 16, 3), algorithm.adapts))
  state = jax.jit(algorithm.init)(jax.random.key(seed), batch)
  return jax.device_put(state, layout.replicated)


def run(algorithm, layout, digits, batches):
  """State and losses after training on `batches`."""
  state = first_state(algorithm, layout)
  update, losses = layout.update(algorithm, train.normaliser(digits)), []
  for batch in batches:
    state, metrics = update(state, layout.place(batch))
    losses.append(metrics["loss"])
  return state, np.stack(jax.device_get(losses))


@every_algorithm
def test_loss_falls(name, digits, batches):
  algorithm = with_small_penalties(name, optimizer=optimizer(1e-2))
  _, losses = run(algorithm, parallel.make("jit", 1, BATCH), digits, batches[:1] * 60)
  assert losses[-10:].mean() < 0.8 * losses[:10].mean()


@every_algorithm
def test_resumed_equals_uninterrupted(name, digits, stream, batches, tmp_path):
  algorithm, layout = build(name), parallel.make("jit", 1, BATCH)
  whole, losses = run(algorithm, layout, digits, batches[:6])
  update, iterator = layout.update(algorithm, train.normaliser(digits)), stream.iterator()
  state = first_state(algorithm, layout)
  for _ in range(3):
    state, _ = update(state, layout.place(next(iterator)))
  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(3, state, iterator, {})
  blank = first_state(algorithm, layout, seed=1)
  fresh = stream.iterator()
  with Checkpoints(tmp_path) as checkpoints:
    state, _ = checkpoints.restore(3, blank, fresh)
  for step in range(3, 6):
    state, metrics = update(state, layout.place(next(fresh)))
    assert metrics["loss"] == losses[step]
  assert same(state, whole)


@every_algorithm
def test_vmapped_over_seeds_and_swept_scalars_equals_each_alone(name, digits, batches):
  algorithm, prepare = build(name), train.normaliser(digits)
  update = lambda state, batch: algorithm.update(state, prepare(batch))  # noqa: E731
  layout = parallel.make("jit", 1, BATCH)
  alone = [first_state(algorithm, layout, seed) for seed in range(2)]
  alone[1] = alone[1].replace(hparams=jax.tree.map(lambda x: 2 * x + 1e-4, alone[1].hparams))
  together = jax.tree.map(lambda *leaves: jnp.stack(leaves), *alone)
  vmapped, single = jax.jit(jax.vmap(update, in_axes=(0, None))), jax.jit(update)
  for batch in batches[:10]:
    together, metrics = vmapped(together, batch)
    for i in range(2):
      alone[i], expected = single(alone[i], batch)
      np.testing.assert_allclose(metrics["loss"][i], expected["loss"], atol=1e-4)


@every_algorithm
def test_same_on_one_four_and_eight_devices(name, digits, batches):
  algorithm = with_small_penalties(name, **CONTINUOUS.get(name, {}))
  losses = [run(algorithm, parallel.make("jit", n, BATCH), digits, batches)[1] for n in (1, 4, 8)]
  np.testing.assert_allclose(losses[1], losses[0], atol=1e-4)
  np.testing.assert_allclose(losses[2], losses[0], atol=1e-4)


@every_algorithm
def test_runs_under_pmap(name, digits, batches):
  """Each device has its own draws and batch statistics, so the losses are near those of jit, not the same."""
  algorithm = with_small_penalties(name)
  mapped_state, mapped = run(algorithm, parallel.make("pmap", 2, BATCH), digits, batches[:6])
  _, whole = run(algorithm, parallel.make("jit", 1, BATCH), digits, batches[:6])
  np.testing.assert_allclose(mapped, whole, rtol=0.4)
  shards = [shard.data for shard in jax.tree.leaves(mapped_state.params)[0].addressable_shards]
  np.testing.assert_array_equal(shards[0], shards[1])  # every device holds the same parameters


@every_algorithm
def test_one_device_under_pmap_averages_nothing(name, digits, batches, monkeypatch):
  """On one device pmap is jit, but for the key that it folds its device's number into; with one key they agree."""
  def step_key(self, state, shared=False):
    return jax.random.fold_in(state.key, state.step)

  monkeypatch.setattr(Algorithm, "step_key", step_key)
  algorithm = build(name)
  _, mapped = run(algorithm, parallel.make("pmap", 1, BATCH), digits, batches[:5])
  _, whole = run(algorithm, parallel.make("jit", 1, BATCH), digits, batches[:5])
  np.testing.assert_allclose(mapped, whole, atol=1e-5)


def test_iterators_are_grains(streams):
  for stream in streams.values():
    assert isinstance(stream.iterator(), grain.DatasetIterator)
