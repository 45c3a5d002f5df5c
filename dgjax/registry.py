"""Methods, networks and data sets by name: those that come with the library, and those in a user's own file."""

import contextlib
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from dgjax.errors import UserError, nearest

T = TypeVar("T")


def is_path(name: str) -> bool:
  """Whether a name is FILE.py:NAME, something in a user's own file."""
  return name.rpartition(":")[0].endswith(".py")


def absolute(name: str) -> str:
  """The name to record. A file of your own is recorded by its absolute path, so that it is found from any folder."""
  if not is_path(name):
    return name
  file, _, attribute = name.rpartition(":")
  return f"{Path(file).expanduser().resolve()}:{attribute}"


def resolve(name: str, table: Mapping[str, T], kind: str, key: str) -> T | Any:
  """Finds what a name stands for.

  Args:
    name: a key of `table`, or FILE.py:NAME for the attribute NAME of a file; a relative path starts at the working
      directory, and ~ is the home directory.
    table: what comes with the library.
    kind: what it is, for messages: "data set".
    key: where the name was written, for messages: "config.data.name".

  Returns:
    The table's entry, or the attribute. A file is imported once a process.

  Raises:
    UserError: there is no such entry, file or attribute, or the file cannot be imported.
  """
  if name in table:
    return table[name]
  if name.endswith(".py"):
    raise UserError(f"unknown {kind} {name!r} in {key}: say which name of that file it is, as in {name}:NAME")
  if not is_path(name):
    raise UserError(f"unknown {kind} {name!r} in {key}{nearest(name, table)}")
  file, _, attribute = name.rpartition(":")
  module = _module(Path(file).expanduser().resolve(), key)
  if not hasattr(module, attribute):
    known = [key for key, value in vars(module).items()
             if not key.startswith("_") and getattr(value, "__module__", None) == module.__name__]
    raise UserError(f"{key}: {file} has no {attribute!r}{nearest(attribute, known) if known else ''}")
  return getattr(module, attribute)


def _module(path: Path, key: str) -> Any:
  """Imports a file by its path."""
  name = f"dgjax_file:{path}"  # of the whole path: two files of one name are two modules
  if name in sys.modules:
    return sys.modules[name]
  if not path.is_file():
    near = sorted(str(other) for other in path.parent.glob("*.py"))
    hint = nearest(str(path), near) if near else ""
    raise UserError(f"{key}: there is no file {path}{hint}")
  spec = importlib.util.spec_from_file_location(name, path)
  assert spec and spec.loader
  module = sys.modules[name] = importlib.util.module_from_spec(spec)  # dataclasses look their module up there
  try:
    with told(path, f"{key}: cannot import"):
      spec.loader.exec_module(module)
  except Exception:
    del sys.modules[name]
    raise
  return module


@contextlib.contextmanager
def told(path: Path, what: str) -> Iterator[None]:
  """Turns an error of a user's file into one line.

  Args:
    path: of the file.
    what: begins the line, before the file.

  Raises:
    UserError: with the file, its line and the error; or as the file raised it.
  """
  try:
    yield
  except UserError:
    raise
  except Exception as error:
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    line = getattr(error, "lineno", None) or (lines[-1] if lines else None)
    where = f"{path} line {line}" if line else str(path)
    # A locked ConfigDict lists all of its fields, on many lines, for a key that it lacks.
    text = re.sub(r"Other fields present: .*?}\"|\n", " ", str(error), flags=re.DOTALL)
    raise UserError(f"{what} {where} ({type(error).__name__}: {' '.join(text.split())}): mend the file") from error


def subclass(found: Any, base: type, name: str, key: str) -> Any:
  """Returns `found`, what `resolve` found in a user's file, if it is a class that can be made and a subclass of `base`.

  Raises:
    UserError: it is something else, or lacks methods.
  """
  if not (inspect.isclass(found) and issubclass(found, base)):
    raise UserError(f"{key}: {name} is no subclass of {base.__module__}.{base.__qualname__}")
  if lacking := sorted(getattr(found, "__abstractmethods__", ())):
    raise UserError(f"{key}: {name} lacks {', '.join(lacking)}, which {base.__module__}.{base.__qualname__} demands")
  return found
