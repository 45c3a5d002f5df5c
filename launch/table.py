"""The command `dgjax table`, from a clone: `python launch/table.py --help` says what it does."""

import sys

from dgjax.commands.table import main

if __name__ == "__main__":
  sys.exit(main(sys.argv[1:], prog="python launch/table.py"))
