"""Finds config files, and names their runs. It is cheap to import, since launchers need nothing else."""

import ast
import os
import pathlib
import re

from dgjax.errors import UserError, nearest

_PACKAGE = pathlib.Path(__file__).parent
FOLDER = _PACKAGE / "configs" if (_PACKAGE / "configs").is_dir() else _PACKAGE.parent / "configs"
"""The config files that come with the library: in the installed package, or beside it in a clone."""


def names() -> list[str]:
  """Names of the config files that come with the library, sorted."""
  return sorted(file.stem for file in FOLDER.glob("*.py"))


def find(path: str) -> pathlib.Path:
  """The file of a config.

  Args:
    path: `FILE.py[:ARGUMENTS]`, or `NAME[:ARGUMENTS]` of a file that comes with the library.

  Raises:
    UserError: there is no such file.
  """
  name = path.partition(":")[0]
  file = pathlib.Path(os.path.expanduser(name))
  if file.suffix == ".py":
    known = sorted(map(str, file.parent.glob("*.py")))
    problem = f"no config file {name}{nearest(name, known) if known else f': there is no config in {file.parent}'}"
  else:
    file = FOLDER / f"{name}.py"
    problem = f"no config {name!r}{nearest(name, names())}"
  if not file.is_file():
    raise UserError(problem)
  return file


def run_name(path: str) -> str:
  """The default name of a run's folder, such as `dmg_pacs-aggregate-sgd` for `configs/dmg_pacs.py:aggregate,sgd`.

  Args:
    path: as `find` takes it.
  """
  name, _, arguments = path.partition(":")
  return "-".join([pathlib.Path(name).stem, *filter(None, re.split(r"[,/\s]+", arguments))])


def about(path: str) -> str:
  """The first line of a config file's docstring, which says what the file is for.

  Args:
    path: as `find` takes it.
  """
  documentation = ast.get_docstring(ast.parse(find(path).read_text(encoding="utf-8"))) or ""
  return documentation.partition("\n")[0]
