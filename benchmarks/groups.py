"""What runs cost together: a training step of 1, 2, 5 and 10 seeds, one after the other and by one kernel for all.

  python benchmarks/groups.py [--config=digits:dmg] [--target=plain] [--runs 1 2 5 10] [--how map vmap] [--repeats 5]

The groups are those that training makes, with images on the device. Rounds alternate: each group does its steps once in
every round, and a number is the median over rounds. "x one" is the time over that of one run: below the number of runs,
training them together saves time, beside what it saves in processes, compilation and data preparation.
"""

import argparse
import statistics
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from dgjax import config, group, ops
from dgjax.experiment import Experiment
from dgjax.feed import Feed
from dgjax.memory import use_huge_pages


class Timed:
  """A group of seeds under way."""

  def __init__(self, flags: argparse.Namespace, runs: int, how: str):
    """Builds and compiles it."""
    settings = [config.load(flags.config, [f"--config.target={flags.target}", f"--config.seed={seed}",
                                           "--config.steps=100000", "--config.eval_every=100000", *flags.override])
                for seed in range(runs)]
    experiments = [Experiment.build(one) for one in settings]
    self.runs, self.how = runs, how
    self.group = group.Group.build(experiments, Feed(experiments), how)
    self.everyone = np.ones(runs, bool)
    self.states: Any = self.group.first_states()
    self.step, self.times = 0, list[float]()
    start = time.perf_counter()
    self.go(2 * self.group.steps_a_dispatch + 2)
    self.compiled = time.perf_counter() - start
    self.times.clear()

  def go(self, steps: int) -> None:
    """Does at least so many steps, and notes how long one took."""
    first, start = self.step, time.perf_counter()
    while self.step < first + steps:
      until = self.group.until(self.step, 1 << 30)
      self.states, metrics = self.group.advance(self.states, self.step, until - self.step, self.everyone)
      self.step = until
    jax.block_until_ready((self.states, metrics))
    self.times.append((time.perf_counter() - start) / (self.step - first))


def main(argv: Sequence[str] | None = None) -> None:
  """Measures, and prints a line a group: once it is compiled, with its first round, and again at the end."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--config", default="digits:dmg")
  parser.add_argument("--target", default="plain")
  parser.add_argument("--runs", type=int, nargs="+", default=[1, 2, 5, 10])
  parser.add_argument("--how", nargs="+", default=["map", "vmap"], choices=("map", "vmap", "spread"))
  parser.add_argument("--steps", type=int, default=32, help="in a round")
  parser.add_argument("--repeats", type=int, default=5, help="rounds")
  parser.add_argument("--override", nargs="*", default=[], help="--config.KEY=VALUE arguments")
  flags = parser.parse_args(argv)
  ways = [(runs, how) for runs in flags.runs for how in flags.how if runs > 1 or how == "map"]
  timed = []
  for runs, how in ways:
    timed.append(Timed(flags, runs, how))
    timed[-1].go(flags.steps)
    first = timed[-1].times.pop()
    print(f"compiled {runs} by {how} in {timed[-1].compiled:.1f} s; {1e3 * first:.3f} ms a step at first", flush=True)
  for _ in range(flags.repeats):
    for one in timed:
      one.go(flags.steps)
  alone = statistics.median(timed[0].times)
  print(f"{flags.config}, {jax.devices()[0].device_kind}, {ops.describe()}; medians of {flags.repeats} rounds")
  for one in timed:
    seconds = statistics.median(one.times)
    print(f"{one.runs:>3} runs, {one.how:<6} {1e3 * seconds:9.3f} ms a step {seconds / alone:7.2f} x one", flush=True)


if __name__ == "__main__":
  use_huge_pages(__file__)
  main()
