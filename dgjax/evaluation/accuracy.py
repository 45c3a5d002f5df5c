"""Accuracy over whole splits, and class by class: every image counts exactly once, on any number of devices."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dgjax.algorithms.base import Algorithm, Batch, TrainState, pick
from dgjax.parallel import Devices


class Counter:
  """Counts right predictions; compiled once for each set of modes."""

  def __init__(self, algorithm: Algorithm, devices: Devices, normalise: Callable[[Batch], Batch]):
    """
    Args:
      algorithm: the method whose `outputs` are scored.
      devices: where batches are put.
      normalise: applied to each batch on the device.
    """
    self._devices = devices

    def count(state: TrainState, batch: Batch, modes: Sequence[str] | None, known: bool) -> Mapping[str, jax.Array]:
      batch = normalise(batch)
      outputs = algorithm.outputs(state, batch["image"], batch["domain"] if known else None)
      classes = next(iter(outputs.values())).shape[-1]
      of_class = jax.nn.one_hot(batch["label"], classes, dtype=jnp.int32) * batch["mask"][:, None]
      right = lambda logits: (of_class * (logits.argmax(-1) == batch["label"])[:, None]).sum(0)  # noqa: E731
      return {"": of_class.sum(0)} | {mode: right(pick(outputs, mode)) for mode in modes or outputs}

    self._count = jax.jit(count, static_argnames=("modes", "known"), out_shardings=devices.replicated)

  def __call__(self, state: TrainState, batches: Iterable[Mapping[str, np.ndarray]], *,
               modes: Sequence[str] | None = None, known: bool = False,
               pause: Callable[[], None] = lambda: None) -> dict[str, np.ndarray]:
    """Counts right predictions on a split, class by class.

    Args:
      state: a trained state.
      batches: image, label, domain and mask (False on padding), this process's rows.
      modes: names of `outputs`; default: all of them, in one pass.
      known: whether the images' source domain is told to the method.
      pause: called before each batch; it may raise to end an evaluation early.

    Returns:
      For each mode the number of images of each class that are classified rightly, (classes,) int32; under "" the
      number there are.
    """
    total: Any = None
    for batch in batches:
      pause()
      counts = self._count(state, self._devices.put(batch), modes=modes and tuple(modes), known=known)
      total = counts if total is None else jax.tree.map(jnp.add, total, counts)
    return jax.device_get(total)


def accuracy(counts: Mapping[str, np.ndarray]) -> dict[str, float]:
  """The share of images classified rightly.

  Args:
    counts: as `Counter` returns them.

  Returns:
    For each mode, in [0, 1].
  """
  return {mode: float(right.sum() / counts[""].sum()) for mode, right in counts.items() if mode}


def class_accuracy(counts: Mapping[str, np.ndarray]) -> dict[str, float]:
  """The mean over classes of the share of a class's images classified rightly.

  Args:
    counts: as `Counter` returns them.

  Returns:
    For each mode, in [0, 1]; a class without images counts nothing.

  Source: VisDA-2017's measure (Peng et al., "VisDA: The Visual Domain Adaptation Challenge", 2017).
  """
  there = counts[""] > 0
  return {mode: float(np.mean(right[there] / counts[""][there])) for mode, right in counts.items() if mode}
