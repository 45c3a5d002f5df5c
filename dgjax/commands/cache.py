"""`dgjax cache`: the data sets that were prepared, their sizes, and which of them nothing uses."""

from collections.abc import Sequence

from dgjax import commands


def main(argv: Sequence[str]) -> int:
  """Lists, or prunes."""
  parser = commands.parser("cache", __doc__)
  parser.add_argument("--dir", default="", help="the cache; default: $DGJAX_CACHE, or ~/.cache/dgjax")
  parser.add_argument("--prune", action="store_true", help="delete what no data set uses")
  options = parser.parse_args(argv)

  from dgjax.data import cache
  print(cache.prune(options.dir) if options.prune else cache.describe(options.dir))
  return 0
