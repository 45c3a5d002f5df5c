"""A run's accuracy on its target, class by class, and the classes' mean.

  python -m dgjax.analysis.classes RUN [--mode=NAME] [--rule=source_val|last]

Source: Lee et al. 2023 (WEMNet), Table 2, whose rows of other methods stand beside the run's on VisDA-2017.
"""

import dataclasses
import pathlib
import sys
from collections.abc import Sequence

import jax
import numpy as np

from dgjax import console, runs
from dgjax.analysis import command
from dgjax.analysis.summary import table
from dgjax.config import flatten
from dgjax.errors import UserError, nearest
from dgjax.evaluation.evaluator import count
from dgjax.reference import find_table
from dgjax.runs import Run

PUBLISHED = ("wemnet", "2")  # the one published table with a column for each class


def class_accuracies(run: Run, mode: str = "") -> dict[str, float]:
  """Accuracy on the target's test split by class.

  Args:
    run: a finished run whose data are at hand.
    mode: the way of predicting; default: the run's.

  Returns:
    Class -> accuracy in [0, 1]; nan where the split has no image of it.

  Raises:
    UserError: the method has no such way.
  """
  experiment = dataclasses.replace(run.experiment, dataset=run.dataset)  # the record has a description alone
  one = jax.jit(lambda state, batch: count(run.algorithm, state, experiment.normalise(batch), known=False))
  parts = [jax.device_get(one(run.state, batch)) for batch in experiment.evaluation_batches(run.target, "test")]
  found = {way: sum(part[way] for part in parts) for way in parts[0]}
  mode = mode or run.algorithm.prediction
  if mode not in found:
    raise UserError(f"--mode: this run does not predict by {mode!r}{nearest(mode, list(filter(None, found)))}")
  with np.errstate(invalid="ignore"):
    return dict(zip(run.classes, (found[mode] / found[""]).tolist(), strict=True))


def main(argv: Sequence[str]) -> None:
  """Prints the table of one run; see the top of this file."""
  parser = command.parser("classes", __doc__)
  parser.add_argument("run", type=pathlib.Path, help="folder of one finished run")
  parser.add_argument("--mode", default="", help="way of predicting; default: the run's")
  parser.add_argument("--rule", default="", help="which state: source_val or last; default: the reported one")
  options = parser.parse_args(argv)
  run = runs.load(options.run, options.rule)
  scores = class_accuracies(run, options.mode)
  published, config = find_table(*PUBLISHED), flatten(run.config)
  row = published.find_row(config, options.mode or run.algorithm.prediction)
  header = ["class", "accuracy", *(["paper"] if row else [])]
  print(f"{run.config.algorithm.name} on {run.target}, step {run.step} ({run.rule})")
  print(table(header, [[name, value, *([paper / 100] if row else [])] for (name, value), paper in zip(
      [*scores.items(), ("mean", float(np.nanmean(list(scores.values()))))],
      published.rows[row] if row else [0.0] * (len(scores) + 1), strict=True)]))


if __name__ == "__main__":
  sys.exit(console.run(main))
