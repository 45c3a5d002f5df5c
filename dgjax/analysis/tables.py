"""Tables of results over methods, target domains and seeds, beside the published numbers.

  python -m dgjax.analysis.tables RUNS_DIR... [--selection=RULE] [--format=text|markdown|csv|latex]
    [--paper=dmg:table2] [--group-by=KEY,...] [--modes=all] [--in-domain] [--commands]

A row is a method, a column the target domain, or "source->target" where a run's config names its sources; runs
that differ in nothing but the seed are averaged. Rules and ways of predicting other than the runs' own are applied to
the evaluations in their `metrics.jsonl`: nothing is trained again. Of the rules, target_oracle and target_val look at
target labels.
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence

from dgjax import console
from dgjax.analysis import command
from dgjax.analysis.recorded import Finished, Unfinished, read_runs, reported
from dgjax.analysis.rendering import FORMATS, commands, render
from dgjax.analysis.results import Results
from dgjax.analysis.tabulating import build
from dgjax.errors import UserError, nearest, printable
from dgjax.evaluation.selection import OFFLINE
from dgjax.reference import Table, find_table


def add_choices(parser: argparse.ArgumentParser) -> None:
  """Adds the options that say what of the runs is shown."""
  parser.add_argument("--selection", default="", help=f"rule to apply: {', '.join(OFFLINE)}; default: what runs "
                                                      "report, or source_val where they differ")
  parser.add_argument("--paper", default="", help="published table to print beside ours, such as dmg:2")
  parser.add_argument("--group-by", default="", metavar="KEY,...",
                      help="config keys with a row for each value; config: a row for each file and its arguments")
  parser.add_argument("--modes", default=None, metavar="MODE,...",
                      help="ways of predicting with rows of their own, such as pred_ens,mask_ens; all: every way")
  parser.add_argument("--in-domain", action="store_true", help="accuracy on the sources' test splits")


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Adds the options that say what of the runs is printed and how."""
  add_choices(parser)
  parser.add_argument("--format", default="text", help=", ".join(FORMATS))
  parser.add_argument("--commands", action="store_true", help="also print the command of every run")


def check(options: argparse.Namespace) -> Table | None:
  """Checks what can be before there are runs.

  Args:
    options: what `add_choices` or `add_arguments` asked for.

  Returns:
    The published table that is asked for.

  Raises:
    UserError: an unknown name, or options that do not go together.
  """
  form = getattr(options, "format", "text")
  for what, name, known in (("selection rule", options.selection, ("", *OFFLINE)), ("format", form, FORMATS)):
    if name not in known:
      raise UserError(f"no {what} {name!r}{nearest(name, filter(None, known))}")
  if form == "csv" and options.commands:
    raise UserError("--commands does not go with --format=csv: use another format")
  return find_table(*options.paper.partition(":")[::2]) if options.paper else None


def read(folders: Sequence[pathlib.Path]) -> tuple[list[Finished], list[Unfinished]]:
  """Finds the runs of several folders, each once; see `read_runs`."""
  parts = [read_runs(folder) for folder in folders]
  runs = {run.folder.resolve(): run for found, _ in parts for run in found}
  unfinished = {run.folder.resolve(): run for _, found in parts for run in found}
  return list(runs.values()), list(unfinished.values())


def tables(runs: Sequence[Finished], unfinished: Sequence[Unfinished], options: argparse.Namespace,
           order: Sequence[str] = ()) -> list[Results]:
  """Makes the tables that a command's options ask for.

  Args:
    runs: finished runs.
    unfinished: others.
    options: what `add_arguments` asked for.
    order: configs in the order of their rows, see `build`.

  Raises:
    UserError: runs that do not make a table.
  """
  modes = None if options.modes is None else () if options.modes == "all" else options.modes.split(",")
  group_by = options.group_by.split(",") if options.group_by else ()
  return build(runs, unfinished, selection=options.selection or reported(runs), group_by=group_by, modes=modes,
               in_domain=options.in_domain, paper=check(options), order=order)


def show(folders: Sequence[pathlib.Path], options: argparse.Namespace, order: Sequence[str] = ()) -> None:
  """Prints the tables of folders of runs.

  Args:
    folders: they hold run folders, at any depth.
    options: what `add_arguments` asked for.
    order: configs in the order of their rows, see `build`.

  Raises:
    UserError: no finished run, or runs that do not make a table.
  """
  check(options)
  runs, unfinished = read(folders)
  for i, table in enumerate(tables(runs, unfinished, options, order)):
    print("\n" * (i > 0) + render(table, options.format))
    if options.commands:
      lines = commands(table).splitlines()
      if options.format == "markdown":
        lines = ["", "```", *lines, "```"]
      elif options.format == "latex":
        lines = [f"% {line}" for line in lines]
      print("\n".join(lines))
  for run in unfinished:
    print(printable(f"note: {run.folder} {run.reason}"), file=sys.stderr)


def main(argv: Sequence[str]) -> None:
  """Prints the tables of folders of runs; see the top of this file."""
  parser = command.parser("tables", __doc__)
  parser.add_argument("runs", nargs="+", type=pathlib.Path, help="folder with run folders, at any depth")
  add_arguments(parser)
  options = parser.parse_args(argv)
  show(options.runs, options)


if __name__ == "__main__":
  sys.exit(console.run(main))
