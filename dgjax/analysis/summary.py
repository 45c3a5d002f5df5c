"""The text that a finished command prints: accuracy per target, the mask matrix and the overlap."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from dgjax.algorithms.overlap import layers
from dgjax.analysis.recorded import Finished, differing
from dgjax.analysis.results import Cell, mean_over
from dgjax.config import flatten


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
  """Aligned columns: names to the left, numbers (floats in [0, 1], as percent) to the right."""
  cells = [list(header), *([f"{100 * c:.1f}" if isinstance(c, float) else str(c) for c in row] for row in rows)]
  widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
  return "\n".join("  ".join(cell.ljust(w) if i == 0 else cell.rjust(w)
                             for i, (cell, w) in enumerate(zip(row, widths, strict=True))).rstrip() for row in cells)


def summary(results: Sequence[Mapping[str, Any]], workdir: pathlib.Path) -> str:
  """Describes the finished runs of one command: one or several targets, seeds and values of a sweep.

  Args:
    results: contents of their `results.json`.
    workdir: the folder that the runs lie in.

  Returns:
    Several lines. First the accuracy in percent under each selection rule, and on the sources' validation splits if
    there are any: a line for each target and value of the sweep, with a standard error if there are several seeds. If
    each target has one run, the accuracy of each member on each domain (DMG, Table 4) and the overlap of masks follow.
    The last lines say where the files are.
  """
  runs = [Finished(workdir, one, flatten(one.get("config", {}))) for one in results]
  first = runs[0].results
  rules = list(first["selection"])
  validated = ["source val"] if "source_val" in rules else []
  swept = list(differing(runs))
  cells: dict[tuple[str, ...], dict[str, list[Cell]]] = {}  # values of the sweep -> target -> a cell for each number
  for run in runs:
    values = tuple(str(run.config.get(key)) for key in swept)
    targets = cells.setdefault(values, {})
    numbers = [*(run.get("selection", rule, "target_accuracy") for rule in rules),
               *(run.get("selection", rules[0], "source_accuracy") for _ in validated)]
    old = targets.get(run.column, [Cell({})] * len(numbers))
    targets[run.column] = [Cell({**cell.scores, run.get("seed"): 100 * number})
                           for cell, number in zip(old, numbers, strict=True)]
  rows = []
  for values, targets in cells.items():
    rows += [[name, *values, *(_number(cell.mean, cell.error) for cell in found)] for name, found in targets.items()]
    if len(targets) > 1:
      means = (mean_over([found[i] for found in targets.values()]) for i in range(len(rules + validated)))
      rows.append(["mean", *values, *(_number(*mean) for mean in means)])
  seeds = sorted({run.get("seed") for run in runs})
  several = f"seed {seeds[0]}:"
  if len(seeds) > 1:
    several = f"seeds {', '.join(map(str, seeds))}: mean ± standard error of the"
  notes = {"target_oracle": "target_oracle (uses target labels)"}
  parts = [f"{first['method']} on {first['dataset']}, {several} accuracy (%) on the target, by rule",
           table(["target", *swept, *(notes.get(rule, rule) for rule in rules), *validated], rows)]
  if len({run.column for run in runs}) == len(runs):
    parts += [text for run in runs for text in _members(run)]
  return "\n".join([*parts, "", _files(len(runs), workdir)])


def _number(value: float | None, error: float | None) -> str:
  """A number in percent with its standard error."""
  if value is None:
    return "-"
  return f"{value:.1f}" if error is None else f"{value:.1f} ± {error:.1f}"


def _members(run: Finished) -> list[str]:
  """The accuracy of each mask or head of a run on each domain, and the overlap of its masks, where it has them."""
  parts = []
  if matrix := run.results.get("mask_matrix"):
    parts += ["",
              f"{run.column} unseen: accuracy under each source's mask or head (sources: {matrix['split']} split)",
              table(["chosen", *matrix["domains"]],
                    [[name, *row] for name, row in zip(matrix["masks"], matrix["accuracy"], strict=True)])]
  if overlap := run.results.get("overlap"):
    kinds = ("on", "off", "shared", "specific")
    parts += ["", "masks: overlap (IoU) and share of units",
              table(["layer", "IoU", *kinds], [[layer, overlap.get(f"iou/{layer}/mean", "-"),
                                                *(overlap[f"units/{layer}/{kind}"] for kind in kinds)]
                                               for layer in layers(overlap)])]
  return parts


def _files(count: int, workdir: pathlib.Path) -> str:
  """Where the results and figures of a command's runs are."""
  several = f", in a folder for each of {count} runs" if count > 1 else ""
  return (f"{workdir}{several}: results.json, figures/*.png and *.pdf, log.txt"
          + (f"\nall in one page: dgjax report {workdir} --out=report.html" if several else ""))
