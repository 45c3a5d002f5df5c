"""What all figures share: colours that anyone can tell apart, markers, grid and legend, and how they are written."""

import math
import pathlib
from collections.abc import Collection
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's palette and cividis: told apart with any common colour blindness, and in grey.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
COLOURMAP = "cividis"
MANY = "turbo"  # for more names than COLOURS
MARKERS = "osD^vPX*"
MOST_NAMES = 24  # in a legend


def colour_of(index: int, count: int) -> Any:
  """The colour of one of several names."""
  return COLOURS[index] if count <= len(COLOURS) else matplotlib.colormaps[MANY](index / (count - 1))


def finish(figure: Figure, axes: Axes, names: Collection[str]) -> Figure:
  """A figure of one panel with its grid and legend."""
  axes.spines[["top", "right"]].set_visible(False)
  axes.grid(axis="y", color="#E4E4E4")
  if len(names) <= MOST_NAMES:
    columns = 1 if max(map(len, names)) > 24 else 2
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + 0.18 * math.ceil(len(names) / columns))
    figure.legend(loc="outside lower center", ncols=columns, frameon=False, fontsize=8)
  return figure


def save(figure: Figure, path: pathlib.Path) -> pathlib.Path:
  """Writes a figure as PNG, and as PDF beside it, making its folder.

  Args:
    figure: what one of the functions above returned.
    path: where to; the name must end in `.png`.

  Returns:
    `path`.
  """
  path.parent.mkdir(parents=True, exist_ok=True)
  figure.savefig(path, format="png", dpi=150)
  figure.savefig(path.with_suffix(".pdf"), format="pdf", metadata={"CreationDate": None})  # the same each time
  return path
