"""Checkpoints, from which a run resumes, with a hash of every array. No other file uses orbax."""

import errno
import functools
import json
import logging
import os
import pathlib
import re
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import tensorstore
from absl import logging as absl_logging
from jax.experimental import multihost_utils

from dgjax import parallel
from dgjax.errors import UserError

log = logging.getLogger("dgjax")

RECORD = "record"  # the item beside the arrays: step, progress, and shape, type and hash of every array

# Errors of the system that say nothing about the file: the checkpoint may be sound and must not be set aside.
_SYSTEM = {errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE}


class _Damaged(Exception):
  """A checkpoint is not as it was saved; the message says where."""


class _Manager(ocp.CheckpointManager):
  """Orbax's manager, which otherwise would ask by itself, also from a thread of its own, whether to stop.

  All processes must ask alike for their answers to agree (`dgjax.preemption`).
  """

  def reached_preemption(self, step: int) -> bool:
    """Never: the training loop asks."""
    return False


def _not_of_orbax(record: logging.LogRecord) -> bool:
  """Drops what orbax logs, such as tracebacks of its threads, except under --verbosity=1: errors are raised as well."""
  return "orbax" not in record.pathname or absl_logging.get_verbosity() >= absl_logging.DEBUG


class Checkpoints:
  """The two newest checkpoints of a run. If the newest is damaged, the run goes on from the one before.

  A save is atomic: what a killed process left half-written is never read. Use it as a context manager, which waits for
  the last save.
  """

  def __init__(self, directory: pathlib.Path):
    """Opens `directory`, made by the first save if absent."""
    self._directory = pathlib.Path(os.path.abspath(directory))  # TensorStore takes no ".."
    self._opened: _Manager | None = None
    absl_logging.get_absl_logger().addFilter(_not_of_orbax)

  def __enter__(self) -> "Checkpoints":
    return self

  def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
    try:
      if self._opened is not None:
        self.wait()
        self._opened.close()
    except UserError:
      if not isinstance(error, UserError):  # the first error is the one to tell
        raise

  def steps(self) -> list[int]:
    """Steps of the checkpoints there are, sound or not, in order."""
    if not self._directory.is_dir():
      return []
    try:
      names = os.listdir(self._directory)
    except OSError as error:
      raise UserError(f"cannot read {self._directory} ({error.strerror})") from error
    return sorted(int(name) for name in names if re.fullmatch("0|[1-9][0-9]*", name))

  def save(self, step: int, tree: Mapping[str, Any], progress: Mapping[str, Any]) -> None:
    """Saves in the background, once the previous save is done, and deletes all but the two newest checkpoints.

    Nothing is written if the checkpoint of `step` already holds the same. One that holds something else is replaced.

    Args:
      step: updates done.
      tree: pytrees of arrays by name, the same on every process; typed PRNG keys may be among them. They may be donated
        as soon as this returns.
      progress: JSON-able; the rest that a restart must know.

    Raises:
      UserError: this checkpoint, or the one before, cannot be written.
    """
    arrays = {name: _to_host(part) for name, part in tree.items()}
    record = {"step": step, "progress": progress, "arrays": {
        name: {path: _describe(value) for path, value in part.items()} for name, part in arrays.items()}}
    record = json.loads(json.dumps(record))  # as it will be read: tuples are lists, and keys are text
    record["hash"] = _hash_of_json(record)
    self.wait()
    try:
      kept = parallel.agree(self._kept(step, record))
      if kept == "same":
        return
      if kept == "other":  # a process killed before the new one is there goes on from the older checkpoint
        self._manager.delete(step)
      items: dict[str, Any] = {name: ocp.args.StandardSave({path: value for path, value in part.items() if value.size})
                               for name, part in arrays.items()}  # orbax takes no empty arrays
      self._manager.save(step, args=ocp.args.Composite(**items, **{RECORD: ocp.args.JsonSave(record)}), force=True)
    except Exception as error:
      raise self._cannot_save(error) from error

  def wait(self) -> None:
    """Waits until the last save is complete on disk.

    Raises:
      UserError: it could not be written.
    """
    if self._opened is not None:
      try:
        self._opened.wait_until_finished()
      except Exception as error:
        raise self._cannot_save(error) from error

  def restore(self, like: Mapping[str, Any]) -> tuple[int, dict[str, Any], dict[str, Any]] | None:
    """Reads the newest sound checkpoint: one whose arrays and progress have the hashes that they were saved with.

    Newer ones that are damaged are named in a warning, and process 0 sets them aside.

    Args:
      like: pytrees by name, of arrays or of ShapeDtypeStructs with shardings: the structure and placement wanted.

    Returns:
      The step, the pytrees and `progress`; None if there is no checkpoint.

    Raises:
      UserError: no checkpoint is sound, or they are of another structure than `like`.
    """
    problems: dict[int, str] = {}
    for step in reversed(parallel.agree(self.steps())):
      problem = ""
      try:
        arrays, progress = _load(self._directory / str(step), like)
      except _Damaged as error:
        problem = str(error)
      if not (problem := _of_any_process(problem)):
        break
      problems[step] = problem
    else:
      if problems:
        told = "; ".join(f"{self._directory.name}/{step}: {problem}" for step, problem in problems.items())
        raise UserError(f"every checkpoint of {self._directory.parent} is damaged ({told}): put a copy of "
                        f"{self._directory} in its place, or delete it to train from the start")
      return None
    if failed := parallel.agree(self._set_aside(problems, step)):
      raise UserError(failed)
    return step, {name: _place(arrays[name], part) for name, part in like.items()}, progress

  @property
  def _manager(self) -> _Manager:
    """Orbax's manager, opened by the first save: before `restore` it would take damaged checkpoints for sound."""
    if self._opened is None:
      self._opened = _Manager(self._directory, options=ocp.CheckpointManagerOptions(
          max_to_keep=2, cleanup_tmp_directories=True))
    return self._opened

  def _kept(self, step: int, record: Mapping[str, Any]) -> str:
    """Whether the checkpoint of `step` that is there holds the "same", something "other", or is "absent"."""
    if step not in self.steps():
      return "absent"
    try:
      return "same" if read_record(self._directory / str(step)) == record else "other"
    except _Damaged:
      return "other"

  def _set_aside(self, problems: Mapping[int, str], sound: int) -> str:
    """Renames damaged checkpoints on process 0 and says so; returns what went wrong in that, if anything."""
    if jax.process_index() == 0:
      for step, problem in problems.items():
        aside = self._directory / f"{step}.damaged"
        while aside.exists():
          aside = aside.with_name(f"{aside.name}-again")
        try:
          (self._directory / str(step)).rename(aside)
        except OSError as error:
          return (f"checkpoint {step} of {self._directory.parent} is damaged ({problem}) and cannot be set aside "
                  f"({error.strerror}): make {self._directory} writable, or delete {self._directory / str(step)}")
        log.warning("checkpoint %d of %s is damaged (%s); set aside as %s/%s; going on from %d", step,
                    self._directory.parent, problem, self._directory.name, aside.name, sound)
    return ""

  def _cannot_save(self, error: Exception) -> UserError:
    return UserError(f"cannot save a checkpoint in {self._directory} ({_reason(error)}): make room or make it "
                     "writable, and start the same command again")


def read(directory: pathlib.Path, step: int, like: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
  """Reads one checkpoint in one process and changes nothing: for finished runs.

  Checkpoints from before arrays had hashes are read, too: they hold "state" alone.

  Args:
    directory: that of the run's checkpoints.
    step: which.
    like: as of `Checkpoints.restore`.

  Returns:
    The pytrees and `progress`.

  Raises:
    UserError: there is none of that step, it is damaged, or of another structure than `like`.
  """
  folder = pathlib.Path(os.path.abspath(directory)) / str(step)
  if not folder.exists():
    raise UserError(f"{directory} has no checkpoint of step {step}")
  absl_logging.get_absl_logger().addFilter(_not_of_orbax)
  try:
    if _is_old(folder):
      return _load_old(folder, like)
    arrays, progress = _load(folder, like)
  except _Damaged as error:
    raise UserError(f"checkpoint {folder} is damaged ({error}): put a copy in its place, or train again") from error
  return {name: _place(arrays[name], part) for name, part in like.items()}, progress


def _load(folder: pathlib.Path, like: Mapping[str, Any]) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, Any]]:
  """Reads a checkpoint's arrays into memory, by name and path, and `progress`; raises `_Damaged` or UserError.

  Every process reads for itself, without waiting for others, so that an error in one of them keeps none waiting.
  """
  if _is_old(folder):
    raise UserError(f"{folder} is of a version of dgjax that did not keep hashes: its run can be opened, not resumed; "
                    "use another --workdir")
  record = read_record(folder)
  if record["step"] != int(folder.name):
    raise _Damaged(f"it is one of step {record['step']}")
  arrays = {}
  for name, part in like.items():
    stored = record["arrays"].get(name)
    if stored is None:
      raise UserError(f"{folder} holds no {name!r}, but {', '.join(record['arrays'])}")
    _check_structure(folder, name, stored, part)
    try:
      found = _read_arrays(folder / name, [path for path, entry in stored.items() if 0 not in entry["shape"]])
    except Exception as error:
      raise _unreadable(folder, name, error) from error
    arrays[name] = {path: found[path] if path in found else np.zeros(entry["shape"], jnp.dtype(entry["dtype"]))
                    for path, entry in stored.items()}
    if changed := [path for path in stored if _describe(arrays[name][path]) != stored[path]]:
      raise _Damaged(f"{name}/{changed[0]}: its bytes changed")
  return arrays, record["progress"]


def _read_arrays(folder: pathlib.Path, paths: Iterable[str]) -> dict[str, np.ndarray]:
  """Reads arrays of an item with TensorStore, in the format that orbax writes with it: zarr in an OCDBT database.

  Where one array is damaged, orbax's own reader leaves the others' reads behind in a closed event loop, which print
  tracebacks; it also takes twice as long.
  """
  database = tensorstore.KvStore.open({"driver": "ocdbt", "base": {"driver": "file", "path": f"{folder}/"}}).result()
  opened = {path: tensorstore.open({"driver": "zarr"}, kvstore=database / f"{path}/", open=True) for path in paths}
  reads = {path: array.result().read(order="C") for path, array in opened.items()}
  return {path: read.result() for path, read in reads.items()}


def read_record(folder: pathlib.Path) -> dict[str, Any]:
  """The record of the checkpoint in `folder`, verified: its step, `progress`, and each array's shape, type and hash.

  Two checkpoints with equal `arrays` hold the same bits. Raises an error of this module where it is damaged.
  """
  if not (folder / RECORD).is_dir():
    raise _Damaged(f"its {RECORD} is missing")
  try:
    record = ocp.JsonCheckpointHandler().restore(folder / RECORD)
    without = {key: value for key, value in record.items() if key != "hash"}
    sound = record["hash"] == _hash_of_json(without)
  except Exception as error:
    raise _unreadable(folder, RECORD, error) from error
  if not sound:
    raise _Damaged(f"{RECORD}: its bytes changed")
  return record


def _unreadable(folder: pathlib.Path, name: str, error: Exception) -> Exception:
  """What an error in reading an item means: damage, or a system that does not let it be read."""
  if _error_number(error) in _SYSTEM or isinstance(error, MemoryError):
    return UserError(f"cannot read {folder / name}: {_reason(error)}")
  return _Damaged(f"{name} cannot be read")


def _is_old(folder: pathlib.Path) -> bool:
  """Whether a checkpoint is from before arrays had hashes."""
  return not (folder / RECORD).exists() and all((folder / name).is_dir() for name in ("state", "data", "progress"))


def _load_old(folder: pathlib.Path, like: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
  """Reads a checkpoint from before arrays had hashes."""
  try:
    state = ocp.StandardCheckpointHandler().restore(folder / "state", args=ocp.args.StandardRestore(like["state"]))
    return {"state": state}, ocp.JsonCheckpointHandler().restore(folder / "progress")
  except Exception as error:
    raise _unreadable(folder, "state", error) from error


def _check_structure(folder: pathlib.Path, name: str, stored: Mapping[str, Any], like: Any) -> None:
  """Raises a UserError if a checkpoint, sound by itself, is of another structure than is wanted."""
  wanted = {path: (list(x.shape), str(x.dtype)) for path, x in _flatten(like).items()}
  found = {path: (entry["shape"], entry["dtype"]) for path, entry in stored.items()}
  for path in wanted | found:
    if wanted.get(path) != found.get(path):
      there, here = (f"{tree[path][1]}{tree[path][0]}" if path in tree else "absent" for tree in (found, wanted))
      raise UserError(f"{folder} was saved with another configuration: {name}/{path} is {there} there and {here} here; "
                      "use its configuration, or another --workdir")


def _is_key(x: Any) -> bool:
  return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def _flatten(tree: Any) -> dict[str, Any]:
  """Leaves by path; shape and type of its numbers in place of a typed key that is only a shape."""
  leaves = {}
  for path, x in jax.tree_util.tree_flatten_with_path(tree)[0]:
    if _is_key(x):
      x = jax.random.key_data(x) if isinstance(x, jax.Array) else jax.eval_shape(jax.random.key_data, x)
    leaves[jax.tree_util.keystr(path, simple=True, separator="/")] = x
  return leaves


def _to_host(tree: Any) -> dict[str, np.ndarray]:
  """A pytree's arrays in memory, by path.

  On a CPU they are views of the device's own buffers. JAX lets no update take a buffer that has views, though it is
  donated, so they keep their numbers until the background write is done with them.
  """
  return {path: np.asarray(x) for path, x in jax.device_get(_flatten(tree)).items()}


def _place(arrays: Mapping[str, np.ndarray], like: Any) -> Any:
  """A pytree of arrays on devices, as `like` has them."""
  leaves, structure = jax.tree.flatten(like)
  placed = []
  for value, x in zip((arrays[path] for path in _flatten(like)), leaves, strict=True):
    sharding = getattr(x, "sharding", None)
    # A copy for each device: on a CPU they would share the array's memory, and updates happen in place.
    copy = functools.partial(_copy, value)
    array = jnp.array(value) if sharding is None else jax.make_array_from_callback(value.shape, sharding, copy)
    placed.append(_wrap_key(array, x) if _is_key(x) else array)
  return jax.tree.unflatten(structure, placed)


def _copy(value: np.ndarray, index: Any) -> np.ndarray:
  return np.array(value[index])


def _wrap_key(data: jax.Array, like: Any) -> jax.Array:
  """Typed keys from their numbers, of the implementation of `like`."""
  implementations: list[Any] = []
  jax.eval_shape(lambda key: implementations.append(jax.random.key_impl(key)), like)
  return jax.random.wrap_key_data(data, impl=implementations[0])


def _describe(value: np.ndarray) -> dict[str, Any]:
  """Shape, type and hash of an array.

  CRC-32 finds every change within four adjacent bytes, and all but one in four billion other changes. It is the
  cheapest of the hashes at hand (docs/performance.md).
  """
  # As bytes, because types that NumPy does not know, such as bfloat16, have no buffers.
  return {"shape": list(value.shape), "dtype": str(value.dtype),
          "crc32": zlib.crc32(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)}


def _hash_of_json(value: Any) -> int:
  return zlib.crc32(json.dumps(value, sort_keys=True).encode())


def _of_any_process(problem: str) -> str:
  """The problem that any process has, on all of them."""
  if jax.process_count() == 1:
    return problem
  if not multihost_utils.process_allgather(np.array(bool(problem))).any():
    return ""
  return parallel.agree(problem or "another process cannot read it")


def _error_number(error: Exception) -> int | None:
  """The system's number of an error, out of TensorStore's text where it comes from there."""
  if isinstance(error, OSError):
    return error.errno
  found = re.search(r"os_error_code='(\d+)'", str(error))
  return int(found[1]) if found else None


def _reason(error: Exception) -> str:
  """A few words on an error that may be pages long."""
  number = _error_number(error)
  if number is not None:
    return os.strerror(number)
  return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
