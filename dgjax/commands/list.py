"""`dgjax list`: every method, data set, network and config there is."""

import argparse
from collections.abc import Sequence


def main(argv: Sequence[str]) -> int:
  """Prints the list."""
  argparse.ArgumentParser(prog="dgjax list", description=__doc__).parse_args(argv)
  from dgjax.main import listing
  print(listing())
  return 0
