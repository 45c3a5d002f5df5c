"""Checkpoints: train state, data position and best-so-far, saved as one. The only file that knows orbax."""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

import grain
import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies


class _Best(policies.PreservationPolicy):
  """Preserves the checkpoint of one step, that of the best evaluation so far.

  Orbax could rank checkpoints by a metric saved with each. But a run that is stopped in the middle of an evaluation
  saves before its outcome is known; the restart finds it out, and then that checkpoint may be the best.
  """

  step: int | None = None

  def should_preserve(self, checkpoints: Sequence[policies.PolicyCheckpointInfo], *,
                      context: policies.PreservationContext) -> Sequence[bool]:
    """Whether to preserve each."""
    del context
    return [checkpoint.step == self.step for checkpoint in checkpoints]


class _Manager(ocp.CheckpointManager):
  """Orbax's manager, which otherwise would ask by itself, also from a thread of its own, whether to stop.

  All processes must ask alike for their answers to agree (`dgjax.preemption`).
  """

  def reached_preemption(self, step: int) -> bool:
    """Never: the training loop asks."""
    return False


class Checkpoints:
  """The newest checkpoint of a run, and the best one by source validation.

  A save is atomic: what a killed process left half-written is never read. Use it as a context manager, which waits for
  the last save.
  """

  def __init__(self, directory: pathlib.Path):
    """Opens `directory`, made if absent; orbax needs it absolute."""
    self._best = _Best()
    self._manager = _Manager(directory.absolute(), options=ocp.CheckpointManagerOptions(
        preservation_policy=policies.AnyPreservationPolicy([policies.LatestN(1), self._best]),
        cleanup_tmp_directories=True))

  def __enter__(self) -> "Checkpoints":
    return self

  def __exit__(self, *_: Any) -> None:
    self._manager.wait_until_finished()
    self._manager.close()

  @property
  def latest(self) -> int | None:
    """Step of the newest checkpoint."""
    return self._manager.latest_step()

  def save(self, step: int, state: Any, iterator: Any, progress: dict[str, Any],
           best: int | None = None) -> None:
    """Saves in the background, and deletes all but this and the best; does nothing where `step` is saved already.

    Args:
      step: updates done.
      state: a pytree of arrays; it may be donated as soon as this returns.
      iterator: grain iterator, saved with its position.
      progress: JSON-able; the rest that a restart must know.
      best: the step of the best evaluation so far, this one or an earlier one; None before the first.
    """
    if step in self._manager.all_steps():
      return
    # A copy of its own: on a CPU the background write would otherwise read buffers that the next update overwrites.
    state = jax.block_until_ready(jax.tree.map(lambda x: x.copy(), state))
    self._best.step = best
    self._manager.save(step, args=ocp.args.Composite(
        state=ocp.args.StandardSave(state), data=grain.checkpoint.CheckpointSave(iterator),
        progress=ocp.args.JsonSave(progress)))

  def restore(self, step: int, state: Any, iterator: Any) -> tuple[Any, dict[str, Any]]:
    """Reads a checkpoint; the iterator is set to its position.

    Args:
      step: which.
      state: a pytree of arrays or of ShapeDtypeStructs with shardings, the structure and placement wanted.
      iterator: grain iterator.

    Returns:
      The state, and `progress` as it was saved.
    """
    read = self._manager.restore(step, args=ocp.args.Composite(
        state=ocp.args.StandardRestore(state), progress=ocp.args.JsonRestore()))
    # Grain writes a file per process, and would read only as many. All stand at the same step, so any of them tells how
    # far a run has come that goes on with another number of processes.
    position = next((self._manager.directory / str(step) / "data").glob("process_*.json"))
    iterator.set_state(json.loads(position.read_text()))
    return read["state"], read["progress"]

  def restore_state(self, step: int, state: Any) -> Any:
    """Reads the train state alone; arguments as of `restore`."""
    self._manager.wait_until_finished()
    return self._manager.restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore(state)))["state"]
