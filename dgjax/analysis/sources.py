"""Accuracy on the source domains: each trained on alone, all together, and aligned with a target.

  python -m dgjax.analysis.sources oracle=FOLDER joint=FOLDER transferred=FOLDER ... [--out=FILE.png]

Each FOLDER holds runs, at any depth: those of the oracle trained on one domain each (`--config.sources=each` with
`aggregate`), those of the others on several. The number of a domain is the mean over the folder's runs that trained on
it, on its test split, under the step that each run reports.

Source: Li et al. 2021 (DRT), Fig. 2.
"""

import pathlib
import sys
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from dgjax import console
from dgjax.analysis import command
from dgjax.analysis.recorded import Finished, read_runs
from dgjax.analysis.style import COLOURS, save
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


def domain_bars(series: Mapping[str, Mapping[str, float]]) -> Figure:
  """Accuracy on each domain, a group of bars for each and for their mean.

  Args:
    series: name, such as "oracle" -> domain -> accuracy in [0, 1]; the first names the domains.

  Returns:
    The figure. A domain that a series lacks has no bar of it, and the series none at the mean.

  Source: Li et al. 2021 (DRT), Fig. 2.
  """
  domains = list(next(iter(series.values())))
  figure = Figure(figsize=(max(5.5, 1.8 + (len(domains) + 1) * (0.3 + 0.24 * len(series))), 3.9), layout="constrained")
  axes = figure.subplots()
  width = 0.8 / len(series)
  heights = [[100 * scores.get(domain, np.nan) for domain in domains] for scores in series.values()]
  for i, (name, values) in enumerate(zip(series, heights, strict=True)):
    place = np.arange(len(domains) + 1) + (i - (len(series) - 1) / 2) * width
    bars = axes.bar(place, np.append(values, np.mean(values)), 0.92 * width, label=name,
                    color=COLOURS[i % len(COLOURS)])
    axes.bar_label(bars, fmt="%.1f", fontsize=7, padding=2, rotation=90)
  axes.axvline(len(domains) - 0.5, color="#777777", linewidth=0.8, linestyle=":")
  axes.set_xticks(range(len(domains) + 1), [*domains, "mean"], fontsize=8)
  lowest, highest = np.nanmin(heights), np.nanmax(heights)
  room = max(highest - lowest, 5.0)
  axes.set_ylim(max(0.0, lowest - room), highest + 0.5 * room)
  axes.set_ylabel("accuracy (%)")
  axes.spines[["top", "right"]].set_visible(False)
  figure.legend(loc="outside upper center", ncols=min(len(series), 4), frameon=False, fontsize=9)
  return figure


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
    print(save(domain_bars(series), options.out))


if __name__ == "__main__":
  sys.exit(console.run(main))
