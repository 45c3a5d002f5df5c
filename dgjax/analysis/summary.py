"""What a finished command prints: accuracy per target, the mask matrix and the overlap."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dgjax.algorithms.overlap import layers


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
  """Aligned columns: names to the left, numbers (floats in [0, 1], as percent) to the right."""
  cells = [list(header), *([f"{100 * c:.1f}" if isinstance(c, float) else str(c) for c in row] for row in rows)]
  widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
  return "\n".join("  ".join(cell.ljust(w) if i == 0 else cell.rjust(w)
                             for i, (cell, w) in enumerate(zip(row, widths, strict=True))).rstrip() for row in cells)


def column(run: Mapping[str, Any]) -> str:
  """What a run's accuracy is of: its target, or "source->target" where its config names the sources.

  Args:
    run: contents of a `results.json`.

  Returns:
    "webcam", "amazon->webcam" or "amazon+dslr->webcam".
  """
  named = run.get("config", {}).get("sources")
  return f"{'+'.join(run['sources'])}->{run['target']}" if named else run["target"]


def summary(runs: Sequence[Mapping[str, Any]]) -> str:
  """Describes finished runs of one method, one per target or transfer.

  Args:
    runs: contents of their `results.json`.

  Returns:
    Several lines: target accuracy in percent under each selection rule; for methods with a member per source domain the
    accuracy of each on each domain (dmg.txt, Table 4); the overlap of their masks.
  """
  first = runs[0]
  rules = list(first["selection"])
  rows = [[column(run), *(run["selection"][rule]["target_accuracy"] for rule in rules),
           run["selection"][rules[0]]["source_accuracy"]] for run in runs]
  if len(runs) > 1:
    rows.append(["mean", *(float(np.mean([row[i] for row in rows])) for i in range(1, len(rows[0])))])
  notes = {"target_oracle": "target_oracle (uses target labels)"}
  parts = [f"{first['method']} on {first['dataset']}, seed {first['seed']}: accuracy on the target, by rule",
           table(["target", *(notes.get(rule, rule) for rule in rules), "source val"], rows)]
  for run in runs:
    if matrix := run.get("mask_matrix"):
      parts += ["",
                f"{column(run)} unseen: accuracy under each source's mask or head (sources: {matrix['split']} split)",
                table(["chosen", *matrix["domains"]],
                      [[name, *row] for name, row in zip(matrix["masks"], matrix["accuracy"], strict=True)])]
    if overlap := run.get("overlap"):
      kinds = ("on", "off", "shared", "specific")
      parts += ["", "masks: overlap (IoU) and share of units",
                table(["layer", "IoU", *kinds], [[layer, overlap.get(f"iou/{layer}/mean", "-"),
                                                  *(overlap[f"units/{layer}/{kind}"] for kind in kinds)]
                                                 for layer in layers(overlap)])]
  return "\n".join(parts)
