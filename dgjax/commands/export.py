"""`dgjax export`: a finished run for use without dgjax."""

import pathlib
from collections.abc import Sequence

from dgjax import commands

EPILOG = """The folder --out gets
- model.safetensors: the network's parameters and statistics, under torchvision's names if torchvision has the network;
- method.safetensors: what else the method learned, such as masks, if anything;
- predict.stablehlo: for `jax.export.deserialize(...).call(images)`, which returns class probabilities;
- export.json: the classes, and the size and range that images must have."""


def main(argv: Sequence[str]) -> int:
  """Exports a run."""
  parser = commands.parser("export", __doc__, EPILOG)
  parser.add_argument("run", help="folder of a finished run")
  parser.add_argument("--out", required=True, type=pathlib.Path, help="folder to write")
  parser.add_argument("--rule", default="", help="the selection rule whose state is written; default: the run's own")
  parser.add_argument("--platforms", default="cpu,cuda,tpu", help="where the prediction will run, comma-separated")
  options = parser.parse_args(argv)

  from dgjax import exporting, runs
  written = exporting.export(runs.load(options.run, options.rule), options.out, options.platforms.split(","))
  print("\n".join(f"written: {path}" for path in written))
  return 0
