"""What CrossGrad costs: its training step against an ERM step of its label and one of its domain network together.

  python benchmarks/crossgrad_step.py [--model=lenet3] [--image_size=32] [--batch_size=32] [--repeats=15]

How it is measured: `alternating.py`.
"""

import argparse
from collections.abc import Sequence
from typing import Any

import alternating

from dgjax import config
from dgjax.memory import use_huge_pages

CLASSES, DOMAINS = 36, 71  # characters, and fonts to train on (CrossGrad, section 4)


def settings(argv: Sequence[str] | None = None) -> argparse.Namespace:
  parser = alternating.parser(__doc__, model="lenet3", image_size=32, batch_size=32)
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
  return "\n".join([alternating.head(flags, "", "2 x ERM", "crossgrad"),
                    comparison.line(f"training step, batch {flags.batch_size}", 2.2)])


if __name__ == "__main__":
  use_huge_pages(__file__)
  print(report(settings()))
