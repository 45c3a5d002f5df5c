"""The record of a run: one JSON object a line, and the same values as TensorBoard events."""

import contextlib
import json
import logging
import math
import os
import pathlib
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax

from dgjax.errors import UserError
from dgjax.files import write_text_atomically

log = logging.getLogger("dgjax")


class NotFinite(UserError):
  """A training metric is infinite or NaN. A caller that knows the newest checkpoint raises it as `after(saved)`.

  Attributes:
    name: the metric's name.
    value: the metric's value.
    step: the update that gave it.
  """

  def __init__(self, name: str, value: float, step: int, told: str = ""):
    super().__init__(f"{name} is {value} at step {step}{told}, or look at the data" if told else
                     f"{name} is {value} at step {step}: lower config.optimizer.learning_rate, or look at the data")
    self.name, self.value, self.step = name, value, step

  def after(self, saved: int | None) -> "NotFinite":
    """The same error with the newest checkpoint in its message: that of step `saved`, or none."""
    told = ("; nothing was saved yet: lower config.optimizer.learning_rate" if saved is None else
            f": go on from the newest checkpoint with --from_step={saved} and a lower --config.optimizer.learning_rate")
    return NotFinite(self.name, self.value, self.step, told)


class Recorder:
  """Writes metrics on process 0."""

  def __init__(self, folder: pathlib.Path, step: int, evaluated: bool = True):
    """Opens the record and drops what is past the checkpoint: those steps will be rerun.

    Args:
      folder: of the run.
      step: of the checkpoint; 0 without one.
      evaluated: whether the checkpoint knows of that step's evaluation; else it will be rerun, too.

    Raises:
      UserError: the record cannot be written.
    """
    self._path = folder / "metrics.jsonl"
    self._writes = jax.process_index() == 0
    if not self._writes:
      return
    kept = [line for line in read_lines(self._path) if line["step"] < step or
            (line["step"] == step and (evaluated or not any(key.startswith("val/") for key in line)))]
    write_text_atomically(self._path, "".join(json.dumps(line) + "\n" for line in kept))
    with self._told():
      self._lines = self._path.open("a", encoding="utf-8")
    self._events = _Events(folder, step)

  def write(self, step: int, values: Mapping[str, float]) -> None:
    """Records values at `step`; they are on disk after `flush`."""
    if self._writes:
      with self._told():
        self._lines.write(json.dumps({"step": step, **values}) + "\n")
      self._events.write(step, values)

  def train(self, step: int, metrics: Mapping[str, float]) -> None:
    """Records the metrics of one training step under `train/`.

    Raises:
      NotFinite: one of them is not finite; none is written.
    """
    values = {f"train/{name}": float(value) for name, value in metrics.items()}
    if bad := [name for name, value in values.items() if not math.isfinite(value)]:
      raise NotFinite(bad[0], values[bad[0]], step)
    self.write(step, values)

  def flush(self) -> None:
    """Puts all that was written on disk, where it survives a kill and a crash of the machine.

    Call it before a save: what a checkpoint knows of is not run again, and its lines must be there.

    Raises:
      UserError: `metrics.jsonl` cannot be written.
    """
    if self._writes:
      with self._told():
        self._lines.flush()
        os.fsync(self._lines.fileno())
      self._events.flush()

  def close(self) -> None:
    """Closes the files; call `flush` before. It raises nothing, as it may follow another error."""
    if self._writes:
      with contextlib.suppress(OSError):
        self._lines.close()
      self._events.close()

  @contextlib.contextmanager
  def _told(self) -> Iterator[None]:
    """Errors of the system about the record become one line."""
    try:
      yield
    except OSError as error:
      raise UserError(f"cannot write {self._path} ({error.strerror}): make room or make it writable, and start the "
                      "same command again") from error


class _Events:
  """TensorBoard events, written where they can be: they never keep a run from going on.

  TensorBoard's usual writer has a thread and a queue. On a full disk the thread dies, and the queue blocks for ever.
  """

  def __init__(self, folder: pathlib.Path, step: int):
    """Opens a file of events; TensorBoard hides those of steps past `step` in earlier files."""
    # Imported here, as few commands need it, and without PyTorch, which it would import only to name its types.
    with _without("torch"):
      from tensorboardX.proto import event_pb2, summary_pb2
      from tensorboardX.record_writer import RecordWriter
    self._event, self._summary = event_pb2.Event, summary_pb2.Summary
    self._path = folder / f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}"
    self._file: Any = None
    with self._dropped_on_failure():
      self._file = RecordWriter(str(self._path))
      self._add(file_version="brain.Event:2")
      if step:
        self._add(step=step + 1, session_log=event_pb2.SessionLog(status=event_pb2.SessionLog.START))

  def write(self, step: int, values: Mapping[str, float]) -> None:
    """Records values at `step`."""
    with self._dropped_on_failure():
      self._add(step=step, summary=self._summary(
          value=[self._summary.Value(tag=name, simple_value=value) for name, value in values.items()]))

  def flush(self) -> None:
    """Puts on disk what is written."""
    with self._dropped_on_failure():
      if self._file:
        self._file.flush()

  def close(self) -> None:
    """Closes the file."""
    with self._dropped_on_failure():
      if self._file:
        self._file.close()

  def _add(self, **fields: Any) -> None:
    if self._file:
      self._file.write(self._event(wall_time=time.time(), **fields).SerializeToString())

  @contextlib.contextmanager
  def _dropped_on_failure(self) -> Iterator[None]:
    """Ends the events, and says so once, when they cannot be written."""
    try:
      yield
    except OSError as error:
      file, self._file = self._file, None
      if file:
        with contextlib.suppress(OSError):
          file.close()
      log.warning("no more TensorBoard events: cannot write %s (%s); metrics.jsonl holds the same values", self._path,
                  error.strerror)


@contextlib.contextmanager
def _without(module: str) -> Iterator[None]:
  """Lets what is imported meanwhile do without a module, unless the program has it already."""
  absent = module not in sys.modules
  if absent:
    sys.modules[module] = None  # type: ignore[assignment]  # importing it raises ImportError
  try:
    yield
  finally:
    if absent:
      del sys.modules[module]


def read_lines(path: pathlib.Path) -> list[dict[str, Any]]:
  """The objects of a metrics file; none if it is absent.

  Damaged lines are left out, with a warning that has their numbers. A last line that was cut short is left out without
  one: a killed run leaves it, and its step is past the last checkpoint.

  Raises:
    UserError: it cannot be read.
  """
  try:
    content = path.read_bytes() if path.exists() else b""
  except OSError as error:
    raise UserError(f"cannot read {path} ({error.strerror})") from error
  *whole, last = content.split(b"\n")
  lines, damaged = [], []
  for number, text in enumerate([*whole, last], 1):
    if not text.strip():
      continue
    line = _parsed(text)
    if line is not None:
      lines.append(line)
    elif number <= len(whole):
      damaged.append(number)
  if damaged:
    told = ", ".join(map(str, damaged[:10])) + (f" and {len(damaged) - 10} more" if len(damaged) > 10 else "")
    log.warning("%s: line %s cannot be read and is left out; the others are kept", path, told)
  return lines


def _parsed(text: bytes) -> dict[str, Any] | None:
  """The object of a line, or None where it is not what a recorder writes."""
  try:
    line = json.loads(text.decode())
  except (ValueError, RecursionError):
    return None
  if not isinstance(line, dict) or type(line.get("step")) is not int:
    return None
  return line if all(isinstance(value, int | float) for value in line.values()) else None
