"""The other processes of a run. If one of them fails, this one ends soon, with a line that names it.

A process that dies leaves the others in a collective operation that never ends, or that fails in a library without a
reason. So each process regularly writes to the key-value store of jax.distributed, which process 0 serves, that it is
alive. A process that fails leaves its message there. A thread of each process reads what the others wrote.
"""

import atexit
import contextlib
import os
import re
import socket
import sys
import threading
import time
from typing import Any

from dgjax.errors import printable
from dgjax.preemption import PREEMPTED, processes

BEAT = 1.0  # seconds between two signs of life, with up to `CROWD` processes; with more, longer
CROWD = 64
SILENT = 60.0  # seconds without a sign of life after which a process counts as dead
_NOTICE = "RECEIVED_PREEMPTION_NOTICE"  # key by which jax.distributed tells all processes that one got SIGTERM


def explain(text: str) -> str:
  """Why a library ended this process, in one line.

  Args:
    text: the last text that libraries wrote before abort() was called.
  """
  if silent := re.search(r"stopped sending heartbeats\):\s*(\d+)", text):
    return f"process {silent[1]} of {processes()} has stopped answering: it hangs, or its host is gone"
  if "JAX distributed service detected fatal errors" in text:
    return "process 0, which all others need, is gone or hangs"
  lines = [line for line in text.splitlines() if re.match(r"[EF]\d{4} |terminate called|  what\(\)", line)]
  last = (lines or text.splitlines() or ["it does not say why"])[-1]
  return f"a library ended the process: {re.sub(r'^[EF][0-9]{4} [^]]*[]] ', '', last).strip()[:300]}"


class Peers:
  """This process among those of its run. Its thread runs from `start` until `stop`."""

  def __init__(self, client: Any, index: int, count: int):
    """
    Args:
      client: client of the store (`jax._src.distributed.global_state.client`).
      index, count: number of this process, and of all processes.
    """
    self._client, self._index, self._count = client, index, count
    self._beat = BEAT * max(1.0, count / CROWD)
    self._name = f"process {index} of {count} (number {os.getpid()} on host {socket.gethostname()})"
    self._stopped, self._ending = threading.Event(), threading.Lock()

  def start(self) -> None:
    """Begins to write and to watch for signs of life."""
    threading.Thread(target=self._watch, daemon=True, name="peers").start()
    atexit.register(self.stop)  # before jax.distributed parts, as that was registered earlier

  def stop(self) -> None:
    """Ends the watch. From here on the others do not miss this process."""
    if not self._stopped.is_set():
      self._stopped.set()
      self._set(f"dgjax/alive/{self._index}", "done")

  def fail(self, message: str, known: bool) -> str:
    """Tells the other processes that this one failed.

    Args:
      message: one line.
      known: whether this is the cause. Otherwise the cause may be another process, which is looked for a few seconds.

    Returns:
      The line to show.
    """
    if not self._ending.acquire(blocking=False):
      threading.Event().wait()  # the watch is about to end this process
    if not known:
      message = self._cause() or message
    self._set(f"dgjax/failed/{self._index:06d}", message if message.startswith("process ") else
              f"{self._name} failed: {message}")
    self._stopped.set()
    return message

  def began(self) -> None:
    """Says that there are steps to save. From here on a stop waits until they are saved."""
    self._set("dgjax/began", "yes")

  def _watch(self) -> None:
    beats = 0
    seen: dict[str, str] = {}
    since: dict[str, float] = {}
    while not self._stopped.wait(self._beat):
      beats += 1
      try:
        self._client.key_value_set(f"dgjax/alive/{self._index}", f"{beats} {self._name}", allow_overwrite=True)
        failed = self._client.key_value_dir_get("dgjax/failed/")
        stopped = self._get(_NOTICE) and not self._get("dgjax/began")
        found = self._alive() if self._index == 0 else {}
      except Exception:  # JaxRuntimeError; a second time it is no accident
        if self._gone():
          self._end("process 0, which all others need, is gone")
        continue
      if stopped:
        self._end("stopped by SIGTERM: no step was done since the last checkpoint; the same command goes on from there",
                  PREEMPTED)
      if failed:
        self._end(min(failed)[1])
      now = time.monotonic()
      for key, sign in found.items():
        if seen.get(key) != sign:
          seen[key], since[key] = sign, now
        elif sign != "done" and now - since[key] > SILENT:
          message = f"{sign.partition(' ')[2]} has not answered for {SILENT:.0f} s: it hangs, or its host is gone"
          self._set(f"dgjax/failed/{self._index:06d}", message)
          time.sleep(2 * self._beat)  # the store ends with this process
          self._end(message)

  def _cause(self) -> str:
    """Which other process failed and how, if that shows within three signs of life; "" if none did."""
    try:
      before, deadline = self._alive(), time.monotonic() + 3 * self._beat
      while time.monotonic() < deadline:
        if failed := self._client.key_value_dir_get("dgjax/failed/"):
          return min(failed)[1]
        time.sleep(self._beat / 4)
      silent = [sign.partition(" ")[2] for key, sign in self._alive().items()
                if sign == before.get(key) != "done" and key != f"dgjax/alive/{self._index}"]
    except Exception:
      return "process 0, which all others need, is gone" if self._gone() else ""
    return f"{silent[0]} is gone" if silent else ""

  def _gone(self) -> bool:
    """Whether process 0 no longer serves the store."""
    try:
      self._client.key_value_dir_get("dgjax/failed/")
    except Exception:
      return self._index != 0
    return False

  def _alive(self) -> dict[str, str]:
    return dict(self._client.key_value_dir_get("dgjax/alive/"))

  def _get(self, key: str) -> str:
    try:
      return self._client.key_value_try_get(key)
    except Exception:  # JaxRuntimeError: there is none
      return ""

  def _set(self, key: str, value: str) -> None:
    with contextlib.suppress(Exception):  # process 0 is gone, which the others find out for themselves
      self._client.key_value_set(key, value, allow_overwrite=True)

  def _end(self, message: str, status: int = 1) -> None:
    """Ends this process, unless its main thread is about to."""
    if self._ending.acquire(blocking=False):
      print(printable(message if status == PREEMPTED else f"error: {message}"), file=sys.stderr, flush=True)
      os._exit(status)
    self._stopped.set()
