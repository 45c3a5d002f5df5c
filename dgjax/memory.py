"""Huge pages for the arrays of a process on a CPU."""
import os
import pathlib
import sys

TUNABLES = "GLIBC_TUNABLES"
HUGE = "glibc.malloc.hugetlb"
POLICY = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")


def use_huge_pages() -> None:
  """Starts the running command anew with huge pages for what it allocates, where the system leaves that to programs.

  XLA's CPU backend allocates a step's temporaries anew each time, hundreds of MB in one piece, which the system clears
  and maps page by page: 80,000 times in a step of ResNet-18, a tenth and more of its time (docs/performance.md). With
  pages of 2 MB it is 500 times. glibc asks for them from its version 2.35 on, and reads its setting only when a process
  starts; hence the new start, in the same process and with the same arguments. Call it before jax is imported.

  Nothing happens where `GLIBC_TUNABLES` already names `glibc.malloc.hugetlb` (0 keeps small pages), where the system
  gives huge pages to all (policy "always") or to none ("never"), in interactive interpreters and notebooks, whose state
  would be lost, and on other systems.
  """
  tunables = os.environ.get(TUNABLES, "")
  interactive = hasattr(sys, "ps1")
  if HUGE in tunables or interactive or not sys.executable or not sys.platform.startswith("linux"):
    return
  try:
    if "[madvise]" not in POLICY.read_text():
      return
  except OSError:
    return
  sys.stdout.flush()
  sys.stderr.flush()
  environment = {**os.environ, TUNABLES: ":".join(filter(None, [tunables, f"{HUGE}=1"]))}
  os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)
