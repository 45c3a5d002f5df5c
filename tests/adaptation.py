"""Batches of a source and an unlabelled target."""

import jax
from helpers import batch


def nested(seed: int = 0, sources: int = 16, targets: int = 12):
  """A batch of three sources, and one of a target that is darker and has no labels."""
  return {"source": batch(seed, sources), "target": {"image": batch(seed + 1000, targets)["image"] - 1.0}}


def begin(algorithm, seed: int = 0):
  """A fresh state."""
  return jax.jit(algorithm.init)(jax.random.key(seed), nested())
