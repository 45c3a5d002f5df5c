"""What a command costs before it does its work: imports by package, help and errors, the way to the first step.

  python benchmarks/startup.py [--repeats=3]

Each line is the median over processes, in seconds of wall time and of CPU (user and system). On a machine that does
other work the CPU seconds are what to compare. The first step is that of DMG on the embedded digits, of a run of two
that then evaluates, saves and draws figures: with the empty caches that a first start finds (data are prepared, XLA
compiles), and with those that it left behind.
"""

import argparse
import collections
import os
import pathlib
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
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
TRAINED = ["-c", COMMAND, "train", "--config=dmg_digits", "--config.target=plain", "--config.steps=2",
           "--config.log_every=1", "--config.batch_size=64", "--workdir={workdir}"]


class Cost(NamedTuple):
  """Seconds of a process."""

  wall: float
  cpu: float


def run(arguments: Sequence[str], folder: pathlib.Path, until: Callable[[pathlib.Path], bool] = lambda _: False,
        **environment: str) -> tuple[Cost, float]:
  """Runs Python once, in a folder of its own for what it writes.

  Returns:
    What the process cost, and the seconds until `until` was true of its folder, if it ever was.
  """
  workdir = pathlib.Path(tempfile.mkdtemp(dir=folder))
  before, began, reached = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic(), float("nan")
  process = subprocess.Popen([sys.executable, *(argument.replace("{workdir}", str(workdir)) for argument in arguments)],
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder,
                             env={**os.environ, **environment})
  while process.poll() is None:
    if reached != reached and until(workdir):
      reached = time.monotonic() - began
    time.sleep(0.01)
  after = resource.getrusage(resource.RUSAGE_CHILDREN)
  cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
  return Cost(time.monotonic() - began, cpu), reached


def has_loss(workdir: pathlib.Path) -> bool:
  """Whether a run has recorded its first step."""
  metrics = workdir / "metrics.jsonl"
  return metrics.exists() and "train/loss" in metrics.read_text()


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
      line(name, [run(arguments, folder, DGJAX_CACHE=str(folder / "cache"))[0] for _ in range(options.repeats)])
    for name, repeats in (("cold", 1), ("warm", options.repeats)):
      runs = [run(TRAINED, folder, has_loss, DGJAX_CACHE=str(folder / "trained")) for _ in range(repeats)]
      line(f"two steps and all that follows, {name}", [cost for cost, _ in runs])
      print(f"{'  until the first step is recorded':<38}{statistics.median(seconds for _, seconds in runs):>8.2f}")
  print("\nimport dgjax.plan, seconds by package")
  for package, seconds in imports("dgjax.plan").items():
    print(f"  {package:<36}{seconds:>8.2f}")


if __name__ == "__main__":
  main()
