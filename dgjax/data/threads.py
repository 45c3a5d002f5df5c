"""How many threads read data."""

import os


def thread_count(threads: int) -> int:
  """Returns `threads`, or where that is 0 the number of cores that this process may use."""
  if threads:
    return threads
  return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
