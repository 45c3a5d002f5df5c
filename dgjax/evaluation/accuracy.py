"""Accuracy over whole splits: every image counts exactly once, on any number of devices."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dgjax.algorithms.base import Algorithm, Batch, TrainState, pick
from dgjax.parallel import Parallel


class Evaluator:
  """Counts right predictions; compiled once for each set of modes."""

  def __init__(self, algorithm: Algorithm, parallel: Parallel, prepare: Callable[[Batch], Batch],
               pause: Callable[[], None] = lambda: None):
    """
    Args:
      algorithm: the method whose `outputs` are scored.
      parallel: where batches are laid.
      prepare: applied to each batch on the device.
      pause: called before each batch; it may raise to end an evaluation early.
    """
    self._parallel, self._pause = parallel, pause

    def count(state: TrainState, batch: Batch, modes: Sequence[str] | None, known: bool) -> Mapping[str, jax.Array]:
      batch = prepare(batch)
      outputs = algorithm.outputs(state, batch["image"], batch["domain"] if known else None)
      right = lambda logits: ((logits.argmax(-1) == batch["label"]) & batch["mask"]).sum()  # noqa: E731
      return {"": batch["mask"].sum()} | {mode: right(pick(outputs, mode)) for mode in modes or outputs}

    self._count = jax.jit(count, static_argnames=("modes", "known"), out_shardings=parallel.replicated)

  def accuracy(self, state: TrainState, batches: Iterable[Mapping[str, np.ndarray]], *,
               modes: Sequence[str] | None = None, known: bool = False) -> dict[str, float]:
    """Accuracy on a split.

    Args:
      state: a trained state.
      batches: image, label, domain and mask (False on padding), this process's rows.
      modes: names of `outputs`; default: all of them, in one pass.
      known: whether the images' source domain is told to the method.

    Returns:
      For each mode the share of images classified rightly, in [0, 1].
    """
    total: Any = None
    for batch in batches:
      self._pause()
      counts = self._count(state, self._parallel.place(batch), modes=modes and tuple(modes), known=known)
      total = counts if total is None else jax.tree.map(jnp.add, total, counts)
    counts = jax.device_get(total)
    return {mode: float(right / counts[""]) for mode, right in counts.items() if mode}
