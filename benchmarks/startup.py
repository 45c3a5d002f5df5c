"""What a command costs before it does its work: imports by package, help and errors, the way to the first step.

  python benchmarks/startup.py [--repeats=3]

Each line is the median over processes, in seconds of wall time and of CPU (user and system). On a machine that does
other work the CPU seconds are what to compare. The first step is that of DMG on the embedded digits: with the empty
caches that a first start finds (data are prepared, XLA compiles), and with those that it left behind.
"""

import argparse
import collections
import json
import os
import pathlib
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import NamedTuple

COMMAND = "import sys; from dgjax.commands import main; sys.exit(main(sys.argv[1:]))"
STARTS = {
    "import numpy, jax": ["-c", "import numpy, jax"],
    "import dgjax": ["-c", "import dgjax"],
    "import dgjax.main": ["-c", "import dgjax.main"],
    "import dgjax.plan (all that trains)": ["-c", "import dgjax.plan"],
    "dgjax --help": ["-c", COMMAND, "--help"],
    "dgjax list": ["-c", COMMAND, "list"],
    "dgjax train --help": ["-c", COMMAND, "train", "--config=dmg_pacs", "--help"],
    "an unknown key": ["-c", COMMAND, "train", "--config=dmg_pacs", "--config.stps=1"],
    "data that are not there": ["-c", COMMAND, "train", "--config=dmg_pacs", "--config.data.dir=/nowhere",
                                "--workdir={workdir}"],
}
TRAINED = ["-c", COMMAND, "train", "--config=dmg_digits", "--config.target=plain", "--config.steps=1",
           "--config.batch_size=64", "--workdir={workdir}"]


class Cost(NamedTuple):
  """Seconds of a process."""

  wall: float
  cpu: float


def run(arguments: Sequence[str], folder: pathlib.Path, **environment: str) -> Cost:
  """Runs Python once, in a folder of its own for what it writes."""
  workdir = tempfile.mkdtemp(dir=folder)
  before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
  subprocess.run([sys.executable, *(argument.replace("{workdir}", workdir) for argument in arguments)], check=False,
                 capture_output=True, cwd=folder, env={**os.environ, **environment})
  after = resource.getrusage(resource.RUSAGE_CHILDREN)
  return Cost(time.monotonic() - began, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def first_step(folder: pathlib.Path, cache: pathlib.Path) -> tuple[Cost, float]:
  """Trains for one step; returns what the run cost, and the seconds from the command to the record of the step."""
  workdir = folder / f"run{len(list(folder.iterdir()))}"
  began = time.time()
  cost = run([argument.replace("{workdir}", str(workdir)) for argument in TRAINED], folder, DGJAX_CACHE=str(cache))
  metrics = workdir / "metrics.jsonl"
  if not any("train/loss" in json.loads(line) for line in metrics.read_text().splitlines()):
    raise SystemExit(f"{workdir} has no training loss")
  return cost, metrics.stat().st_mtime - began


def imports(module: str) -> dict[str, float]:
  """Seconds that importing a module spends in each top-level package, by Python's own count."""
  done = subprocess.run([sys.executable, "-X", "importtime", "-c", f"import {module}"], capture_output=True, text=True,
                        check=True)
  seconds: collections.Counter[str] = collections.Counter()
  for own, name in re.findall(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)", done.stderr):
    package = name.partition(".")[0]
    seconds[package if package not in sys.stdlib_module_names else "the standard library"] += int(own) / 1e6
  return dict(seconds.most_common(12))


def main() -> None:
  """Prints the table."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--repeats", type=int, default=3, help="processes a line")
  options = parser.parse_args()
  print(f"{'':<38}{'wall':>8}{'CPU':>8}")

  def line(name: str, costs: Sequence[Cost]) -> None:
    wall, cpu = (statistics.median(values) for values in zip(*costs, strict=True))
    print(f"{name:<38}{wall:>8.2f}{cpu:>8.2f}", flush=True)

  with tempfile.TemporaryDirectory() as temporary:
    folder = pathlib.Path(temporary)
    for name, arguments in STARTS.items():
      line(name, [run(arguments, folder, DGJAX_CACHE=str(folder / "cache")) for _ in range(options.repeats)])
    cache = folder / "warm"
    cold, seconds = first_step(folder, cache)
    line("one step and its evaluation, cold", [cold])
    print(f"{'  until both are in metrics.jsonl':<38}{seconds:>8.2f}")
    warm = [first_step(folder, cache) for _ in range(options.repeats)]
    line("one step and its evaluation, warm", [cost for cost, _ in warm])
    print(f"{'  until both are in metrics.jsonl':<38}{statistics.median(seconds for _, seconds in warm):>8.2f}")
  print("\nimport dgjax.plan, seconds by package")
  for package, seconds in imports("dgjax.plan").items():
    print(f"  {package:<36}{seconds:>8.2f}")


if __name__ == "__main__":
  main()
