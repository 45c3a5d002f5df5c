"""An orderly stop when the scheduler or the user asks for it."""

import contextlib
import itertools
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

PREEMPTED = 75  # exit status after a signal, which asks for a restart (sysexits.h, EX_TEMPFAIL)

# How often all processes have asked together whether to stop; jax.distributed counts over a process's whole life.
_asked = itertools.count(1)


class Preempted(Exception):
  """The run was asked to stop, and has saved its state."""


class StopSignal:
  """Notes SIGTERM and SIGINT; a second SIGINT interrupts at once.

  With several processes SIGTERM is left to jax.distributed: whichever process gets it, all of them are told to stop at
  the same call of `requested`. Before the first step of training `dgjax.peers` ends them at once.

  Use it as a context manager. Inside another one it acts for the outer one.

  With `ends_process` the process ends as soon as a signal comes while nothing is `unsaved`, even during a compilation.
  """

  _active: "StopSignal | None" = None

  def __init__(self, ends_process: bool = False) -> None:
    """
    Args:
      ends_process: whether a signal ends the process, with status 75 and one line, while nothing is `unsaved`. It is
        for a command, whose process is its own.
    """
    self._noted, self._ends_process = False, ends_process
    self._previous: dict[int, Callable[..., object] | int | None] = {}
    self._unsaved = self._began = False

  @property
  def unsaved(self) -> bool:
    """Whether a stop has to wait until the training loop has saved."""
    return self._unsaved

  @unsaved.setter
  def unsaved(self, value: bool) -> None:
    if value and not self._began:
      self._began = True
      if processes() > 1:
        from dgjax import parallel
        parallel.began()
    self._unsaved = value

  def __enter__(self) -> "StopSignal":
    if StopSignal._active is not None:
      return StopSignal._active
    if threading.current_thread() is threading.main_thread():
      StopSignal._active = self
      handlers = {signal.SIGTERM: self._note} if processes() == 1 else {}
      handlers[signal.SIGINT] = self._note
      self._previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
      if self._ends_process:
        self._watch()
    return self

  def __exit__(self, *_: object) -> None:
    if StopSignal._active is not self:
      return
    StopSignal._active = None
    for number, handler in self._previous.items():
      signal.signal(number, handler)
    if self._ends_process:
      os.close(signal.set_wakeup_fd(-1))

  def _watch(self) -> None:
    """Handles signals in a thread of its own, because Python's handlers wait until the main thread has compiled."""
    inlet, outlet = socket.socketpair()
    inlet.setblocking(False)
    signal.set_wakeup_fd(inlet.detach(), warn_on_full_buffer=False)

    def wait() -> None:
      with outlet:
        while number := outlet.recv(1):
          if number[0] in (signal.SIGTERM, signal.SIGINT) and not self.unsaved and processes() == 1:
            print(f"stopped by {signal.Signals(number[0]).name}: no step was done since the last checkpoint; "
                  "the same command goes on from there", file=sys.stderr, flush=True)
            os._exit(PREEMPTED)

    threading.Thread(target=wait, daemon=True, name="signals").start()

  def _note(self, number: int, frame: FrameType | None) -> None:
    if self._noted and number == signal.SIGINT:
      raise KeyboardInterrupt
    if not self._noted and processes() > 1:
      os.kill(os.getpid(), signal.SIGTERM)
    self._noted = True

  def requested(self) -> bool:
    """Whether to stop now. Every process must ask at the same points of its work. All get the same answer."""
    if processes() > 1:
      from jax.experimental import multihost_utils
      return multihost_utils.reached_preemption_sync_point(next(_asked))
    return self._noted

  def check(self) -> None:
    """Raises `Preempted` if a stop is `requested`."""
    if self.requested():
      raise Preempted

  @contextlib.contextmanager
  def saves(self) -> Iterator[None]:
    """A context in which a stop waits for `unsaved` work. At its end everything is saved."""
    try:
      yield
    finally:
      self.unsaved = False


def processes() -> int:
  """The number of processes of this run so far. They join in `parallel.start_processes`.

  `jax.process_count` would start JAX's backend, which must wait until they have joined.
  """
  return sys.modules["jax._src.distributed"].global_state.num_processes if "jax._src.distributed" in sys.modules else 1
