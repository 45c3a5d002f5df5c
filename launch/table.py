"""The command `dgjax table`, from a clone: `python launch/table.py --help` says what it does."""

import functools
import sys

from dgjax import console
from dgjax.commands.table import main

if __name__ == "__main__":
  sys.exit(console.run(functools.partial(main, prog="python launch/table.py")))
