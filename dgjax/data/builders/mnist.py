"""MNIST's digits from its IDX files, and embedded digits of the same shape, for use without these files."""

import abc
import functools
import gzip
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dgjax.data import files
from dgjax.data.builders import base, digits
from dgjax.errors import UserError

SIDE = 28
IMAGES, LABELS = "images-idx3-ubyte", "labels-idx1-ubyte"
FILES = {"train": "train", "test": "t10k"}  # part -> how its files' names begin
EMBEDDED = {"train": slice(1437), "test": slice(1437, None)}  # a fifth for testing, as they come


def locate(root: Path, name: str) -> Path | None:
  """Returns the path of an IDX file, plain or gzipped, or None; some archives spell the dash before "idx" as a dot.

  Raises:
    UserError: it is there, but a broken link or another thing that cannot be read.
  """
  for spelling in (name, f"{name}.gz", name.replace("-idx", ".idx"), f"{name.replace('-idx', '.idx')}.gz"):
    if found := files.regular(root / spelling):
      return found
  return None


def find(root: Path, name: str) -> Path:
  """Returns the path of an IDX file as `locate` does.

  Raises:
    UserError: it is absent, or cannot be read.
  """
  if found := locate(root, name):
    return found
  raise UserError(f"there is no {name} (nor {name}.gz) in {root}: config.data.dir must be the folder that holds "
                  "MNIST's four IDX files")


def read_idx(path: Path) -> np.ndarray:
  """Reads an IDX file of unsigned bytes.

  Args:
    path: the file; gzipped where its name ends in .gz.

  Returns:
    The array, uint8, of the shape in its header.

  Raises:
    UserError: the file is damaged or holds something else.
  """
  try:
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
  except (OSError, EOFError, zlib.error) as error:
    raise UserError(f"cannot read {path} ({error}): fetch it again") from error
  if len(content) < 4 or content[:3] != b"\0\0\x08":  # two zeros, then the type: 8 is unsigned bytes
    raise UserError(f"{path} is no IDX file of bytes: fetch it again")
  header = 4 + 4 * content[3]
  shape = np.frombuffer(content[4:header], ">u4").astype(int) if len(content) >= header else np.array([-1])
  if len(content) - header != shape.prod():
    raise UserError(f"{path} holds {len(content)} bytes, not the {header + shape.prod()} that its header says: "
                    "fetch it again")
  return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def read_labels(root: Path, part: str) -> np.ndarray:
  """Reads the labels of MNIST's part "train" or "test", (n,) uint8 in [0, 10); raises as `find` and `read_idx` do."""
  path = find(root, f"{FILES[part]}-{LABELS}")
  labels = read_idx(path)
  if labels.ndim != 1 or labels.max(initial=0) > 9:
    raise UserError(f"{path} does not hold digits' labels: fetch it again")
  return labels


def read_images(root: Path, part: str) -> np.ndarray:
  """Reads the images of MNIST's part "train" or "test", (n, 28, 28) uint8, white on black; raises as `read_labels`."""
  path = find(root, f"{FILES[part]}-{IMAGES}")
  images, count = read_idx(path), len(read_labels(root, part))
  if images.shape != (count, SIDE, SIDE):
    raise UserError(f"{path} holds {images.shape}, not MNIST's ({count}, 28, 28): fetch it again")
  return images


def embedded_labels(part: str) -> np.ndarray:
  """Returns the labels of scikit-learn's digits of part "train" or "test", (n,) uint8 in [0, 10)."""
  return digits.strokes()[1][EMBEDDED[part]].astype(np.uint8)


def embedded_images(part: str) -> np.ndarray:
  """Draws scikit-learn's digits of part "train" or "test" in MNIST's form, (n, 28, 28) uint8, in a box of 20 x 20."""
  strokes = digits.strokes()[0][EMBEDDED[part]]
  images = np.zeros((len(strokes), SIDE, SIDE), np.uint8)
  for image, stroke in zip(images, strokes, strict=True):
    box = Image.fromarray(stroke * 255.0).resize((20, 20), Image.Resampling.BICUBIC)
    image[4:24, 4:24] = np.clip(np.asarray(box) + 0.5, 0.0, 255.0).astype(np.uint8)
  return images


class Parts(base.Layout):
  """A layout of digits that come in two parts, "train" and "test", of 28 x 28 pixels.

  Attributes:
    images: part -> (n, 28, 28) uint8, white on black; read when first asked for.
  """

  classes = tuple("0123456789")

  def __init__(self, config: Any):
    super().__init__(config)
    self.images = functools.cache(self._images)

  @abc.abstractmethod
  def _images(self, part: str) -> np.ndarray:
    """Returns the images of a part, (n, 28, 28) uint8."""

  @abc.abstractmethod
  def labels(self, part: str) -> np.ndarray:
    """Returns the labels of a part, (n,) uint8 in [0, 10)."""

  def stamp(self, part: str) -> int:
    """Returns what changes when a part's images do."""
    del part
    return 0


class Mnist(Parts, base.RootedLayout):
  """MNIST's 60,000 digits for training and 10,000 for testing, from the folder `config.data.dir`.

  Source: LeCun et al., "Gradient-Based Learning Applied to Document Recognition", Proc. IEEE 1998.
  """

  looks_like = "MNIST's four IDX files (train-images-idx3-ubyte and so on, or the same with .gz)"

  def __init__(self, config: Any):
    super().__init__(config)
    if not self.fits(self.root) and (level := self.level()):
      raise UserError(f"there are no images of MNIST in {self.root}: config.data.dir must be the folder that holds "
                      f"{self.looks_like}{level}")

  def fits(self, root: Path) -> bool:
    """Returns whether the images to train on are in a folder."""
    return locate(root, f"{FILES['train']}-{IMAGES}") is not None

  def _images(self, part: str) -> np.ndarray:
    return read_images(self.root, part)

  def labels(self, part: str) -> np.ndarray:
    """Reads the labels of a part, (n,) uint8 in [0, 10)."""
    return read_labels(self.root, part)

  def stamp(self, part: str) -> int:
    """Returns when the file of images was last changed."""
    return find(self.root, f"{FILES[part]}-{IMAGES}").stat().st_mtime_ns


class Embedded(Parts):
  """Scikit-learn's digits in MNIST's form, in a box of 20 x 20 pixels: 1,437 for training and 360 for testing.

  Source: Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI, 1998 (scikit-learn's `load_digits`).
  """

  def _images(self, part: str) -> np.ndarray:
    return embedded_images(part)

  def labels(self, part: str) -> np.ndarray:
    """Returns the labels of a part, (n,) uint8 in [0, 10)."""
    return embedded_labels(part)
