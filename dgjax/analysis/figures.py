"""The figures of a finished run: training curves, and DMG's masks, their overlap, and accuracy under each."""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from dgjax.analysis import curves, mask_figures, style
from dgjax.recorder import read_lines


def save_all(folder: pathlib.Path, results: Mapping[str, Any]) -> list[pathlib.Path]:
  """Draws every figure that a finished run has data for into its sub-folder `figures`.

  Args:
    folder: the run's folder. `metrics.jsonl` is read for curves, and `masks.npz` (an array of mask probabilities
      (p, k) for each masked layer) for the masks, where they are there.
    results: the contents of its `results.json`: `sources`, or `groups` for a data set that has groups, and
      `mask_matrix` and `overlap` for a method that has them.

  Returns:
    The PNG files written, in `folder/figures`, each with a PDF beside it: curves.png, masks.png, overlap.png,
    overlap_curves.png, mask_matrix.png.
  """
  figures, trained = {}, results.get("groups") or results["sources"]
  lines = read_lines(folder / "metrics.jsonl")
  if any(key.startswith("train/") for line in lines for key in line):
    figures["curves"] = curves.curves(lines)
  if (folder / "masks.npz").exists():
    with np.load(folder / "masks.npz", allow_pickle=False) as probs:
      figures["masks"] = mask_figures.masks(dict(probs), trained)
  if "iou/mean" in results.get("overlap", {}):  # a single source domain has no overlap to show
    figures["overlap"] = mask_figures.overlap_bars(results["overlap"], trained)
    figures["overlap_curves"] = mask_figures.overlap_curves(lines)
  if results.get("mask_matrix"):
    figures["mask_matrix"] = mask_figures.mask_matrix(results["mask_matrix"])
  return [style.save(figure, folder / "figures" / f"{name}.png") for name, figure in figures.items()]
