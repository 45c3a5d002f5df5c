"""Small pieces that several tests build on."""

import functools
import os
import pathlib
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from dgjax import config, data, parallel
from dgjax.algorithms import ALGORITHMS
from dgjax.experiment import Experiment, batch_shapes
from dgjax.models.network import Network
from dgjax.optimizers import Optimizer
from dgjax.runs import Run

CLASSES, DOMAINS = 4, 3


def quick_init(key, shape, dtype=jnp.float32):
  """Weights of variance 1 / fan-in that depend on the key; unlike random draws they compile in no time."""
  offset = jax.random.key_data(key).astype(jnp.float32).sum() % 1000
  wave = jnp.sin((jnp.arange(np.prod(shape)) + offset) * 12.9898) * np.sqrt(2 / np.prod(shape[:-1]))
  return wave.reshape(shape).astype(dtype)


class ConvStage(nn.Module):
  """Convolution, BatchNorm, ReLU, pooling."""

  features: int

  @nn.compact
  def __call__(self, x, train):
    x = nn.Conv(self.features, (3, 3), use_bias=False, kernel_init=quick_init)(x)
    x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
    return nn.avg_pool(nn.relu(x), (2, 2), (2, 2))


class Pool(nn.Module):
  """Mean over space."""

  def __call__(self, x, train):
    return x.mean((1, 2))


class Head(nn.Module):
  """Linear layer, after optional dropout."""

  features: int
  dropout: float = 0.0

  @nn.compact
  def __call__(self, x, train):
    return nn.Dense(self.features, kernel_init=quick_init)(nn.Dropout(self.dropout, deterministic=not train)(x))


class Flatten(nn.Module):
  """All positions and channels in one row."""

  def __call__(self, x, train):
    return x.reshape(x.shape[0], -1)


class Hidden(nn.Module):
  """Linear layer and ReLU."""

  features: int

  @nn.compact
  def __call__(self, x, train):
    return nn.relu(nn.Dense(self.features, kernel_init=quick_init)(x))


def plain_network(classes: int = CLASSES) -> Network:
  """Two linear layers: one example does not see another, as it does through BatchNorm."""
  return Network(stages=(("flatten", Flatten), ("hidden", functools.partial(Hidden, 12)),
                         ("fc", functools.partial(Head, classes))),
                 masked={"paper": ("fc",), "code": ("fc",)}, features="flatten")


def tiny_network(dropout: float = 0.0, classes: int = CLASSES) -> Network:
  """Two convolutional stages and a linear one, for images of 8 pixels; masks on `stage2` and `fc`."""
  return Network(stages=(("stage1", functools.partial(ConvStage, 8)), ("stage2", functools.partial(ConvStage, 16)),
                         ("pool", Pool), ("fc", functools.partial(Head, classes, dropout))),
                 masked={"paper": ("stage2", "fc"), "code": ("stage1", "stage2", "fc")}, features="pool",
                 features_kernel="stage2/Conv_0/kernel")


def optimizer(learning_rate: float = 1e-2, name: str = "adam") -> Optimizer:
  """Without decay."""
  return Optimizer(name=name, learning_rate=learning_rate)


def make(name: str, network: Network | None = None, **settings):
  """An algorithm on the tiny network."""
  method = ALGORITHMS[name][0]
  if method.needs_domain_network:
    settings = {"domain_network": tiny_network(classes=DOMAINS)} | settings
  return method(network=network or tiny_network(), optimizer=optimizer(), domains=DOMAINS, **settings)


def batch(seed: int = 0, size: int = 16, side: int = 8) -> dict[str, np.ndarray]:
  """Random images whose class can be learned, in domains that differ in brightness."""
  rng = np.random.default_rng(seed)
  label, domain = rng.integers(0, CLASSES, size), rng.integers(0, DOMAINS, size)
  image = rng.normal(size=(size, side, side, 3)) * 0.3 + domain[:, None, None, None] * 0.5
  image[np.arange(size), label] += 2  # a bright row tells the class
  return {"image": image.astype(np.float32), "label": label.astype(np.int32), "domain": domain.astype(np.int32)}


def both(seed: int = 0, size: int = 16, target_size: int = 12) -> dict[str, dict[str, np.ndarray]]:
  """A batch for a method that adapts."""
  return {"source": batch(seed, size), "target": {"image": batch(seed + 1000, target_size)["image"] + 0.7}}


def batch_for(algorithm, seed: int = 0):
  """A batch as the method takes it."""
  return both(seed) if algorithm.adapts else batch(seed)


def start(algorithm, seed: int = 0):
  """A fresh state."""
  return jax.jit(algorithm.init)(jax.random.key(seed), batch_for(algorithm))


def stepper(algorithm, transform=jax.jit):
  """A training step of whatever phase the state is in, as the training loop takes it.

  Args:
    algorithm: the method.
    transform: compiles a phase's function of a state and a batch.
  """
  compiled = functools.cache(lambda begin, first: transform(algorithm.phase_at(begin).step(first)))

  def step(state, batch):
    done = int(state.step.ravel()[0])  # runs side by side are at the same step
    phase = algorithm.phase_at(done)
    return compiled(phase.begin, phase.enters_at(done))(state, batch)

  return step


def trained(algorithm, steps: int = 5, seed: int = 0):
  """A state after a few steps, so that masks, heads and statistics have moved apart."""
  state, step = start(algorithm, seed), stepper(algorithm)
  for i in range(steps):
    state, _ = step(state, batch_for(algorithm, i))
  return state


def same(a, b) -> bool:
  """Whether two pytrees hold the same bits."""
  data = lambda x: np.asarray(jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x)  # noqa: E731
  return jax.tree.structure(a) == jax.tree.structure(b) and all(
      np.array_equal(data(x), data(y)) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def environment(devices: int = 1, **variables: str) -> dict[str, str]:
  """Of a process of its own that compiles as quickly as the tests do, and keeps even the smallest program."""
  flags = re.sub(r"(device_count)=\d+", rf"\1={devices}", os.environ["XLA_FLAGS"])
  return {**os.environ, "XLA_FLAGS": flags, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
          "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", **variables}


def settings_of(name: str, *overrides: str) -> dict[str, object]:
  """The flat config of "NAME" or "NAME:ARGUMENTS" in `configs/`, with "KEY=VALUE" overridden."""
  return config.flatten(config.load(name, [f"--config.{override}" for override in overrides]))


def run_of(name: str, network: Network | None = None, **settings) -> Run:
  """A finished run whose state is a fresh one, on the embedded digits; the last domain is the target."""
  c = config.default(algorithm=name, model="smallnet", data="digits")
  dataset = data.load(c.data, 0)
  *sources, c.target = dataset.domains
  algorithm = make(name, network or tiny_network(classes=10), **settings)
  shapes = batch_shapes((16, 16, 3), algorithm.adapts)
  state = jax.jit(algorithm.init)(jax.random.key(0), jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes))
  experiment = Experiment(c, dataset, tuple(sources), algorithm, parallel.make("jit", 1, 1), 1, 1.0)
  return Run(pathlib.Path("run"), experiment, {}, state, "last", 0)
