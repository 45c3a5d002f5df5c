"""The record of a run: one JSON object a line, and the same as TensorBoard events."""

import json
import math
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
from tensorboardX import SummaryWriter

from dgjax.errors import UserError


class Recorder:
  """Writes metrics on process 0; metrics of training steps stay on the device until `flush`."""

  def __init__(self, folder: pathlib.Path, step: int, evaluated: bool = True):
    """Opens the record of a run; lines that will come again are dropped.

    Args:
      folder: of the run.
      step: where it stands; later steps will come again.
      evaluated: whether the checkpoint knows of that step's evaluation; else that will come again, too.
    """
    self._pending: list[tuple[int, Mapping[str, jax.Array]]] = []
    self._writes = jax.process_index() == 0
    if not self._writes:
      return
    path = folder / "metrics.jsonl"
    kept = [line for line in read_lines(path) if line["step"] < step or
            (line["step"] == step and (evaluated or not any(key.startswith("val/") for key in line)))]
    partial = path.with_suffix(".partial")
    partial.write_text("".join(json.dumps(line) + "\n" for line in kept))
    partial.replace(path)
    self._lines = path.open("a")
    self._events = SummaryWriter(str(folder), purge_step=step + 1 if step else None)

  def write(self, step: int, values: Mapping[str, float]) -> None:
    """Records values at `step`."""
    if self._writes:
      self._lines.write(json.dumps({"step": step, **values}) + "\n")
      for name, value in values.items():
        self._events.add_scalar(name, value, step)

  def evaluation(self, step: int, val: Mapping[str, float], test: Mapping[str, float],
                 measures: Mapping[str, float]) -> None:
    """Records an evaluation: accuracies on validation and test splits by domain, and what the state says of itself."""
    self.write(step, {**{f"val/{domain}/accuracy": value for domain, value in val.items()},
                      **{f"test/{domain}/accuracy": value for domain, value in test.items()}, **measures})

  def train(self, step: int, metrics: Mapping[str, jax.Array]) -> None:
    """Keeps the scalars of a training step, without waiting for them."""
    self._pending.append((step, metrics))

  def flush(self) -> None:
    """Fetches and writes what is pending.

    Raises:
      UserError: a loss was not finite; the steps before it are written.
    """
    pending, self._pending = jax.device_get(self._pending), []
    for step, metrics in pending:
      values = {f"train/{name}": float(value) for name, value in metrics.items()}
      if bad := [name for name, value in values.items() if not math.isfinite(value)]:
        self._sync()
        raise UserError(f"{bad[0]} is {values[bad[0]]} at step {step}: lower optimizer.learning_rate, or look at "
                        "the data; the last checkpoint is from before it")
      self.write(step, values)
    self._sync()

  def _sync(self) -> None:
    if self._writes:
      self._lines.flush()
      self._events.flush()

  def close(self) -> None:
    """Writes what is buffered and closes the files."""
    if self._writes:
      self._lines.close()
      self._events.close()


def read_lines(path: pathlib.Path) -> list[dict[str, Any]]:
  """The objects of a metrics file; none if it is absent. A last line that was cut short is left out."""
  if not path.exists():
    return []
  lines = []
  for text in path.read_text().splitlines():
    try:
      lines.append(json.loads(text))
    except json.JSONDecodeError:
      break
  return lines
