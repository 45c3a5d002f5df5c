"""What the commands of this package share: mistakes are one line, and help is the module's own text."""

import argparse
from typing import Any

from dgjax.errors import UserError


class Parser(argparse.ArgumentParser):
  """A parser that tells a mistake as everything here does."""

  def error(self, message: str) -> Any:
    """Raises UserError."""
    raise UserError(f"{message}: see --help")


def parser(name: str, description: str | None) -> Parser:
  """The parser of `python -m dgjax.analysis.NAME`, with the module's docstring as its help."""
  return Parser(prog=f"python -m dgjax.analysis.{name}", description=description, allow_abbrev=False,
                formatter_class=argparse.RawDescriptionHelpFormatter)
