"""MNIST-M made from MNIST: digits blended with photographs."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from dgjax.data import decoding, files
from dgjax.data.builders import base, mnist
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

  Ganin et al. took patches of BSDS500's photographs. Here the photographs come from any folder: at most 500,
  spread evenly over the sorted names, and shrunk to 640 pixels if they are larger. Without a folder they are the two
  that come with scikit-learn.

  Source: Ganin et al., "Domain-Adversarial Training of Neural Networks", JMLR 2016, Section 5.2.3.
  """

  def __init__(self, digits: Arrays, folder: str, problem: Callable[[str, str, str], None]):
    """
    Args:
      digits: MNIST.
      folder: of photographs, or "".
      problem: raises a UserError, or notes what is left out: of a file's path, what is wrong with it, and advice.
    """
    super().__init__()
    self.digits, self._problem = digits, problem
    self.paths: list[Path] = []
    if folder:
      root = base.find_folder(folder, "photographs", "photographs")
      paths = []
      for path, reason in sorted(files.walk(root)):
        if files.is_image(path.name) and not reason:
          paths.append(path)
        elif files.is_picture(path.name):
          self._unreadable(path, reason or "a format that is not read here")
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
    found = [photograph for path in self.paths if (photograph := self._read(path)) is not None]
    if not found:
      raise UserError(f"config.data.photographs: none of the {len(self.paths)} images can be used: look at the files")
    return found

  def _unreadable(self, path: Path, reason: str) -> None:
    self._problem(str(path), f"cannot read photograph {path} ({reason})", "replace or remove the file")

  def _read(self, path: Path) -> np.ndarray | None:
    """Reads a photograph, at most `LONGEST` pixels long; None where it is left out."""
    try:
      small = decoding.decode(files.contents(path))
    except Exception as error:  # a decoder raises what it happens to
      self._unreadable(path, str(error) or type(error).__name__)
      return None
    small.thumbnail((LONGEST, LONGEST))
    if min(small.size) < mnist.SIDE:
      self._problem(str(path), f"photograph {path} is smaller than {mnist.SIDE} x {mnist.SIDE} pixels",
                    "remove the file")
      return None
    return np.asarray(small)
