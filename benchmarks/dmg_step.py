"""What masks cost: a training step and an evaluation of DMG against those of Aggregate, same network and batch.

  python benchmarks/dmg_step.py [--image_size=96] [--batch_size=32] [--repeats=15]

How it is measured: `alternating.py`.
"""

import argparse
from collections.abc import Sequence
from typing import Any

import alternating

from dgjax import config
from dgjax.memory import use_huge_pages

DOMAINS, CLASSES = 3, 7  # of PACS, one domain being left out
METHODS = ("aggregate", "dmg")


def settings(argv: Sequence[str] | None = None) -> argparse.Namespace:
  parser = alternating.parser(__doc__, model="resnet18", image_size=96, batch_size=32)
  parser.add_argument("--placement", default="paper", help="algorithm.masks.placement")
  parser.add_argument("--eval_batch_size", type=int, default=64)
  return parser.parse_args(argv)


def make_config(method: str, flags: argparse.Namespace) -> Any:
  c = config.default(algorithm=method, model=flags.model, data="pacs")
  c.data.image_size, c.batch_size, c.eval_batch_size = flags.image_size, flags.batch_size, flags.eval_batch_size
  if method == "dmg":
    c.algorithm.masks.placement = flags.placement
  return c


def report(flags: argparse.Namespace) -> str:
  """Measures, and returns the table."""
  steps, evaluations = zip(*(alternating.calls(make_config(method, flags), CLASSES, DOMAINS) for method in METHODS),
                           strict=True)
  lines = [alternating.head(flags, f"masks at {flags.placement!r}", *METHODS)]
  for what, pair, target in ((f"training step, batch {flags.batch_size}", steps, 1.05),
                             (f"evaluation, {DOMAINS} masks, batch {flags.eval_batch_size}", evaluations, 1.6)):
    lines.append(alternating.compare(*pair, flags.repeats, flags.warmup).line(what, target))
  return "\n".join(lines)


if __name__ == "__main__":
  use_huge_pages(__file__)
  print(report(settings()))
