"""The forms in which sets of digits are published, read back as arrays of images and labels."""

import abc
import functools
import gzip
import threading
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dgjax.data import files
from dgjax.data.builders import base, matlab, mnist
from dgjax.errors import UserError

PARTS = ("train", "test")


def as_labels(values: np.ndarray, where: Path) -> np.ndarray:
  """Converts the labels of a file.

  Args:
    values: (n, 10) one-hot, or (n, 1), (1, n) or (n,) numbers of which 10 means 0.
    where: the file, for messages.

  Returns:
    The labels, (n,) uint8 in [0, 10).

  Raises:
    UserError: they are something else.
  """
  if values.ndim == 2 and values.shape[1] == 10 and np.isin(values, (0, 1)).all() and (values.sum(1) == 1).all():
    return values.argmax(1).astype(np.uint8)
  flat = values.reshape(-1)
  if flat.size != max(values.shape, default=0) or not np.isin(flat, range(11)).all():
    raise UserError(f"{where} does not hold digits' labels: fetch it again")
  return (flat % 10).astype(np.uint8)


def as_images(values: np.ndarray, where: Path, white: float = 255.0) -> np.ndarray:
  """Converts the images of a file to uint8.

  Args:
    values: (n, h, w), (n, 1, h, w), (n, h, w, 1) or (n, h, w, 3), of any type.
    where: the file, for messages.
    white: the value that becomes 255.

  Returns:
    The images, (n, h, w) or (n, h, w, 3) uint8, rounded.

  Raises:
    UserError: they are something else.
  """
  if values.ndim == 4 and 1 in (values.shape[1], values.shape[3]):
    values = values[:, 0] if values.shape[1] == 1 else values[..., 0]
  if values.dtype.kind not in "uif" or (values.ndim != 3 and (values.ndim != 4 or values.shape[3] != 3)):
    raise UserError(f"{where} holds an array {values.shape} that is no images: fetch it again")
  if values.dtype == np.uint8 and white == 255:
    return values
  return np.clip(values * (255.0 / white) + 0.5, 0.0, 255.0).astype(np.uint8)


def search(folders: Sequence[Path], name: str) -> Path | None:
  """Returns the path of a file in the first of some folders that has it.

  Raises:
    UserError: the path is a broken link, a pipe or something else that cannot be read.
  """
  return next((found for folder in folders if (found := files.regular(folder / name))), None)


class Form(abc.ABC):
  """Digits of one domain, in parts "train" and "test".

  Attributes:
    what: where the digits come from, for the log.
  """

  what: str

  def __init__(self) -> None:
    self._lock = threading.Lock()
    self._held: dict[str, Any] = {}

  @abc.abstractmethod
  def labels(self, part: str) -> np.ndarray:
    """Returns the labels of a part, (n,) uint8 in [0, 10)."""

  @abc.abstractmethod
  def encoded(self, part: str, number: int) -> bytes:
    """Returns one image as the bytes of an image file; raises OSError where there is none to be read."""

  @abc.abstractmethod
  def stamp(self) -> int:
    """Returns what changes when an image does."""

  def name(self, part: str, number: int) -> str:
    """Returns how a message names an image."""
    return f"{part}/{number:06d} of {self.what}"

  def held(self, key: str, make: Callable[[str], Any]) -> Any:
    """Returns `make(key)`, which is computed once, by one of the threads that ask."""
    with self._lock:
      if key not in self._held:
        self._held[key] = make(key)
      return self._held[key]

  def release(self) -> None:
    """Frees what is held."""
    self._held = {}


class Arrays(Form):
  """Digits whose files are read a part at a time."""

  @abc.abstractmethod
  def images(self, part: str) -> np.ndarray:
    """Returns the images of a part, (n, h, w) or (n, h, w, 3) uint8."""

  def encoded(self, part: str, number: int) -> bytes:
    """Returns one image as PNG."""
    return base.encode_png(self.held(part, self.images)[number])


def crc(*parts: Any) -> int:
  """Returns a checksum of values as they are printed."""
  return zlib.crc32(repr(parts).encode("utf-8", "surrogateescape"))


def changed(*paths: Path) -> int:
  """Returns a number that changes when one of the files does, by size and date."""
  return crc(*((str(path), stat.st_size, stat.st_mtime_ns) for path in paths for stat in [path.stat()]))


class Idx(Arrays):
  """MNIST's four IDX files."""

  def __init__(self, folder: Path):
    super().__init__()
    self.folder, self.what = folder, f"MNIST's IDX files in {folder}"

  @classmethod
  def find(cls, folders: Sequence[Path]) -> "Idx | None":
    """Looks for the training images. If they are found, the other files must be there too."""
    for folder in folders:
      if mnist.locate(folder, f"{mnist.FILES['train']}-{mnist.IMAGES}"):
        return cls(folder)
    return None

  def labels(self, part: str) -> np.ndarray:
    """Reads the labels of a part."""
    return mnist.read_labels(self.folder, part)

  def images(self, part: str) -> np.ndarray:
    """Reads the images of a part, (n, 28, 28) uint8."""
    return mnist.read_images(self.folder, part)

  def stamp(self) -> int:
    """Returns what changes with the files."""
    return changed(*(mnist.find(self.folder, f"{name}-{mnist.IMAGES}") for name in mnist.FILES.values()))


class Embedded(Arrays):
  """Scikit-learn's digits in MNIST's form."""

  what = "scikit-learn's embedded digits"

  def labels(self, part: str) -> np.ndarray:
    """Returns the labels of a part."""
    return mnist.embedded_labels(part)

  def images(self, part: str) -> np.ndarray:
    """Draws a part, (n, 28, 28) uint8."""
    return mnist.embedded_images(part)

  def stamp(self) -> int:
    """Returns that they never change."""
    return 0


class Matlab(Arrays):
  """MATLAB files with a variable of images and one of labels for each part, in one file or two."""

  def __init__(self, paths: Sequence[Path], images: Sequence[str], labels: Sequence[str], last: bool):
    super().__init__()
    self.paths = dict(zip(PARTS, paths, strict=True))
    self.variables = dict(zip(PARTS, zip(images, labels, strict=True), strict=True))
    self.last, self.what = last, " and ".join(map(str, dict.fromkeys(paths)))

  @classmethod
  def find(cls, files: Sequence[str], images: Sequence[str], labels: Sequence[str], last: bool = False,
           ) -> "Callable[[Sequence[Path]], Matlab | None]":
    """Returns a function that looks for the files.

    Args:
      files, images, labels: names of the files and of the variables, for "train" and "test".
      last: whether examples are along the last axis of images instead of the first.

    Returns:
      A function from folders to the content of the first one that has the training file. It raises a UserError if
      another file is missing.
    """
    def look(folders: Sequence[Path]) -> Matlab | None:
      if not (first := search(folders, files[0])):
        return None
      second = first.with_name(files[1])
      if not second.is_file():
        raise UserError(f"there is {first} but no {second}: fetch it too")
      return cls((first, second), images, labels, last)
    return look

  def labels(self, part: str) -> np.ndarray:
    """Reads the labels of a part."""
    labels, = matlab.read(self.paths[part], self.variables[part][1])
    return as_labels(labels, self.paths[part])

  def images(self, part: str) -> np.ndarray:
    """Reads the images of a part."""
    path = self.paths[part]
    values, labels = matlab.read(path, *self.variables[part])
    return matching(as_images(np.moveaxis(values, -1, 0) if self.last else values, path), as_labels(labels, path), path)

  def stamp(self) -> int:
    """Returns what changes with the files."""
    return changed(*self.paths.values())


def matching(images: np.ndarray, labels: np.ndarray, where: Path) -> np.ndarray:
  """Returns the images, and raises a UserError unless there are as many labels."""
  if len(images) != len(labels):
    raise UserError(f"{where} holds {len(images)} images and {len(labels)} labels: fetch it again")
  return images


class UspsMatlab(Arrays):
  """USPS as M3SDA has it: a cell array {images, labels; images, labels} of values in [0, 1], 28 x 28."""

  def __init__(self, path: Path):
    super().__init__()
    self.path, self.what = path, str(path)

  @classmethod
  def find(cls, folders: Sequence[Path]) -> "UspsMatlab | None":
    """Looks for the file."""
    path = search(folders, "usps_28x28.mat")
    return cls(path) if path else None

  def _cells(self, part: str) -> tuple[np.ndarray, np.ndarray]:
    cells, = matlab.read(self.path, "dataset")
    if cells.dtype != object or cells.shape != (2, 2):
      raise UserError(f"{self.path}: its variable 'dataset' is no cell array of 2 x 2, images and labels to train and "
                      "to test: fetch it again")
    return cells[PARTS.index(part)]

  def labels(self, part: str) -> np.ndarray:
    """Reads the labels of a part."""
    return as_labels(self._cells(part)[1], self.path)

  def images(self, part: str) -> np.ndarray:
    """Reads the images of a part, (n, 28, 28) uint8."""
    images, labels = self._cells(part)
    return matching(as_images(images, self.path, white=1.0), as_labels(labels, self.path), self.path)

  def stamp(self) -> int:
    """Returns what changes with the file."""
    return changed(self.path)


class UspsText(Arrays):
  """USPS as text, zip.train and zip.test: on each line a label and 256 values in [-1, 1], 16 x 16 by rows.

  Source: Hastie, Tibshirani and Friedman, The Elements of Statistical Learning, its data.
  """

  SIDE = 16

  def __init__(self, paths: Sequence[Path]):
    super().__init__()
    self.paths, self.what = dict(zip(PARTS, paths, strict=True)), " and ".join(map(str, paths))

  @classmethod
  def find(cls, folders: Sequence[Path]) -> "UspsText | None":
    """Looks for the files, gzipped or not."""
    paths = [search(folders, f"zip.{part}") or search(folders, f"zip.{part}.gz") for part in PARTS]
    if not paths[0]:
      return None
    if not paths[1]:
      raise UserError(f"there is {paths[0]} but no zip.test nor zip.test.gz: fetch it too")
    return cls((paths[0], paths[1]))

  def _lines(self, part: str) -> np.ndarray:
    """Reads (n, 257) numbers."""
    path = self.paths[part]
    try:
      content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
      lines = np.array([line.split() for line in content.splitlines() if line.strip()], np.float64)
    except (OSError, EOFError, zlib.error, ValueError) as error:
      raise UserError(f"cannot read {path} ({error}): fetch it again") from error
    if lines.ndim != 2 or lines.shape[1] != 1 + self.SIDE**2:
      raise UserError(f"{path} does not hold a label and {self.SIDE**2} values a line: fetch it again")
    return lines

  def labels(self, part: str) -> np.ndarray:
    """Reads the labels of a part."""
    return as_labels(self._lines(part)[:, 0], self.paths[part])

  def images(self, part: str) -> np.ndarray:
    """Reads the images of a part, (n, 16, 16) uint8."""
    values = self._lines(part)[:, 1:].reshape(-1, self.SIDE, self.SIDE)
    return as_images((values + 1.0) / 2.0, self.paths[part], white=1.0)

  def stamp(self) -> int:
    """Returns what changes with the files."""
    return changed(*self.paths.values())


class Listed(Form):
  """A folder of image files for each part, and a list of lines `file label`, as Ganin et al. published MNIST-M."""

  def __init__(self, folder: Path):
    super().__init__()
    self.folder, self.what = folder, f"{folder}/mnist_m_train and mnist_m_test"

  @classmethod
  def find(cls, folders: Sequence[Path]) -> "Listed | None":
    """Looks for the list to train on."""
    path = search(folders, "mnist_m_train_labels.txt")
    return cls(path.parent) if path else None

  def _rows(self, part: str) -> list[tuple[str, ...]]:
    """Reads the list: names of files and labels."""
    path = self.folder / f"mnist_m_{part}_labels.txt"
    rows: list[tuple[str, ...]] = []
    for number, line in files.lines(path):
      name, label = files.split_label(line)
      if label not in mnist.Parts.classes:
        raise UserError(f"{path} line {number}: expected `file label`, got {line!r}: mend the line")
      rows.append((files.spelt(path.with_name(f"mnist_m_{part}"), name) or name, label))
    return rows

  def labels(self, part: str) -> np.ndarray:
    """Reads the labels of a part."""
    return np.array([int(label) for _, label in self._rows(part)], np.uint8)

  def _path(self, part: str, number: int) -> Path:
    rows = self.held(part, self._rows)
    return self.folder / f"mnist_m_{part}" / rows[number][0]

  def encoded(self, part: str, number: int) -> bytes:
    """Returns the file's bytes."""
    return files.contents(self._path(part, number))

  def name(self, part: str, number: int) -> str:
    """Returns the file's path."""
    return str(self._path(part, number))

  def stamp(self) -> int:
    """Returns what changes with the files, as far as they exist."""
    names = [self.folder / f"mnist_m_{part}" / name for part in PARTS for name, _ in self._rows(part)]
    return changed(*(self.folder / f"mnist_m_{part}_labels.txt" for part in PARTS),
                   *(path for path in names if path.is_file()))


HOUSE_NUMBERS = functools.partial(Matlab.find, images=("X", "X"), labels=("y", "y"), last=True)
PUBLISHED: dict[str, tuple[tuple[str, Callable[[Sequence[Path]], Form | None]], ...]] = {
  "mnist": (
    ("train-images-idx3-ubyte", Idx.find),
    ("mnist_data.mat", Matlab.find(("mnist_data.mat",) * 2, ("train_28", "test_28"), ("label_train", "label_test")))),
  "mnist_m": (
    ("mnistm_with_label.mat",
     Matlab.find(("mnistm_with_label.mat",) * 2, ("train", "test"), ("label_train", "label_test"))),
    ("mnist_m_train_labels.txt", Listed.find)),
  "svhn": (
    ("train_32x32.mat", HOUSE_NUMBERS(("train_32x32.mat", "test_32x32.mat"))),
    ("svhn_train_32x32.mat", HOUSE_NUMBERS(("svhn_train_32x32.mat", "svhn_test_32x32.mat")))),
  "synthetic": (
    ("syn_number.mat",
     Matlab.find(("syn_number.mat",) * 2, ("train_data", "test_data"), ("train_label", "test_label"))),
    ("synth_train_32x32.mat", HOUSE_NUMBERS(("synth_train_32x32.mat", "synth_test_32x32.mat")))),
  "usps": (("usps_28x28.mat", UspsMatlab.find), ("zip.train", UspsText.find)),
}
"""Domain -> its published forms and how they are found. The first form that is found is used."""
