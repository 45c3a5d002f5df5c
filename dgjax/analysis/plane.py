"""Images as points in the plane."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dgjax.analysis.style import MARKERS, MOST_NAMES, colour_of


def points_in_plane(panels: Mapping[str, tuple[Any, Sequence[str]]], right: Any = None,
                    order: Sequence[str] = ()) -> Figure:
  """Images as points, coloured by a name that each has.

  Args:
    panels: title of a panel -> (images, 2) positions, and the name of each image, such as its domain or class.
    right: (images,) bool, whether each image was classified correctly. It is then drawn as a circle, else as a cross.
      Default: each name has a marker of its own.
    order: names in the order of the legends. Other names follow in the order of their first images.

  Returns:
    The figure: the panels in a row, with a legend under each, unless it has more than `MOST_NAMES` names.

  Raises:
    ValueError: no panel, or one with another number of names or of marks than of positions.

  Source: Li et al. 2021 (DRT), Figs. 4 and 5; Duboudin et al. 2021 (RCL), Fig. 3; Shankar et al. 2018 (CrossGrad),
    Figs. 6 and 7.
  """
  if not panels:
    raise ValueError("no panel to draw")
  figure = Figure(figsize=(max(4.2, 3.9 * len(panels)), 4.9), layout="constrained")
  row = figure.subplots(1, len(panels), squeeze=False)[0]
  for (title, (values, labels)), axes in zip(panels.items(), row, strict=True):
    points, of = np.asarray(values), np.asarray(labels)
    marks = np.ones(len(of), bool) if right is None else np.asarray(right)
    if points.shape != (len(of), 2) or marks.shape != of.shape:
      raise ValueError(f"panel {title!r}: positions of shape {points.shape} for {len(of)} names and {len(marks)} marks")
    there = dict.fromkeys(of.tolist())
    names = list(dict.fromkeys([*(name for name in order if name in there), *there]))
    for i, name in enumerate(names):
      colour = colour_of(i, len(names))
      own = MARKERS[i % len(MARKERS)] if right is None else "o"
      for taken, marker in ((marks, own), (~marks, "x")):
        where = (of == name) & taken
        if where.any():
          axes.scatter(*points[where].T, s=14 if marker == "x" else 10, color=[colour], marker=marker,
                       linewidths=0.8 if marker == "x" else 0, alpha=0.8)
      axes.scatter([], [], s=20, color=[colour], marker=own, label=name)
    axes.set_title(title, fontsize=10)
    axes.set_xticks([])
    axes.set_yticks([])
    if len(names) <= MOST_NAMES:
      axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.02), ncols=2 if len(names) < 7 else 4, frameon=False,
                  fontsize=8, handletextpad=0.2, columnspacing=1)
  if right is not None:
    figure.suptitle("circle: classified rightly, cross: wrongly", fontsize=9)
  return figure
