"""What dynamic residuals cost: a training step with them against the static network's, same batch, in each form.

  python benchmarks/drt_step.py [--model=resnet50] [--variant=subspace] [--image_size=96] [--batch_size=16]

How it is measured: `alternating.py`.
"""

import argparse
from collections.abc import Sequence
from typing import Any

import alternating

from dgjax import config, models
from dgjax.memory import use_huge_pages
from dgjax.models import dynamic

DOMAINS, CLASSES = 3, 7  # of PACS, one domain being left out
TARGET = 1.15


def settings(argv: Sequence[str] | None = None) -> argparse.Namespace:
  parser = alternating.parser(__doc__, model="resnet50", image_size=96, batch_size=16, repeats=9)
  parser.add_argument("--variant", default="subspace", choices=[v for v in dynamic.VARIANTS if v != "none"])
  parser.add_argument("--forms", nargs="+", default=["auto", "mixing", "outputs"], choices=("auto", *dynamic.FORMS),
                      help="'kernel' compiles one convolution for each example and layer: give it small batches")
  parser.add_argument("--dtype", default="float32", choices=sorted(models.DTYPES))
  return parser.parse_args(argv)


def make_config(variant: str, form: str, flags: argparse.Namespace) -> Any:
  c = config.default(algorithm="aggregate", model=flags.model, data="pacs")
  c.data.image_size, c.batch_size = flags.image_size, flags.batch_size
  c.optimizer.name, c.model.dtype = "sgd", flags.dtype
  c.model.dynamic, c.model.dynamic_form = variant, form
  return c


def report(flags: argparse.Namespace) -> str:
  """Measures, and returns the table."""
  static, _ = alternating.calls(make_config("none", "auto", flags), CLASSES, DOMAINS)
  lines = [alternating.head(flags, f"{flags.dtype}, {flags.variant}", "static", "dynamic")]
  for form in flags.forms:
    step, _ = alternating.calls(make_config(flags.variant, form, flags), CLASSES, DOMAINS)
    comparison = alternating.compare(static, step, flags.repeats, flags.warmup)
    lines.append(comparison.line(f"step by {form}, batch {flags.batch_size}", TARGET))
  return "\n".join(lines)


if __name__ == "__main__":
  use_huge_pages(__file__)
  print(report(settings()))
