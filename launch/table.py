"""`dgjax table` from a clone that is not installed: `python launch/table.py --help` says what it does."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from dgjax.commands.table import main

if __name__ == "__main__":
  sys.exit(main(sys.argv[1:], prog="python launch/table.py"))
