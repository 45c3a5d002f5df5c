"""How the process handles memory that XLA's CPU backend frees after each step."""
import ctypes
import sys

import jax

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # glibc's malloc.h


def keep_freed() -> bool:
  """Has glibc keep freed memory for the next step, rather than hand it back to the system and fault it in again.

  XLA's CPU backend allocates a step's results and temporaries anew each time, hundreds of MB that the system clears
  page by page: as much time as the fastest of the operations themselves take (docs/performance.md). The process then
  stays as large as its largest step. Meant for the start of a command, not of a library.

  Returns:
    Whether it was done: on Linux with glibc and the CPU platform.
  """
  if not sys.platform.startswith("linux") or jax.default_backend() != "cpu":
    return False
  option = getattr(ctypes.CDLL(None), "mallopt", None)
  return option is not None and bool(option(_MMAP_MAX, 0)) and bool(option(_TRIM_THRESHOLD, -1))
