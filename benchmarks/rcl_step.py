"""What the reverse contrastive loss costs: a training step of RCL against one of Aggregate, same network and batch.

  python benchmarks/rcl_step.py [--model=mnistnet] [--image_size=32] [--batch_size=128] [--repeats=15]

How it is measured: `alternating.py`.
"""

import argparse
from collections.abc import Sequence
from typing import Any

import alternating

from dgjax import config
from dgjax.losses.contrastive import RESCALES
from dgjax.memory import use_huge_pages

DOMAINS, CLASSES = 1, 10  # of MNIST-MP
METHODS = ("aggregate", "rcl")


def settings(argv: Sequence[str] | None = None) -> argparse.Namespace:
  parser = alternating.parser(__doc__, model="mnistnet", image_size=32, batch_size=128)
  parser.add_argument("--rescale", default="batch", choices=RESCALES, help="algorithm.rescale")
  return parser.parse_args(argv)


def make_config(method: str, flags: argparse.Namespace) -> Any:
  c = config.default(algorithm=method, model=flags.model, data="digits")
  c.data.image_size, c.batch_size = flags.image_size, flags.batch_size
  c.optimizer.name, c.optimizer.nesterov, c.optimizer.learning_rate = "sgd", True, 1e-3  # RCL, section 5.1
  if method == "rcl":
    c.algorithm.rescale = flags.rescale
  return c


def report(flags: argparse.Namespace) -> str:
  """Measures, and returns the table."""
  first, second = (alternating.calls(make_config(method, flags), CLASSES, DOMAINS)[0] for method in METHODS)
  comparison = alternating.compare(first, second, flags.repeats, flags.warmup)
  return "\n".join([alternating.head(flags, f"range by {flags.rescale}", *METHODS),
                    comparison.line(f"training step, batch {flags.batch_size}", 1.15)])


if __name__ == "__main__":
  use_huge_pages(__file__)
  print(report(settings()))
