"""Accuracy on the source domains: each trained on alone, all together, and aligned with a target.

  python -m dgjax.analysis.sources oracle=FOLDER joint=FOLDER transferred=FOLDER ... [--out=FILE.png]

Each FOLDER holds runs, at any depth: those of the oracle trained on one domain each (`--config.sources=each` with
`aggregate`), those of the others on several. The number of a domain is the mean over the folder's runs that trained on
it, on its test split, under the step that each run reports.

Source: Li et al. 2021 (DRT), Fig. 2.
"""

import pathlib
import sys
from collections.abc import Sequence

import numpy as np

from dgjax import console
from dgjax.analysis import command, figures
from dgjax.analysis.results import Finished, read_runs
from dgjax.analysis.summary import table
from dgjax.errors import UserError


def source_accuracies(runs: Sequence[Finished]) -> dict[str, float]:
  """Accuracy on the test split of every domain that some of the runs trained on, in the way that they predict.

  Args:
    runs: finished runs of a data set that keeps a test split of its sources apart.

  Returns:
    Domain -> mean over the runs that trained on it, in [0, 1].

  Raises:
    UserError: a run has no accuracy on its sources.
  """
  found: dict[str, list[float]] = {}
  for run in runs:
    mode = run.config.get("algorithm.prediction", "default")
    for domain in run.get("sources"):
      if domain not in run.get("accuracy", mode):
        raise UserError(f"{run.folder} has no accuracy on {domain}: {run.get('dataset')} keeps no test split of it "
                        "apart from training")
      found.setdefault(domain, []).append(run.get("accuracy", mode, domain))
  return {domain: float(np.mean(values)) for domain, values in sorted(found.items())}


def main(argv: Sequence[str]) -> None:
  """Prints and draws the numbers; see the top of this file."""
  parser = command.parser("sources", __doc__)
  parser.add_argument("series", nargs="+", metavar="NAME=FOLDER", help="a name, and the folder of its runs")
  parser.add_argument("--out", type=pathlib.Path, help="a .png file to draw; default: numbers alone")
  options = parser.parse_args(argv)
  series = {}
  for argument in options.series:
    name, equals, folder = argument.partition("=")
    if not equals:
      raise UserError(f"{argument}: give a name and a folder, such as oracle={argument}")
    series[name] = source_accuracies(read_runs(pathlib.Path(folder).expanduser())[0])
  domains = list(next(iter(series.values())))
  print(table(["trained as", *domains], [[name, *(scores.get(domain, "-") for domain in domains)]
                                         for name, scores in series.items()]))
  if options.out:
    print(figures.save(figures.domain_bars(series), options.out))


if __name__ == "__main__":
  sys.exit(console.run(main))
