"""MNIST-M made from MNIST: digits blended with photographs."""

import math
from pathlib import Path

import numpy as np
from PIL import Image

from dgjax.data.builders import base, mnist
from dgjax.data.builders.folder import IMAGE_SUFFIXES
from dgjax.data.builders.forms import PARTS, Arrays, Form, changed, crc
from dgjax.errors import UserError

REVISION = 1  # counts changes of the drawing below
MOST, LONGEST = 500, 640  # photographs that are used, and pixels of their longer side: BSDS500's, more or less


def blend(digit: np.ndarray, patch: np.ndarray) -> np.ndarray:
  """Blends a digit with a patch of a photograph: the absolute difference, channel by channel.

  Args:
    digit: (h, w) uint8, white on black.
    patch: (h, w, 3) uint8.

  Returns:
    (h, w, 3) uint8: |patch - digit|.

  Source: Ganin et al., "Domain-Adversarial Training of Neural Networks", JMLR 2016, Section 5.2.3.
  """
  return np.abs(patch.astype(np.int16) - digit[..., None]).astype(np.uint8)


class Blended(Form):
  """MNIST's digits, each blended with a random patch of a random photograph, which its part and number decide.

  Ganin et al. took patches of BSDS500's photographs. Here it is any folder of them, at most 500, spread over the list
  of all by name, shrunk to 640 pixels where they are larger; without one, the two that come with scikit-learn.

  Source: Ganin et al., "Domain-Adversarial Training of Neural Networks", JMLR 2016, Section 5.2.3.
  """

  def __init__(self, digits: Arrays, folder: str):
    super().__init__()
    self.digits = digits
    self.paths: list[Path] = []
    if folder:
      root = base.find_folder(folder, "photographs")
      paths = sorted(path for path in root.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
      if not paths:
        raise UserError(f"config.data.photographs: there is no image in {root} or below: point it at photographs")
      self.paths = paths[::math.ceil(len(paths) / MOST)]
    photographs = f"{len(self.paths)} photographs in {folder}" if folder else "scikit-learn's two photographs"
    self.what = f"{digits.what}, blended with {photographs}"

  def labels(self, part: str) -> np.ndarray:
    """Returns the labels of a part."""
    return self.digits.labels(part)

  def stamp(self) -> int:
    """Returns what changes with the digits, the photographs, or how they are blended."""
    return crc(REVISION, self.digits.stamp(), changed(*self.paths))

  def encoded(self, part: str, number: int) -> bytes:
    """Blends one digit."""
    digit, photographs = self.held(part, self.digits.images)[number], self.held("photographs", self._photographs)
    rng = np.random.default_rng([REVISION, PARTS.index(part), number])
    photograph = photographs[rng.integers(len(photographs))]
    top, left = (int(rng.integers(have - need + 1))
                 for have, need in zip(photograph.shape[:2], digit.shape, strict=True))
    return base.encode_png(blend(digit, photograph[top : top + digit.shape[0], left : left + digit.shape[1]]))

  def _photographs(self, key: str) -> list[np.ndarray]:
    """Reads the photographs, (h, w, 3) uint8 each."""
    del key
    if not self.paths:
      from sklearn.datasets import load_sample_images

      return list(load_sample_images().images)
    return [_read(path) for path in self.paths]


def _read(path: Path) -> np.ndarray:
  """Reads a photograph, at most `LONGEST` pixels long."""
  try:
    with Image.open(path) as image:
      small = image.convert("RGB")
  except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
    raise UserError(f"cannot read photograph {path} ({error}): replace or remove the file") from error
  small.thumbnail((LONGEST, LONGEST))
  if min(small.size) < mnist.SIDE:
    raise UserError(f"photograph {path} is smaller than {mnist.SIDE} x {mnist.SIDE} pixels: remove the file")
  return np.asarray(small)
