"""`dgjax train`: the flags of `python -m dgjax.main`."""

import sys
from collections.abc import Sequence

from dgjax import console
from dgjax.memory import use_huge_pages
from dgjax.preemption import StopSignal


def main(argv: Sequence[str]) -> int:
  """Trains as the flags say; the process ends with the status that `dgjax.main` documents."""
  console.tell_early()
  use_huge_pages()  # starts the process anew, so before anything that takes time to import
  with StopSignal(ends_process=True):
    from dgjax import main as command
    sys.argv = ["dgjax train", *argv]
    command.run()
  return 0
