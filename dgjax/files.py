"""JSON files that are written whole and read with an error that names them."""

import json
import os
import pathlib
from typing import Any

from dgjax.errors import UserError


def read_json(path: pathlib.Path) -> Any:
  """Reads a JSON object.

  Raises:
    UserError: the file cannot be read, or holds something else.
  """
  try:
    value = json.loads(path.read_text())
  except (OSError, ValueError) as error:
    raise UserError(f"{path} cannot be read ({error})") from error
  if not isinstance(value, dict):
    raise UserError(f"{path} holds no JSON object")
  return value


def write_atomically(path: pathlib.Path, value: Any) -> None:
  """Writes JSON so that a reader finds all of it or none."""
  partial = path.with_suffix(".partial")
  with partial.open("w") as file:
    file.write(json.dumps(value, indent=2) + "\n")
    file.flush()
    os.fsync(file.fileno())
  partial.replace(path)
