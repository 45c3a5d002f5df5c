"""Small files that are written whole or not at all, and read with an error that names them."""

import contextlib
import json
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from dgjax.errors import UserError


def write_text_atomically(path: pathlib.Path, text: str) -> None:
  """Writes a file so that a reader, also after a crash of the machine, finds the old contents or the new.

  Raises:
    UserError: it cannot be written.
  """
  if not path.name:
    raise UserError(f"{path} is no name of a file to write")
  partial = path.with_name(f"{path.name}.partial")
  try:
    with partial.open("w", encoding="utf-8", newline="") as file:
      file.write(text)
      file.flush()
      os.fsync(file.fileno())
    partial.replace(path)
  except OSError as error:
    with contextlib.suppress(OSError):
      partial.unlink()
    raise UserError(f"cannot write {path} ({error.strerror}): make room or make its folder writable, and start the "
                    "same command again") from error


def write_atomically(path: pathlib.Path, value: Any) -> None:
  """Writes JSON, as `write_text_atomically`."""
  write_text_atomically(path, json.dumps(value, indent=2) + "\n")


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """Yields a file to write that takes the place of `path` at the end; after an error nothing is left of it.

  Raises:
    UserError: it cannot be written.
  """
  partial = path.with_name(f"{path.name}.partial")
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    yield partial
    partial.replace(path)
  except OSError as error:
    raise UserError(f"cannot write {path} ({error.strerror or error}): set another place to write to") from error
  finally:
    with contextlib.suppress(OSError):
      partial.unlink(missing_ok=True)


def read_json(path: pathlib.Path, what: str, shape: Mapping[str, Any] | None = None) -> dict[str, Any]:
  """Reads a JSON object.

  Args:
    path: of the file.
    what: it is, for messages: "the settings of the run".
    shape: what the object must hold: a type, types, or such a mapping for each key, or under "*" for whatever keys
      there are. What may be None may be absent.

  Raises:
    UserError: it is absent, empty, cut short, no object, or of another shape.
  """
  try:
    text = path.read_bytes().decode()
    if not text.strip():
      raise UserError(_damaged(path, what, "it is empty"))
    value = json.loads(text)
  except OSError as error:
    raise UserError(f"cannot read {path}, {what} ({error.strerror})") from error
  except json.JSONDecodeError as error:
    raise UserError(_damaged(path, what, f"line {error.lineno} is no JSON")) from error
  except (UnicodeDecodeError, RecursionError) as error:
    raise UserError(_damaged(path, what, "it is no JSON")) from error
  if not isinstance(value, dict):
    raise UserError(_damaged(path, what, f"it holds no object but {type(value).__name__}"))
  if problem := _misfit(value, shape or {}):
    raise UserError(_damaged(path, what, problem))
  return value


def _misfit(value: Mapping[str, Any], shape: Mapping[str, Any], above: str = "") -> str:
  """What an object lacks of a shape; "" if nothing."""
  for key, wanted in shape.items():
    for name in value if key == "*" else (key,):
      found, types = value.get(name), dict if isinstance(wanted, Mapping) else wanted
      if not isinstance(found, types):
        kind = type(found).__name__
        return f"its {above + name!r} is of the type {kind}" if name in value else f"it has no {above + name!r}"
      if isinstance(wanted, Mapping) and (problem := _misfit(found, wanted, f"{above}{name}/")):
        return problem
  return ""


def _damaged(path: pathlib.Path, what: str, problem: str) -> str:
  return f"{path}, {what}, is damaged ({problem}): put a copy in its place, or delete it"
