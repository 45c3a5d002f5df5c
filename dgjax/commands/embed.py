"""`dgjax embed`: `python -m dgjax.analysis.embed`."""

from collections.abc import Sequence


def main(argv: Sequence[str]) -> int:
  """Draws the figure of one run."""
  from dgjax.analysis import embed
  embed.main(argv)
  return 0
