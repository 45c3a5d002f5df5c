"""`dgjax cite`: what a run is to cite, as BibTeX."""

import pathlib
from collections.abc import Iterator, Sequence

from dgjax import commands
from dgjax.errors import UserError

EPILOG = """The output is a BibTeX file: the run's method with what its settings add, its data set, its network
and dgjax. A line that begins with % says what the entries after it are for, or that nothing is known to cite."""


def main(argv: Sequence[str]) -> int:
  """Prints the entries of one or several runs, each entry once."""
  parser = commands.parser("cite", __doc__, EPILOG)
  parser.add_argument("runs", nargs="+", type=pathlib.Path, metavar="RUN", help="folder of a run, or of several")
  options = parser.parse_args(argv)

  from dgjax.files import read_json
  from dgjax.reference import citations
  purposes: dict[str, list[str]] = {}
  for path in configs(options.runs):
    named = {section: {"name": str} for section in ("algorithm", "data", "model")}
    settings = read_json(path, "the settings of the run", named)
    for purpose, keys in citations.cited(settings).items():
      purposes[purpose] = list(dict.fromkeys([*purposes.get(purpose, []), *keys]))
  printed: set[str] = set()
  for purpose, keys in purposes.items():
    fresh = [key for key in keys if key not in printed]
    print(f"% {purpose}" + ("" if fresh else f": {'cited above' if keys else 'nothing is known to cite'}"))
    print(citations.bibtex(fresh) + "\n" if fresh else "")
    printed |= set(fresh)
  return 0


def configs(places: Sequence[pathlib.Path]) -> Iterator[pathlib.Path]:
  """Yields the `config.json` of every run in some folders.

  Raises:
    UserError: a folder is of no run and holds none.
  """
  for place in places:
    folder = place.expanduser()
    own = folder / "config.json"
    found = [own] if own.exists() else sorted(folder.rglob("config.json"))
    if not found:
      raise UserError(f"{folder} is no folder of a run, nor of several: none of its folders holds a config.json")
    yield from found
