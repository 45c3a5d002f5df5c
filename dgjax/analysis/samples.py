"""Images of a run's domains, a row for each; of CrossGrad and LabelGrad also as they move them.

  python -m dgjax.analysis.samples RUN [--split=train] [--moved] [--out=FILE.png]
"""

import pathlib
import sys
from collections.abc import Sequence

import numpy as np

from dgjax import runs
from dgjax.analysis import command, figures
from dgjax.analysis.embed import Sample, moved, sample
from dgjax.errors import UserError
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


def rows(run: Run, split: str = "train", move: bool = False) -> dict[str, np.ndarray]:
  """Images of every source, and of the target's test split, one of each class.

  Args:
    run: a finished run whose data are at hand.
    split: of the sources.
    move: whether each source's images are also shown as CrossGrad or LabelGrad moves them.

  Returns:
    Name of a row -> (up to 10, h, w, c) in [0, 1].

  Raises:
    UserError: the data set has no images, or the method moves none.
  """
  result = {}
  for domain in run.sources:
    images = one_of_each(sample(run, [domain], split, LOOKED_AT))
    result[domain] = pixels(run, images.images)
    if move:
      result[f"{domain}, moved"] = pixels(run, moved(run, images).images)
  result[f"{run.target} (target)"] = pixels(run, one_of_each(sample(run, [run.target], "test", LOOKED_AT)).images)
  return result


@command.one_line
def main(argv: Sequence[str]) -> None:
  """Draws the figure of one run; see the top of this file."""
  parser = command.parser("samples", __doc__)
  parser.add_argument("run", type=pathlib.Path, help="folder of one finished run")
  parser.add_argument("--split", default="train", help="of the sources: train, val or test")
  parser.add_argument("--moved", action="store_true", help="also as CrossGrad and LabelGrad move them")
  parser.add_argument("--out", type=pathlib.Path, help="a .png file; default: in the run's folder figures")
  options = parser.parse_args(argv)
  run = runs.load(options.run)
  figure = figures.image_rows(rows(run, options.split, options.moved), run.classes[:COLUMNS])
  print(figures.save(figure, options.out or run.folder / "figures" / "samples.png"))


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
