"""The description of a data set: which examples there are, what they hold, and how they are split.

`dgjax.data.preparation` does everything else.
"""

import abc
import io
import logging
import math
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from dgjax.data import decoding, files
from dgjax.data.dataset import Source
from dgjax.errors import UserError, nearest

log = logging.getLogger("dgjax")

SKIP_HINT = "or set config.data.on_error=skip to leave it out"


class Example(NamedTuple):
  """One example before it is prepared.

  Attributes:
    name: its name, unique in the domain; for a file, its path below the root.
    label: index into the layout's classes.
    size: number of bytes, as far as known.
    stamp: a number that changes when the content does.
    splits: the splits that the data set's own lists put it in.
  """

  name: str
  label: int
  size: int = 0
  stamp: int = 0
  splits: tuple[str, ...] = ()


class Layout(abc.ABC):
  """The layout of one data set. A new data set is a subclass of this and a line in `dgjax.data.DATASETS`.

  Attributes:
    name: name of the data set.
    noun: the word for an example, for messages.
    config: `config.data`.
    domains, classes: found by the constructor.
    sources, targets: the domains that can be trained on, and that can be the target; empty: all.
    source_test, centre_crop, keep_aspect: see `Dataset`.
    array_shape: shape of the float32 arrays that `read` returns, if examples are no images.
    channels: number of channels of the images, 1 or 3.
    mean, std: see `Dataset`.
    defaults: keys of `config.data` that this data set adds to the general ones, or whose defaults it changes.
    left_out: store -> [(file, reason)], what was skipped.
  """

  name: str
  noun = "image"
  sources: tuple[str, ...] = ()
  targets: tuple[str, ...] = ()
  source_test = True
  centre_crop = keep_aspect = False
  array_shape: tuple[int, int, int] | None = None
  channels = 3
  mean: tuple[float, ...] = (0.485, 0.456, 0.406)
  std: tuple[float, ...] = (0.229, 0.224, 0.225)
  defaults: dict[str, Any] = {}  # noqa: RUF012 (data set by data set, never written)

  domains: tuple[str, ...]
  classes: tuple[str, ...]

  def __init__(self, config: Any):
    if config.on_error not in ("raise", "skip"):
      raise UserError(f"unknown config.data.on_error {config.on_error!r}{nearest(config.on_error, ('raise', 'skip'))}")
    self.config = config
    self.left_out: dict[str, list[tuple[str, str]]] = {}

  def store(self, domain: str) -> str:
    """Returns the name of the set of records that holds a domain's examples. In general each domain has its own."""
    return domain

  @abc.abstractmethod
  def examples(self, store: str) -> list[Example]:
    """Returns the examples of one set of records, in an order that only their names decide."""

  def recipe(self) -> str:
    """Returns the settings that change what `read` returns. With other values, records are made anew."""
    return ""

  @abc.abstractmethod
  def read(self, example: Example) -> bytes | np.ndarray:
    """Returns the encoded image, or the array. Raises an OSError with the reason if it cannot be read."""

  def release(self, store: str) -> None:
    """Frees what `read` keeps in memory for a set of records, once all of them are prepared."""
    del store

  @abc.abstractmethod
  def split(self, domain: str, examples: Sequence[Example], seed: int) -> dict[str, np.ndarray]:
    """Returns, for "train", "val" and "test", sorted indices into the store's `examples` (n,) int32."""

  def groups(self, examples: Sequence[Example], seed: int) -> tuple[tuple[str, ...], np.ndarray] | None:
    """Returns the groups that are the domains in training, for a store that holds many; see `builders.grouped`.

    Args:
      examples: the examples of the one store.
      seed: as `split` takes it.

    Returns:
      The names of the groups that are trained on, and the number of each example's group among them, (n,) int32, -1 if
      it is none of them. None: the data set has no groups.
    """
    del examples, seed
    return None

  def normalisation(self, training: Sequence[Source]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns mean and deviation, as `Dataset` has them.

    Args:
      training: the training splits of the domains that can be trained on.
    """
    del training
    return self.mean, self.std

  @abc.abstractmethod
  def split_name(self, seed: int) -> str:
    """Returns a file name that is different for different ways to split."""

  def where(self, example: Example) -> str:
    """Returns how a message names this example."""
    return example.name

  def problem(self, domain: str, name: str, reason: str, advice: str) -> None:
    """Raises a UserError, or under `on_error=skip` notes what is left out.

    Args:
      domain: the domain of the problem.
      name: the file or class at fault.
      reason: what is wrong with it.
      advice: what to do about it; the message continues with "or set config.data.on_error=skip".
    """
    if self.config.on_error != "skip":
      raise UserError(f"{reason}: {advice}, {SKIP_HINT}")
    self.left_out.setdefault(domain, []).append((name, reason))


class RootedLayout(Layout):
  """A layout of files below the folder `config.data.dir`.

  Attributes:
    looks_like: what that folder holds, for messages.
    root: its full path.
  """

  looks_like = "ROOT/DOMAIN/CLASS/*"

  def __init__(self, config: Any):
    super().__init__(config)
    if not config.dir:
      raise UserError(f"data set {self.name!r} needs config.data.dir: the folder that holds {self.looks_like}")
    self.root = find_folder(config.dir, self.looks_like)
    self._unused: dict[str, list[str]] = {}

  def read(self, example: Example) -> bytes | np.ndarray:
    """Returns the file's bytes."""
    return files.contents(self.root / example.name)

  def where(self, example: Example) -> str:
    """Returns the file's full path."""
    return str(self.root / example.name)

  def fits(self, root: Path) -> bool:
    """Returns whether a folder looks like the one that `config.data.dir` should be."""
    del root
    return False

  def above(self) -> Path | None:
    """Returns the folder up to two levels above the root that looks like one of this data set, or None."""
    return next((place for place in self.root.parents[:2] if self.fits(place)), None)

  def level(self) -> str:
    """Returns the end of a message, which names a folder above or below the root that looks right; "" if none does."""
    place = files.below(self.root, self.fits) or self.above()
    return f"; {place} is such a folder: use config.data.dir={place}" if place else ""

  def leave_out(self, domain: str, reason: str, advice: str) -> None:
    """Raises a UserError that a domain cannot be used, or under `on_error=skip` logs that it is left out."""
    self.problem(domain, domain, reason, advice)
    log.warning("Left out domain %s: %s", domain, reason)

  def unusable(self, store: str, path: Path, reason: str) -> None:
    """Notes as a problem that a file cannot be used."""
    self.problem(store, path.relative_to(self.root).as_posix(), f"cannot read {self.noun} {path} ({reason})",
                 "replace or remove the file")

  def unused(self, store: str, path: Path) -> None:
    """Notes a file that is not used, for `say_unused`."""
    self._unused.setdefault(store, []).append(path.relative_to(self.root).as_posix())

  def say_unused(self, store: str) -> None:
    """Logs how many files of a set of records were not used."""
    if names := self._unused.pop(store, None):
      files.say_once(f"Not looked at in {self.root} for {self.name}/{store}: {files.counted(names)}")

  def readable(self, name: str) -> bool:
    """Returns whether a file's name is of an example that can be read: an image's."""
    return files.is_image(name)

  def foreign(self, name: str) -> bool:
    """Returns whether a file's name is of an example in a format that is not read here."""
    return name.lower().endswith(decoding.FOREIGN)

  def subfolders(self, store: str, folder: Path) -> list[str]:
    """Returns the names of the folders directly in a folder, sorted.

    Broken links and pipes, which may have been folders, are problems; examples' files beside the folders are noted as
    unused.
    """
    found = files.listing(folder)
    for name, reason in found.faults:
      self.problem(store, name, f"{folder / name} is {reason}", "mend or remove it")
    for entry in found.files:
      if self.readable(entry.name) or self.foreign(entry.name):
        self.unused(store, folder / entry.name)
    return list(found.folders)

  def usable_files(self, store: str, folder: Path, nested: bool = True) -> list[os.DirEntry[str]]:
    """Returns the examples' files directly in a folder, by name.

    Files of formats that are not read here are problems, and so are broken links and pipes under an example's name. All
    other files are noted as unused. With `nested`, so are the files of examples in the folders below.
    """
    found = files.listing(folder)
    usable = []
    for entry in found.files:
      if self.readable(entry.name):
        usable.append(entry)
      elif self.foreign(entry.name):
        self.unusable(store, folder / entry.name, "a format that is not read here")
      else:
        self.unused(store, folder / entry.name)
    for name, reason in found.faults:
      if self.readable(name) or self.foreign(name):
        self.unusable(store, folder / name, reason)
      else:
        self.unused(store, folder / name)
    for name in found.folders if nested else ():
      for path, _ in files.walk(folder / name):
        if self.readable(path.name) or self.foreign(path.name):
          self.unused(store, path)
    return usable


def of_file(entry: os.DirEntry[str], name: str, label: int) -> Example:
  """Returns the example that a file is."""
  found = entry.stat()
  return Example(name, label, found.st_size, found.st_mtime_ns)


def find_folder(path: str, looks_like: str, key: str = "dir") -> Path:
  """Returns the full path of a folder that a key of `config.data` names.

  Args:
    path: the key's value; "~" is the home folder.
    looks_like: what the folder should hold, for messages.
    key: the key, for messages.

  Raises:
    UserError: there is no such folder.
  """
  try:
    root = Path(path).expanduser().resolve()
    found = root.is_dir()
  except (OSError, RuntimeError, ValueError) as error:  # a loop of links, no such user's home, a zero byte
    raise UserError(f"config.data.{key} {path!r} is no path that can be used ({error}): point it at the folder that "
                    f"holds {looks_like}") from error
  if not found:
    raise UserError(f"config.data.{key}: {files.no_folder(root)}: point it at the folder that holds {looks_like}")
  return root


def encode_png(pixels: np.ndarray) -> bytes:
  """Encodes an image for storage, for data sets that are generated or come as arrays.

  Args:
    pixels: (h, w, 3) or (h, w) uint8.

  Returns:
    The bytes of a PNG file.
  """
  stream = io.BytesIO()
  Image.fromarray(pixels).save(stream, "PNG")
  return stream.getvalue()


def draw_split(count: int, fractions: dict[str, float], seed: int, salt: str) -> dict[str, np.ndarray]:
  """Draws disjoint random splits; what no fraction claims is "train".

  Args:
    count: number of examples.
    fractions: split -> share in [0, 1), rounded up to whole examples; "train" keeps at least one.
    seed: seed of the draw.
    salt: makes draws with the same seed differ: the name of a domain or class.

  Returns:
    split -> sorted indices (n,) int32.
  """
  order = np.random.default_rng([seed, zlib.crc32(salt.encode())]).permutation(count).astype(np.int32)
  split, start = {}, 0
  for name, fraction in fractions.items():
    # 1e-9: 0.1 * 30 is a hair above 3
    take = min(math.ceil(fraction * count - 1e-9), max(count - start - 1, 0))
    split[name] = np.sort(order[start : start + take])
    start += take
  return {"train": np.sort(order[start:]), **split}


def draw_by_class(labels: np.ndarray, classes: Sequence[str], fractions: dict[str, float], seed: int,
                  domain: str) -> dict[str, np.ndarray]:
  """Draws disjoint random splits class by class, so that each split holds every class that it has room for.

  Args:
    labels: (n,) labels of the domain's examples.
    classes: names of the classes.
    fractions: as `draw_split` takes them, of each class.
    seed: of the draw.
    domain: its name.

  Returns:
    split -> indices (n,) int32, class by class and sorted in each.
  """
  parts: dict[str, list[np.ndarray]] = {name: [] for name in ("train", *fractions)}
  for label, name in enumerate(classes):
    members = np.flatnonzero(labels == label).astype(np.int32)
    for split, chosen in draw_split(len(members), fractions, seed, f"{domain}/{name}").items():
      parts[split].append(members[chosen])
  return {split: np.concatenate(chosen) for split, chosen in parts.items()}


def check_fractions(**fractions: float) -> None:
  """Raises a UserError unless every fraction is in [0, 1) and together they leave something to train on."""
  for key, value in fractions.items():
    if not 0 <= value < 1:
      raise UserError(f"config.data.{key} must be in [0, 1), got {value}")
  if sum(fractions.values()) >= 1:
    raise UserError(f"config.data: {' + '.join(fractions)} must be below 1 to leave images to train on")
