"""Trains with several processes on this machine, each with its own devices and its own rows of every batch.

  python launch/local.py --processes=2 -- --config=configs/dmg_digits.py --config.target=plain

What follows `--` goes to `python -m dgjax.main` in every process. On GPUs process i gets GPU i; set
JAX_LOCAL_DEVICE_IDS in the environment to say otherwise. Lines of process i begin with `[i] `.

SIGTERM or Ctrl-C is passed on as SIGTERM: all processes save at the same step and exit with 75; a second Ctrl-C ends
them at once. When one fails, the others are ended, and the last line says which ended first, how, and what it said
last. The exit status is that of the first process that did not end with 0, or 128 + the signal that ended it.
"""

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from types import FrameType
from typing import BinaryIO

from dgjax.errors import printable
from dgjax.jobs import die_with_parent
from dgjax.preemption import PREEMPTED

# How long, in seconds, the other processes may go on after one saved and stopped, or failed.
GRACE_AFTER_SAVING = 120.0
GRACE_AFTER_FAILURE = 10.0


class Group:
  """The processes of one run."""

  def __init__(self, commands: Sequence[Sequence[str]], environments: Sequence[dict[str, str]]):
    """Starts one process per command and environment, and takes over SIGTERM and SIGINT."""
    self._processes: list[subprocess.Popen[bytes]] = []
    self._stopping = False
    # Before any process is there: a signal that comes while they start must not be lost.
    for number in (signal.SIGTERM, signal.SIGINT):
      signal.signal(number, self.stop)
    # In sessions of their own: Ctrl-C in the terminal reaches this process alone, which passes it on in good order.
    for command, environment in zip(commands, environments, strict=True):
      self._processes.append(subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True, preexec_fn=die_with_parent if sys.platform == "linux" else None))
    if self._stopping:
      self._send(signal.SIGTERM)  # those that started after the signal came
    self._copiers = []
    self._last = [""] * len(self._processes)  # line of each process's stderr
    for index, process in enumerate(self._processes):
      for source, sink in ((process.stdout, sys.stdout.buffer), (process.stderr, sys.stderr.buffer)):
        thread = threading.Thread(target=self._copy, args=(index, source, sink), daemon=True)
        thread.start()
        self._copiers.append(thread)

  def stop(self, number: int, frame: FrameType | None = None) -> None:
    """Handles a signal: asks all processes to save and stop; a second Ctrl-C ends them."""
    if not self._stopping:
      self._stopping = True
      # Once, and to all that still run: a second SIGTERM would end a process that has not saved yet.
      self._send(signal.SIGTERM)
    elif number == signal.SIGINT:
      self._send(signal.SIGKILL)

  def wait(self) -> int:
    """Waits until all processes have ended, and ends those that outlive a failed one by too long.

    Returns:
      The exit status of the first one that did not end with 0.
    """
    status, first, deadline = 0, -1, float("inf")
    while running := [process for process in self._processes if process.poll() is None]:
      if not status and (failed := self._failed()):
        first, status = failed[0]
        deadline = time.monotonic() + (GRACE_AFTER_SAVING if status == PREEMPTED else GRACE_AFTER_FAILURE)
      if time.monotonic() > deadline:
        self._send(signal.SIGKILL)
      with contextlib.suppress(subprocess.TimeoutExpired):
        running[0].wait(0.1)
    for thread in self._copiers:
      thread.join(1)
    if not status and (failed := self._failed()):
      first, status = failed[0]
    if status not in (0, PREEMPTED):
      how = f"by {signal.Signals(-status).name}" if status < 0 else f"with status {status}"
      said = f"; its last line: {self._last[first]}" if self._last[first] else ""
      print(printable(f"process {first} ended first, {how}{said}"), file=sys.stderr)
    return 128 - status if status < 0 else status

  def _failed(self) -> list[tuple[int, int]]:
    """Processes that did not end with 0, and how they ended: those killed by a signal come first.

    Of several that are found together, the others may have ended because of such a one.
    """
    ended = [(index, process.poll() or 0) for index, process in enumerate(self._processes)]
    return sorted((one for one in ended if one[1]), key=lambda one: one[1] > 0)

  def _copy(self, index: int, source: BinaryIO, sink: BinaryIO) -> None:
    """Copies lines as they come, each in one piece and marked with the process it is from."""
    for line in source:
      text = line.rstrip(b"\r\n")
      sink.write(b"[%d] %s\n" % (index, text))
      sink.flush()
      if sink is sys.stderr.buffer:
        self._last[index] = text.decode("utf-8", "replace")

  def _send(self, number: int) -> None:
    for process in self._processes:
      if process.poll() is None:
        process.send_signal(number)




def free_port() -> int:
  """A port that nobody listens on."""
  with socket.socket() as listener:
    listener.bind(("127.0.0.1", 0))
    return listener.getsockname()[1]


def environment(index: int, count: int, port: int) -> dict[str, str]:
  """The environment of one of `count` processes: the explicit settings that `dgjax.parallel` reads."""
  address = f"127.0.0.1:{port}"
  return {"JAX_LOCAL_DEVICE_IDS": str(index), **os.environ, "PYTHONUNBUFFERED": "1",
          "JAX_COORDINATOR_ADDRESS": address, "JAX_COORDINATOR_BIND_ADDRESS": address,
          "JAX_NUM_PROCESSES": str(count), "JAX_PROCESS_ID": str(index)}


def main() -> int:
  """Runs what the command line says."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--processes", type=int, required=True, help="how many")
  parser.add_argument("arguments", nargs="*", help="after `--`: what each `python -m dgjax.main` gets")
  options = parser.parse_args()
  if options.processes < 1:
    parser.error(f"--processes must be at least 1, got {options.processes}")
  port = free_port()
  group = Group([[sys.executable, "-m", "dgjax.main", *options.arguments]] * options.processes,
                [environment(index, options.processes, port) for index in range(options.processes)])
  return group.wait()


if __name__ == "__main__":
  sys.exit(main())
