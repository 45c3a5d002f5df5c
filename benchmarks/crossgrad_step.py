"""What CrossGrad costs: its training step against an ERM step of its label and one of its domain network together.

  python benchmarks/crossgrad_step.py [--model=lenet3] [--image_size=32] [--batch_size=32] [--repeats=15]

How it is measured: `alternating.py`.
"""

import argparse
from collections.abc import Sequence
from typing import Any

import alternating
import jax

from dgjax import config, models, ops

CLASSES, DOMAINS = 36, 71  # characters, and fonts to train on (crossgrad.txt, section 4)


def settings(argv: Sequence[str] | None = None) -> argparse.Namespace:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--model", default="lenet3", choices=sorted(models.NETWORKS))
  parser.add_argument("--image_size", type=int, default=32)
  parser.add_argument("--batch_size", type=int, default=32)
  parser.add_argument("--repeats", type=int, default=15, help="pairs of calls that are measured")
  parser.add_argument("--warmup", type=int, default=2, help="pairs before those")
  return parser.parse_args(argv)


def training_step(method: str, classes: int, flags: argparse.Namespace) -> Any:
  c = config.default(algorithm=method, model=flags.model, data="digits")
  c.data.image_size, c.batch_size = flags.image_size, flags.batch_size
  c.optimizer.name, c.optimizer.learning_rate = "rmsprop", 0.02
  c.optimizer.epsilon, c.optimizer.clip = 1.0, 0.1
  return alternating.calls(c, classes, DOMAINS)[0]


def report(flags: argparse.Namespace) -> str:
  """Measures, and returns the table."""
  label, domain = (training_step("aggregate", classes, flags) for classes in (CLASSES, DOMAINS))
  comparison = alternating.compare(lambda: (label(), domain()), training_step("crossgrad", CLASSES, flags),
                                   flags.repeats, flags.warmup)
  return "\n".join([
      f"{flags.model}, {flags.image_size} px, {jax.devices()[0].device_kind}, {ops.backend()}; medians of "
      f"{flags.repeats} alternating repetitions", alternating.header("2 x ERM", "crossgrad"),
      comparison.line(f"training step, batch {flags.batch_size}", 2.2)])


if __name__ == "__main__":
  print(report(settings()))
