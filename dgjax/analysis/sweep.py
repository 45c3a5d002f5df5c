"""Accuracy and overlap of masks over the values of a setting, and the value that validation chooses.

  python -m dgjax.analysis.sweep RUNS KEY[,KEY...]

RUNS is a folder of runs, at any depth, such as those of `--config.sweep.KEY=V1,V2,...`; KEY is the setting, such as
`algorithm.overlap_weight`. Each line is of one value (or combination of values), a mean over its runs: accuracy on the
sources' validation splits and on the target under the rule that the runs report, on the sources' test splits where
these are kept apart, and the masks' mean overlap (IoU). The choice is by source validation alone. `dgjax report RUNS`
draws the same.

Source: Chattopadhyay et al. 2020 (DMG), Figs. 3, 5 and 6; Shankar et al. 2018 (CrossGrad), section 4 (alpha, epsilon).
"""

import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dgjax import console
from dgjax.analysis import command
from dgjax.analysis.recorded import Finished, read_runs
from dgjax.analysis.summary import table
from dgjax.errors import UserError, nearest

COLUMNS = ("source val", "target", "sources' test", "IoU")
Scores = Mapping[str, float]  # column -> score in [0, 1]; a run may lack some


def scores(run: Finished) -> Scores:
  """What a run scored, of `COLUMNS`."""
  val, target, sources, overlap = COLUMNS
  chosen = run.get("selection", run.get("report", "rule"))
  found = {val: chosen["source_accuracy"], target: chosen["target_accuracy"],
           overlap: run.results.get("overlap", {}).get("iou/mean")}
  by_domain = run.get("accuracy", run.config.get("algorithm.prediction", "default"))
  if all(domain in by_domain for domain in run.get("sources")):
    found[sources] = float(np.mean([by_domain[domain] for domain in run.get("sources")]))
  return {name: value for name, value in found.items() if value is not None}


def by_value(runs: Sequence[Finished], keys: Sequence[str]) -> dict[tuple[Any, ...], list[Scores]]:
  """The scores of runs by their values of some settings, in order of value.

  Raises:
    UserError: a run has no such setting.
  """
  found: dict[tuple[Any, ...], list[Scores]] = {}
  for run in runs:
    for key in keys:
      if key not in run.config:
        raise UserError(f"{run.folder} has no setting {key}{nearest(key, run.config)}")
    found.setdefault(tuple(run.config[key] for key in keys), []).append(scores(run))
  return dict(sorted(found.items()))


def means(runs: Sequence[Scores]) -> Scores:
  """Mean of each score over the runs that have it."""
  there = [name for name in COLUMNS if any(name in run for run in runs)]
  return {name: float(np.mean([run[name] for run in runs if name in run])) for name in there}


def main(argv: Sequence[str]) -> None:
  """Prints the numbers; see the top of this file."""
  parser = command.parser("sweep", __doc__)
  parser.add_argument("runs", type=pathlib.Path, help="folder with run folders, at any depth")
  parser.add_argument("keys", metavar="KEY[,KEY...]", help="settings, as they are written behind --config.")
  options = parser.parse_args(argv)
  keys = options.keys.split(",")
  found = by_value(read_runs(options.runs.expanduser())[0], keys)
  rows = {values: means(runs) for values, runs in found.items()}
  columns = [name for name in COLUMNS if any(name in row for row in rows.values())]
  print(table([*keys, "runs", *columns], [[*map(str, values), str(len(found[values])),
                                           *(row.get(name, "-") for name in columns)] for values, row in rows.items()]))
  validated = {values: row[COLUMNS[0]] for values, row in rows.items() if COLUMNS[0] in row}
  if validated:
    best = max(validated, key=lambda values: validated[values])
    print("highest source validation accuracy: "
          + " ".join(f"--config.{key}={value}" for key, value in zip(keys, best, strict=True)))


if __name__ == "__main__":
  sys.exit(console.run(main))
