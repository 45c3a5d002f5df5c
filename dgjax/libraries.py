"""Keeps the output of compiled libraries off the terminal; if it is why a process ended, one line reports it."""

import ctypes
import faulthandler
import io
import os
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from typing import Any

from dgjax.errors import printable

LAST = 20_000  # bytes of libraries' output that are examined when one ends the process

_kept: list[Any] = []  # objects that live as long as the process


class _Printable(io.TextIOWrapper):
  """Writes text that may hold names of files and what is in them."""

  def write(self, text: str) -> int:
    """Writes `printable` text."""
    return super().write(printable(text))


def quiet(explain: Callable[[str], str]) -> None:
  """Lets only Python write to the terminal. It is for a command, whose process is its own.

  XLA, Gloo and gRPC write to the descriptors 1 and 2 themselves, so these become a temporary file. Python's `stdout`
  and `stderr` become copies of the original descriptors, which write unprintable characters as escapes. Tracebacks of
  threads and finalisers, such as those of orbax and asyncio, go to that file too: an error in a thread is raised where
  its result is needed. If a library calls abort(), as the client of jax.distributed does when another process is gone,
  the process ends with status 1 and one line.

  Args:
    explain: a function from the last text that libraries wrote to that line.
  """
  try:
    hidden = os.memfd_create("libraries") if hasattr(os, "memfd_create") else _temporary()
  except OSError:  # neither disk space nor memory is left for it; the output of libraries matters least then
    return
  for name, number in (("stdout", 1), ("stderr", 2)):
    stream = getattr(sys, name)
    stream.flush()
    kind = _Printable if number == 1 else io.TextIOWrapper
    copy = kind(os.fdopen(os.dup(number), "wb", buffering=io.DEFAULT_BUFFER_SIZE if number == 1 else 0),
                stream.encoding, "backslashreplace", line_buffering=stream.line_buffering, write_through=number == 2)
    setattr(sys, name, copy)
    os.dup2(hidden, number)
  threading.excepthook = sys.unraisablehook = _keep
  faulthandler.enable(sys.stderr)  # a segmentation fault is reported where it was before

  def aborted(number: int) -> None:
    """Runs in the thread that called abort()."""
    size = os.lseek(hidden, 0, os.SEEK_END)
    text = os.pread(hidden, LAST, max(0, size - LAST)).decode("utf-8", "replace")
    print("error: " + printable(explain(text)), file=sys.stderr, flush=True)
    os._exit(1)

  if os.name == "posix":
    handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(aborted)
    _kept.append(handler)
    ctypes.CDLL(None).signal(int(signal.SIGABRT), handler)  # Python's own handlers wait for the main thread


def _keep(raised: Any) -> None:
  """Writes the traceback of a thread or a finaliser to where libraries write."""
  traceback.print_exception(raised.exc_value, file=sys.__stderr__)


def _temporary() -> int:
  """The descriptor of a temporary file without a name."""
  with tempfile.TemporaryFile() as file:
    return os.dup(file.fileno())
