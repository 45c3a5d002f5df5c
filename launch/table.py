"""A whole table in one command: every config under every seed, then the table with its standard errors.

  python launch/table.py configs/digits.py:aggregate configs/digits.py:dmg --seeds=3 --workdir=runs/digits \\
    [--jobs=2] [--format=markdown ...] -- [--config.KEY=VALUE ...]

A config may have arguments, as in `configs/rcl_mnist_mp.py:m=inf`; configs of one method have a row each. What follows
`--` goes to every run. Runs are commands of their own, `python -m dgjax.main`, in WORKDIR/CONFIG/SEED; `--print` shows
them and stops, for a cluster's queue. `--jobs` run at once, each on its share of the cores, or on a GPU of its own.
What a run says goes to its `log.txt`. On a CPU the number of cores decides the last digits of a run, and so its
scatter: for the same numbers, give the same `--jobs` on the same cores, or set NPROC to the cores of a run.

The same command goes on where it was stopped: finished runs are not run again, others resume. SIGTERM or Ctrl-C has the
running ones save and ends with 75; a second Ctrl-C ends them at once. When a run fails, the others go on; it is named
at the end, and the status is 1. The options of `python -m dgjax.analysis.tables` say how the table is printed.
"""

import argparse
import concurrent.futures
import glob
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from types import FrameType
from typing import NamedTuple

from local import PREEMPTED, die_with_parent

from dgjax import config, config_files
from dgjax.analysis import tables
from dgjax.analysis.command import Parser
from dgjax.errors import UserError


class Run(NamedTuple):
  """One run: its name, its folder and its command."""

  name: str
  folder: pathlib.Path
  command: list[str]


class Place(NamedTuple):
  """Where a run may compute: the cores, and the GPU by its number or none."""

  cores: tuple[int, ...]
  gpu: str | None


def plan(configs: Sequence[str], seeds: int, workdir: pathlib.Path, rest: Sequence[str]) -> list[Run]:
  """All runs, seed by seed, so that a table of few seeds is whole first.

  Raises:
    UserError: a config is not there, or two would have the same folder.
  """
  runs = []
  for seed in range(seeds):
    for name in configs:
      config_files.find(name)
      stem = config_files.run_name(name)
      folder = workdir / stem / str(seed)
      command = [sys.executable, "-m", "dgjax.main", f"--config={name}", f"--config.seed={seed}", *rest,
                 f"--workdir={folder}"]
      runs.append(Run(f"{stem}, seed {seed}", folder, command))
  if len({run.folder for run in runs}) < len(runs):
    raise UserError("two configs of the same name: they would share their folders")
  return runs


def places(jobs: int) -> list[Place]:
  """Divides this machine's GPUs or cores among `jobs` runs.

  Raises:
    UserError: there are too few for as many.
  """
  cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
  visible = os.environ.get("CUDA_VISIBLE_DEVICES")
  gpus = visible.split(",") if visible else [path.removeprefix("/dev/nvidia") for path in
                                              sorted(glob.glob("/dev/nvidia[0-9]*"))]
  for count, what in ((len(gpus), "GPUs"), (len(cores), "cores")):
    if 0 < count < jobs:
      raise UserError(f"--jobs={jobs}: there are {count} {what}")
  return [Place(tuple(cores[i * len(cores) // jobs:(i + 1) * len(cores) // jobs]),
                gpus[i] if gpus and jobs > 1 else None) for i in range(jobs)]


class Queue:
  """Runs commands, so many at once, until all have ended or a signal stops them."""

  def __init__(self, runs: Sequence[Run], where: Sequence[Place]):
    """Takes over SIGTERM and SIGINT."""
    self._runs, self._free = runs, list(where)
    self._processes: set[subprocess.Popen[bytes]] = set()
    self._stopping = False
    self._lock = threading.RLock()  # a signal's handler may come while the main thread holds it
    for number in (signal.SIGTERM, signal.SIGINT):
      signal.signal(number, self.stop)

  def stop(self, number: int, frame: FrameType | None = None) -> None:
    """Handles a signal: the running ones save and stop, no others start; a second Ctrl-C ends them."""
    with self._lock:
      again, self._stopping = self._stopping, True
      for process in self._processes:
        if not again or number == signal.SIGINT:
          process.send_signal(signal.SIGKILL if again else signal.SIGTERM)

  def work(self) -> list[int]:
    """Runs everything.

    Returns:
      The exit status of each run; PREEMPTED for those that were not started.
    """
    with concurrent.futures.ThreadPoolExecutor(len(self._free)) as pool:
      futures = [pool.submit(self._one, index, run) for index, run in enumerate(self._runs, 1)]
      while not all(future.done() for future in futures):
        time.sleep(0.05)  # in pieces: the main thread handles signals between them
    return [future.result() for future in futures]

  def _one(self, index: int, run: Run) -> int:
    started = time.monotonic()
    with self._lock:
      if self._stopping:
        return PREEMPTED
      place = self._free.pop()
      run.folder.mkdir(parents=True, exist_ok=True)
      environment = os.environ | ({"CUDA_VISIBLE_DEVICES": place.gpu} if place.gpu is not None else {})
      with (run.folder / "log.txt").open("ab") as log:
        process = subprocess.Popen(
            run.command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            preexec_fn=(lambda: _settle(place)) if sys.platform == "linux" else None)
      self._processes.add(process)
    status = process.wait()
    with self._lock:
      self._processes.discard(process)
      self._free.append(place)
    ended = {0: "done", PREEMPTED: "stopped and saved"}.get(status, f"failed with status {status}")
    lines = (run.folder / "log.txt").read_text(errors="replace").splitlines()
    why = f": {lines[-1]}" if status not in (0, PREEMPTED) and lines else ""
    print(f"[{index}/{len(self._runs)}] {run.name} {ended} after {time.monotonic() - started:.0f} s{why}",
          file=sys.stderr, flush=True)
    return status


def _settle(place: Place) -> None:
  """In the new process: keeps to its cores, and ends with the one that started it."""
  die_with_parent()
  os.sched_setaffinity(0, place.cores)


def main(argv: Sequence[str]) -> int:
  """Runs what the command line says, and prints the table."""
  parser = Parser(prog="python launch/table.py", description=__doc__, allow_abbrev=False,
                         formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("configs", nargs="+", help="FILE.py[:ARGUMENTS] or NAME[:ARGUMENTS]")
  parser.add_argument("--seeds", type=int, default=1, help="how many: 0, 1, ...")
  parser.add_argument("--workdir", type=pathlib.Path, required=True, help="folder of all the runs")
  parser.add_argument("--jobs", type=int, default=1, help="runs at once")
  parser.add_argument("--print", action="store_true", help="print the commands and stop")
  tables.add_arguments(parser)
  cut = argv.index("--") if "--" in argv else len(argv)
  try:
    options = parser.parse_args(argv[:cut])
    for name in ("seeds", "jobs"):
      if getattr(options, name) < 1:
        raise UserError(f"--{name} must be at least 1, got {getattr(options, name)}")
    tables.check(options)
    runs = plan(options.configs, options.seeds, options.workdir, argv[cut + 1:])
    methods = {config.load(name).algorithm.name for name in options.configs}
    if not options.group_by and len(methods) < len(options.configs):
      options.group_by = "config"
    if options.print:
      print("\n".join(shlex.join(run.command) for run in runs))
      return 0
    statuses = Queue(runs, places(options.jobs)).work()
    if PREEMPTED in statuses:
      print("stopped; the same command goes on from there", file=sys.stderr)
      return PREEMPTED
    failed = [run for run, status in zip(runs, statuses, strict=True) if status]
    if len(failed) < len(runs):
      tables.show(options.workdir, options)
  except UserError as error:
    print(f"error: {error}", file=sys.stderr)
    return 1
  for run in failed:
    print(f"error: {run.name} failed: see {run.folder / 'log.txt'}", file=sys.stderr)
  return int(bool(failed))


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
