"""How well a trained WEMNet's discriminator tells domains, from features with and without their domain's part.

  python -m dgjax.analysis.domain_error RUNS

RUNS is a folder with runs, at any depth; in the paper's Table 4 those of 10 epochs on each pair of Office-31:
`--config=configs/wemnet_office31.py --config.sources=each --config.steps=10000`.
"""

import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from dgjax import console, runs
from dgjax.algorithms.wemnet import WEMNet
from dgjax.analysis import command
from dgjax.analysis.recorded import read_runs
from dgjax.analysis.summary import table
from dgjax.data import pipeline
from dgjax.errors import UserError
from dgjax.runs import Run


def domain_errors(run: Run, batch_size: int = 256) -> dict[str, dict[str, float]]:
  """The mean domain error over the images that a run was trained on, in each domain.

  Args:
    run: a finished run of WEMNet.
    batch_size: of the evaluation.

  Returns:
    For each source domain and the target: "with" and "without" DIM's part of the features, each in [0, 50]. Without DIM
    the two are the same.

  Raises:
    UserError: the run is of another method.

  Source: WEMNet, section 3.4, Eq. 12, Table 4, which trains for 10 epochs.
  """
  if not isinstance(run.algorithm, WEMNet):
    raise UserError(f"the domain error is WEMNet's, and this run is of {run.config.algorithm.name}")
  algorithm = run.algorithm

  @jax.jit
  def total(state: Any, batch: Any) -> dict[str, jax.Array]:
    errors = algorithm.domain_errors(state, run.normalise(batch)["image"])
    return {name: (values * batch["mask"]).sum() for name, values in errors.items()}

  splits = {**dict.fromkeys(run.sources, "train"), run.target: run.dataset.adaptation_split(run.target)}
  result = {}
  for domain, split in splits.items():
    batches = pipeline.evaluate(run.dataset, domain, split, batch_size=batch_size,
                                image_size=run.config.data.image_size)
    sums = [jax.device_get(total(run.state, batch)) for batch in batches]
    result[domain] = {name: float(np.sum([s[name] for s in sums]) / batches.examples) for name in ("with", "without")}
  return result


def main(argv: Sequence[str]) -> None:
  """Prints the errors of a folder's runs; see the top of this file."""
  parser = command.parser("domain_error", __doc__)
  parser.add_argument("runs", type=pathlib.Path, help="folder with run folders, at any depth")
  options = parser.parse_args(argv)
  rows = []
  for found in read_runs(options.runs)[0]:
    run = runs.load(found.folder)
    errors = domain_errors(run)
    source = {name: float(np.mean([errors[domain][name] for domain in run.sources])) for name in ("with", "without")}
    rows.append([found.column, *(f"{value:.2f}" for value in (*source.values(), *errors[run.target].values()))])
  print(table(["transfer", "source with", "without", "target with", "without"], rows))


if __name__ == "__main__":
  sys.exit(console.run(main))
