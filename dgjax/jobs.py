"""A queue of commands on this machine.

Several run at once, each on its share of the cores, and report progress in lines.
"""

import ctypes
import glob
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import NamedTuple

from dgjax.errors import UserError, printable
from dgjax.preemption import PREEMPTED

OUTPUT = "output.txt"  # in a job's folder: everything that its command prints
POLL = 0.05  # seconds between checks for ended processes
WATCH = 1.0  # seconds between checks for results


class Job(NamedTuple):
  """A command to be run.

  Attributes:
    name: for messages.
    folder: the folder of the command's output and, at any depth, of its runs.
    command: the words of the command line.
  """

  name: str
  folder: pathlib.Path
  command: list[str]


class Share(NamedTuple):
  """The part of the machine that a job computes on: cores, and the number of a GPU, if any."""

  cores: tuple[int, ...]
  gpu: str | None


def shares(jobs: int) -> list[Share]:
  """Divides this machine's GPUs or cores among `jobs` jobs.

  Raises:
    UserError: there are fewer GPUs or cores than jobs.
  """
  cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
  visible = os.environ.get("CUDA_VISIBLE_DEVICES")
  gpus = visible.split(",") if visible else [path.removeprefix("/dev/nvidia") for path in
                                              sorted(glob.glob("/dev/nvidia[0-9]*"))]
  for count, what in ((len(gpus), "GPUs"), (len(cores), "cores")):
    if 0 < count < jobs:
      raise UserError(f"--jobs={jobs}: there are {count} {what}")
  return [Share(tuple(cores[i * len(cores) // jobs:(i + 1) * len(cores) // jobs]),
                gpus[i] if gpus and jobs > 1 else None) for i in range(jobs)]


class Queue:
  """Runs several jobs at once until all have ended or a signal stops them."""

  def __init__(self, jobs: Sequence[Job], where: Sequence[Share]):
    """Takes over SIGTERM and SIGINT."""
    self._jobs, self._free = jobs, list(where)
    self._processes: set[subprocess.Popen[bytes]] = set()
    self._stopping = False
    self._lock = threading.RLock()  # a signal handler may run while the main thread holds it
    for number in (signal.SIGTERM, signal.SIGINT):
      signal.signal(number, self.stop)

  def stop(self, number: int, frame: FrameType | None = None) -> None:
    """Handles a signal: running jobs save and stop, and no others start. A second Ctrl-C ends them."""
    with self._lock:
      again, self._stopping = self._stopping, True
      for process in self._processes:
        if not again or number == signal.SIGINT:
          process.send_signal(signal.SIGKILL if again else signal.SIGTERM)

  def work(self) -> list[int]:
    """Runs all jobs, and reports on stderr which runs and which jobs have ended.

    Returns:
      The exit status of each job; PREEMPTED for those that were not started.
    """
    with ThreadPoolExecutor(len(self._free)) as pool:
      futures = [pool.submit(self._one, index, job) for index, job in enumerate(self._jobs, 1)]
      while not all(future.done() for future in futures):
        time.sleep(POLL)  # in pieces: the main thread handles signals between them
    return [future.result() for future in futures]

  def _one(self, index: int, job: Job) -> int:
    started = time.monotonic()
    with self._lock:
      if self._stopping:
        return PREEMPTED
      share = self._free.pop()
      job.folder.mkdir(parents=True, exist_ok=True)
      ended = set(_ended(job.folder))
      environment = os.environ | ({"CUDA_VISIBLE_DEVICES": share.gpu} if share.gpu is not None else {})
      with (job.folder / OUTPUT).open("ab") as output:
        process = subprocess.Popen(
            job.command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            start_new_session=True, preexec_fn=(lambda: _settle(share)) if sys.platform == "linux" else None)
      self._processes.add(process)
    head = f"[{index}/{len(self._jobs)}] {job.name}"

    def tell_runs() -> None:
      for path in _ended(job.folder):
        if path not in ended:
          ended.add(path)
          where = path.parent.relative_to(job.folder)
          self._say(f"{head}: {where} {'done' if path.name == 'results.json' else 'failed'}, "
                    f"{time.monotonic() - started:.0f} s")

    while True:
      try:
        status = process.wait(WATCH)
        break
      except subprocess.TimeoutExpired:
        tell_runs()
    tell_runs()
    with self._lock:
      self._processes.discard(process)
      self._free.append(share)
    what = {0: "done", PREEMPTED: "stopped and saved"}.get(status, f"failed with status {status}")
    why = f": {last_line(job.folder / OUTPUT)}" if status not in (0, PREEMPTED) else ""
    self._say(f"{head} {what} after {time.monotonic() - started:.0f} s{why}")
    return status

  def _say(self, line: str) -> None:
    with self._lock:
      print(printable(line), file=sys.stderr, flush=True)


def die_with_parent() -> None:
  """Asks Linux to end the calling process when the one that started it is gone (PR_SET_PDEATHSIG)."""
  ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def last_line(path: pathlib.Path) -> str:
  """The last line that a program wrote into a file, without overwritten states of a progress bar."""
  lines = [line for line in re.split(r"[\r\n]+", path.read_text(errors="replace")) if line.strip()]
  return lines[-1] if lines else "it printed nothing"


def _ended(folder: pathlib.Path) -> list[pathlib.Path]:
  """The files that runs leave when they end: results, or the reason of a failure."""
  return sorted(path for name in ("results.json", "failure.json") for path in folder.rglob(name))


def _settle(share: Share) -> None:
  """Runs in the new process: binds it to its cores, and to the life of the process that started it."""
  die_with_parent()
  os.sched_setaffinity(0, share.cores)
