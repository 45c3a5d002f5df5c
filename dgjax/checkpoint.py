"""Checkpoints of a run. The only file that knows orbax."""

import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import orbax.checkpoint as ocp


class Checkpoints:
  """The two newest checkpoints of a run. Use it as a context manager, which waits for the last save."""

  def __init__(self, directory: pathlib.Path):
    """Opens `directory`, made if absent; orbax needs it absolute."""
    self._manager = ocp.CheckpointManager(directory.absolute(), options=ocp.CheckpointManagerOptions(
        max_to_keep=2, cleanup_tmp_directories=True))

  def __enter__(self) -> "Checkpoints":
    return self

  def __exit__(self, *_: Any) -> None:
    self._manager.wait_until_finished()
    self._manager.close()

  def save(self, step: int, tree: Mapping[str, Any], progress: dict[str, Any]) -> None:
    """Saves in the background."""
    if step in self._manager.all_steps():
      self._manager.delete(step)
    tree = jax.block_until_ready(jax.tree.map(lambda x: x.copy(), dict(tree)))
    self._manager.save(step, args=ocp.args.Composite(
        **{name: ocp.args.StandardSave(value) for name, value in tree.items()}, progress=ocp.args.JsonSave(progress)))

  def restore(self, like: Mapping[str, Any]) -> tuple[int, dict[str, Any], dict[str, Any]] | None:
    """Reads the newest checkpoint."""
    step = self._manager.latest_step()
    if step is None:
      return None
    read = self._manager.restore(step, args=ocp.args.Composite(
        **{name: ocp.args.StandardRestore(value) for name, value in like.items()}, progress=ocp.args.JsonRestore()))
    return step, {name: read[name] for name in like}, read["progress"]


def read(directory: pathlib.Path, step: int, like: Mapping[str, Any]) -> dict[str, Any]:
  """Reads parts of one checkpoint."""
  with ocp.CheckpointManager(directory.absolute(), options=ocp.CheckpointManagerOptions(read_only=True)) as manager:
    found = manager.restore(step, args=ocp.args.Composite(
        **{name: ocp.args.StandardRestore(value) for name, value in like.items()}))
  return {name: found[name] for name in like}
