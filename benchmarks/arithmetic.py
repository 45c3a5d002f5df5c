"""The arithmetic of a training step of each method over that of Aggregate, by XLA's count of operations.

  python benchmarks/arithmetic.py [--model=resnet18] [--image_size=96] [--batch_size=64] [METHOD ...]

Nothing is run or timed: the count is of the traced step, and so the same on every machine. A method that adapts has as
many images of the target as of the sources in a step, beside these; of one with several phases each has a row.
"""

import argparse
from collections.abc import Sequence
from typing import Any

import jax

from dgjax import algorithms, config, experiment, models

DOMAINS, CLASSES, STEPS = 3, 10, 1_000


def settings(argv: Sequence[str] | None = None) -> argparse.Namespace:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--model", default="resnet18", choices=sorted(models.NETWORKS))
  parser.add_argument("--image_size", type=int, default=96)
  parser.add_argument("--batch_size", type=int, default=64)
  parser.add_argument("methods", nargs="*", default=sorted(algorithms.ALGORITHMS), metavar="METHOD")
  return parser.parse_args(argv)


def counts(method: str, flags: argparse.Namespace) -> dict[str, float]:
  """Operations of a step of each phase, by the phase's name."""
  c = config.default(algorithm=method, model=flags.model, data="digits")
  algorithm: Any = algorithms.build(c, classes=CLASSES, domains=DOMAINS, steps_per_epoch=100.0, steps=STEPS)
  batch = experiment.batch_shapes((flags.image_size, flags.image_size, 3), algorithm.adapts, size=flags.batch_size)
  state = jax.eval_shape(algorithm.init, jax.eval_shape(lambda: jax.random.key(0)), batch)
  return {phase.name: jax.jit(phase.update).lower(state, batch).cost_analysis()["flops"] for phase in algorithm.phases}


def report(flags: argparse.Namespace) -> str:
  """Counts, and returns the table."""
  [plain] = counts("aggregate", flags).values()
  lines = [f"{flags.model}, {flags.image_size} px, batch {flags.batch_size}; aggregate: {plain / 1e9:.2f} GFLOP a step"]
  for method in flags.methods:
    lines += [f"{method:<22}{phase:<14}{count / plain:>6.2f}" for phase, count in counts(method, flags).items()]
  return "\n".join(lines)


if __name__ == "__main__":
  print(report(settings()))
