"""Stopping in good order when the scheduler, or the user, asks for it."""

import itertools
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType

import jax
from jax.experimental import multihost_utils

# How often all processes asked together whether to stop; jax.distributed counts over the life of the process.
_asked = itertools.count(1)


class Preempted(Exception):
  """The run was asked to stop, and has saved."""


class StopSignal:
  """Notes SIGTERM and SIGINT; a second SIGINT interrupts at once.

  With several processes SIGTERM is left to jax.distributed: whichever process gets it, all are told to stop at the same
  call of `requested`.
  """

  def __init__(self) -> None:
    self._noted = False
    self._previous: dict[int, Callable[..., object] | int | None] = {}

  def __enter__(self) -> "StopSignal":
    if threading.current_thread() is threading.main_thread():
      handlers = {signal.SIGTERM: self._note} if jax.process_count() == 1 else {}
      handlers[signal.SIGINT] = self._note
      self._previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    return self

  def __exit__(self, *_: object) -> None:
    for number, handler in self._previous.items():
      signal.signal(number, handler)

  def _note(self, number: int, frame: FrameType | None) -> None:
    if self._noted and number == signal.SIGINT:
      raise KeyboardInterrupt
    if not self._noted and jax.process_count() > 1:
      os.kill(os.getpid(), signal.SIGTERM)
    self._noted = True

  def requested(self) -> bool:
    """Whether to stop now. Every process must ask at the same points of its work, and gets the same answer."""
    if jax.process_count() > 1:
      return multihost_utils.reached_preemption_sync_point(next(_asked))
    return self._noted

  def check(self) -> None:
    """Raises `Preempted` where `requested`."""
    if self.requested():
      raise Preempted
