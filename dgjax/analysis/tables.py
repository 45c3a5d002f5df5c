"""Tables of results over methods, target domains and seeds, beside the published numbers.

  python -m dgjax.analysis.tables RUNS_DIR [--selection=source_val] [--format=text|markdown|csv|latex]
    [--paper=dmg:table2] [--group-by=KEY,...] [--modes=all] [--in-domain] [--commands]

A row is a method, a column the unseen target domain; runs that differ in nothing but the seed are averaged.
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from dgjax.analysis.rendering import FORMATS, commands, render
from dgjax.analysis.results import build, read_runs
from dgjax.errors import UserError
from dgjax.evaluation.selection import RULES
from dgjax.reference import find_table


class _Parser(argparse.ArgumentParser):
  def error(self, message: str) -> Any:
    raise UserError(f"{message}: see --help")


def main(argv: Sequence[str]) -> int:
  """Prints the tables of a folder of runs.

  Args:
    argv: the command's arguments, see the top of this file.

  Returns:
    Exit status: 0, or 1 after one line on stderr.
  """
  parser = _Parser(prog="python -m dgjax.analysis.tables", description="Tables over methods, target domains and seeds.")
  parser.add_argument("runs", type=pathlib.Path, help="folder with run folders, at any depth")
  parser.add_argument("--selection", default="source_val", help=f"which step counts: {', '.join(RULES)}")
  parser.add_argument("--format", default="text", help=", ".join(FORMATS))
  parser.add_argument("--paper", default="", help="published numbers beside ours, such as dmg:table2")
  parser.add_argument("--group-by", default="", metavar="KEY,...", help="config keys with a row for every value")
  parser.add_argument("--modes", default=None, metavar="MODE,...",
                      help="ways of predicting that get rows of their own, such as pred_ens,mask_ens; all: every one")
  parser.add_argument("--in-domain", action="store_true", help="accuracy on the sources' test splits")
  parser.add_argument("--commands", action="store_true", help="also print the command of every run")
  try:
    options = parser.parse_args(argv)
    paper = find_table(*options.paper.partition(":")[::2]) if options.paper else None
    if options.format == "csv" and options.commands:
      raise UserError("--commands does not go with --format=csv: use another format")
    runs, unfinished = read_runs(options.runs)
    modes = None if options.modes is None else () if options.modes == "all" else options.modes.split(",")
    tables = build(runs, selection=options.selection, group_by=options.group_by.split(",") if options.group_by else (),
                   modes=modes, in_domain=options.in_domain, paper=paper)
    for i, table in enumerate(tables):
      print("\n" * (i > 0) + render(table, options.format))
      if options.commands:
        lines = commands(table).splitlines()
        if options.format == "markdown":
          lines = ["", "```", *lines, "```"]
        elif options.format == "latex":
          lines = [f"% {line}" for line in lines]
        print("\n".join(lines))
    for folder in unfinished:
      print(f"note: {folder} is not finished", file=sys.stderr)
  except UserError as error:
    print(f"error: {error}", file=sys.stderr)
    return 1
  return 0


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
