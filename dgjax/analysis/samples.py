"""Images of a run's domains, a row for each; of some methods also as these change them for training.

CrossGrad and LabelGrad move images along a gradient, Jigsaw puts their tiles in another order.

  python -m dgjax.analysis.samples RUN [--split=train] [--changed] [--out=FILE.png]
"""

import dataclasses
import itertools
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from dgjax import console, runs
from dgjax.algorithms.crossgrad import InputGradient
from dgjax.algorithms.jigsaw import ORDERS, Jigsaw
from dgjax.analysis import command
from dgjax.analysis.embed import Sample, moved, sample
from dgjax.analysis.style import save
from dgjax.errors import UserError
from dgjax.losses.permutation import shuffle_tiles
from dgjax.runs import Run

COLUMNS = 10
LOOKED_AT = 400  # images of a domain among which one of each class is looked for


def pixels(run: Run, images: np.ndarray) -> np.ndarray:
  """Normalised images as pixels in [0, 1]; what lies outside, as in moved ones, is cut off.

  Raises:
    UserError: the data set has no images.
  """
  if run.dataset.array_shape:
    raise UserError(f"{run.dataset.name} has no images to show")
  return np.clip(images * np.asarray(run.dataset.std) + np.asarray(run.dataset.mean), 0, 1)


def one_of_each(images: Sample) -> Sample:
  """The first image of each class, of the first ten classes that there are."""
  labels, first = np.unique(images.labels, return_index=True)
  taken = first[np.argsort(labels)][:COLUMNS]
  return Sample(images.images[taken], images.labels[taken], tuple(images.domains[i] for i in taken),
                images.indices[taken])


CHANGE = (InputGradient, Jigsaw)  # methods that train on other images besides the data's


def changed(run: Run, images: Sample) -> Sample:
  """The images of a source domain as the run's method changes them for training.

  Raises:
    UserError: it does not, or the run's domains are groups, which images cannot be moved away from.
  """
  if not isinstance(run.algorithm, Jigsaw):
    return moved(run, images)
  orders = ORDERS[1:][np.arange(len(images.images)) % (len(ORDERS) - 1)]  # the first is the image as it is
  shuffled = shuffle_tiles(jnp.asarray(images.images), jnp.asarray(orders))
  return dataclasses.replace(images, images=np.asarray(shuffled),
                             domains=tuple(f"{name}, puzzle" for name in images.domains))


def rows(run: Run, split: str = "train", change: bool = False) -> dict[str, np.ndarray]:
  """Images of every source, and of the target's test split, one of each class.

  Args:
    run: a finished run whose data are at hand.
    split: of the sources.
    change: whether each source's images are also shown as `changed`.

  Returns:
    Name of a row -> (up to 10, h, w, c) in [0, 1].

  Raises:
    UserError: the data set has no images, or the method changes none.
  """
  result = {}
  for domain in run.sources:
    images = one_of_each(sample(run, [domain], split, LOOKED_AT))
    result[domain] = pixels(run, images.images)
    if change:
      others = changed(run, images)
      result[others.domains[0]] = pixels(run, others.images)
  result[f"{run.target} (target)"] = pixels(run, one_of_each(sample(run, [run.target], "test", LOOKED_AT)).images)
  return result


def image_rows(rows: Mapping[str, Any], columns: Sequence[str] = ()) -> Figure:
  """Images in rows.

  Args:
    rows: name of a row -> (images, height, width, channels) float in [0, 1], of 1 or 3 channels; rows may differ in
      length.
    columns: titles above the first images of each row.

  Returns:
    The figure.

  Source: Duboudin et al. 2021 (RCL), Fig. 1.
  """
  longest = max(len(images) for images in rows.values())
  figure = Figure(figsize=(1.2 + 0.75 * longest, 0.3 + 0.8 * len(rows)), layout="constrained")
  grid = figure.subplots(len(rows), longest, squeeze=False)
  for (name, images), line in zip(rows.items(), grid, strict=True):
    for axes, image in itertools.zip_longest(line, images):
      axes.set_xticks([])
      axes.set_yticks([])
      axes.spines[:].set_visible(False)
      if image is not None:
        axes.imshow(image[..., 0] if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=1)
    line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
  for axes, name in zip(grid[0], columns, strict=False):
    axes.set_title(name, fontsize=9)
  return figure


def main(argv: Sequence[str]) -> None:
  """Draws the figure of one run; see the top of this file."""
  parser = command.parser("samples", __doc__)
  parser.add_argument("run", type=pathlib.Path, help="folder of one finished run")
  parser.add_argument("--split", default="train", help="split of the sources: train, val or test")
  parser.add_argument("--changed", action="store_true", help="also show them as the run's method changes them")
  parser.add_argument("--out", type=pathlib.Path, help="a .png file; default: in the run's folder figures")
  options = parser.parse_args(argv)
  run = runs.load(options.run)
  figure = image_rows(rows(run, options.split, options.changed), run.classes[:COLUMNS])
  print(save(figure, options.out or run.folder / "figures" / "samples.png"))


if __name__ == "__main__":
  sys.exit(console.run(main))
