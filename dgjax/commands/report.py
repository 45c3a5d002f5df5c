"""`dgjax report`: finished runs as one HTML page that needs no network."""

import pathlib
from collections.abc import Sequence

from dgjax import commands
from dgjax.errors import UserError

EPILOG = """The page has, for each data set, the table beside the closest published one, curves with bands over seeds,
sweeps, masks and their overlap, sample images where a run's data are at hand, the runs that are missing and why, and
for every cell its commands, config and versions."""


def main(argv: Sequence[str]) -> int:
  """Writes the page."""
  from dgjax.analysis import tables
  parser = commands.parser("report", __doc__, EPILOG)
  parser.add_argument("runs", nargs="+", type=pathlib.Path, help="folders with run folders, at any depth")
  parser.add_argument("--out", required=True, type=pathlib.Path, help="the HTML file to write")
  tables.add_choices(parser)
  options = parser.parse_args(argv)

  from dgjax.analysis import report
  from dgjax.files import write_text_atomically
  text = report.report([folder.expanduser() for folder in options.runs], options)
  try:
    options.out.parent.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise UserError(f"cannot make the folder of {options.out} ({error.strerror}): set --out") from error
  write_text_atomically(options.out, text)
  print(f"written: {options.out}")
  return 0
