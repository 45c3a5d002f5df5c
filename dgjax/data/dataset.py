"""What a prepared data set offers: its domains, its splits, and random access to their examples."""

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from dgjax.data.decoding import decode, sides
from dgjax.errors import UserError, nearest

SPLITS = ("train", "val", "test")


class Source:
  """Random access to the examples of one split of one domain; safe to read from several threads.

  Attributes:
    domain, split: which.
    indices: (n,) int32, where in the prepared records each example lies; it names the example in every split.
    groups: (n,) int32, each example's `domain` in training as an index of `Dataset.groups`. None: the domain itself.
  """

  def __init__(self, records: Any, labels: np.ndarray, indices: np.ndarray, channels: int, domain: str, split: str,
               where: str, groups: np.ndarray | None = None, names: Sequence[str] | None = None):
    """
    Args:
      records: random access to encoded images, (h, w, 1 or 3) uint8 images or float32 arrays.
      labels: of the records, int32.
      indices: see above.
      channels: of decoded images.
      domain, split: see above.
      where: what the records are, for messages.
      groups: see above.
      names: names of the records: the paths of files. None: their numbers.
    """
    self._names = names
    self.domain, self.split, self.indices, self.groups = domain, split, indices, groups
    self._records, self._labels, self._channels, self._where = records, labels, channels, where

  def __len__(self) -> int:
    return len(self.indices)

  def name(self, index: int) -> str:
    """Returns an example's name in the data set: the path of its file below the domain's folder or the root, if any.

    Args:
      index: in [0, len(self)).
    """
    record = int(self.indices[index])
    return str(record) if self._names is None else self._names[record]

  def image(self, index: int, smallest: int | None = None) -> tuple[Image.Image | np.ndarray, int]:
    """Reads one example.

    Args:
      index: in [0, len(self)).
      smallest: see `decode`.

    Returns:
      The decoded Pillow image (mode RGB, or L with one channel), or the float32 array of a data set that has no images;
      and its label.

    Raises:
      IndexError: there is no such example.
      UserError: the record is damaged.
    """
    stored, label = self._records[int(self.indices[index])], int(self._labels[self.indices[index]])
    if isinstance(stored, np.ndarray):
      return (picture(stored) if stored.dtype == np.uint8 else stored), label
    with self._named(index):
      return decode(stored, self._channels, smallest), label

  def sides(self, index: int) -> tuple[int, int]:
    """Returns width and height of an example's image, which is not decoded for it."""
    stored = self._records[int(self.indices[index])]
    if isinstance(stored, np.ndarray):
      return stored.shape[1], stored.shape[0]
    with self._named(index):
      return sides(stored)

  @contextlib.contextmanager
  def _named(self, index: int) -> Iterator[None]:
    """Turns whatever Pillow raises, any of half a dozen types, into a UserError."""
    try:
      yield
    except Exception as error:
      raise UserError(f"record {self.indices[index]} of {self._where} cannot be decoded ({error}): delete that folder "
                      "and run again to prepare it anew") from error

  def __getitem__(self, index: int) -> dict[str, Any]:
    """Returns {"image": (h, w, c) uint8, or float32 where there are no images, "label": int}, decoded here and now."""
    image, label = self.image(index)
    return {"image": array(image), "label": label}


def array(image: Image.Image | np.ndarray) -> np.ndarray:
  """Returns the (h, w, c) array of what `Source.image` gives."""
  values = np.asarray(image)
  return values if values.ndim == 3 else values[..., None]


def picture(values: np.ndarray) -> Image.Image:
  """Returns the Pillow image of an (h, w, 1 or 3) uint8 array; the inverse of `array`."""
  return Image.fromarray(values[..., 0] if values.shape[2] == 1 else values)


@dataclass(frozen=True)
class Dataset:
  """A prepared data set.

  Attributes:
    name: its name in `dgjax.data.DATASETS`.
    domains: names of its domains.
    classes: names of its classes; labels index this.
    splits: domain -> {"train": n, "val": n, "test": n}. A target is scored on its "test" split.
    source_test: whether "test" is disjoint from "train" and "val", so that in-domain accuracy on it is meaningful.
    mean, std: mean and standard deviation per channel, of pixels in [0, 1] or of arrays. For arrays they may also be
      per column and channel (w * c numbers). Normalisation happens on the device.
    channels: of images, 1 or 3.
    sources, targets: the domains that can be trained on, and that can be the target; empty: all.
    groups: names of the groups (fonts, writers, speakers) that are the domains in training, for a data set that has
      dozens to thousands of them and whose `domains` are "seen" and "unseen". None: the source domains.
    array_shape: shape of the float32 arrays, if examples are no images.
    centre_crop: whether evaluation sees only the centre of an image instead of the whole image.
    keep_aspect: whether an image keeps its aspect before its centre is taken (`transforms.centre_of_shortened`) or not
      (`transforms.centre`).
    left_out: store of records (in general a domain) -> [(file, reason)], what `data.on_error=skip` dropped.
    digests: domain -> a hash of its class names, its examples' names, labels and contents, and its splits. It depends
      neither on where the files lie nor on when they were written.
  """

  name: str
  domains: tuple[str, ...]
  classes: tuple[str, ...]
  splits: Mapping[str, Mapping[str, int]]
  source_test: bool
  mean: tuple[float, ...]
  std: tuple[float, ...]
  channels: int
  opener: Callable[[str, str], Source] | None = field(repr=False)
  sources: tuple[str, ...] = ()
  targets: tuple[str, ...] = ()
  groups: tuple[str, ...] | None = field(default=None, repr=False)
  array_shape: tuple[int, int, int] | None = None
  centre_crop: bool = False
  keep_aspect: bool = False
  left_out: Mapping[str, list[tuple[str, str]]] = field(default_factory=dict, repr=False)
  digests: Mapping[str, str] = field(default_factory=dict, repr=False)

  @staticmethod
  def from_arrays(
      images: np.ndarray, labels: np.ndarray, domains: np.ndarray, classes: Sequence[str] | None = None,
      domain_names: Sequence[str] | None = None, *, val_fraction: float = 0.1, test_fraction: float = 0.2,
      seed: int = 0, mean: Sequence[float] | None = None, std: Sequence[float] | None = None,
      name: str = "arrays") -> "Dataset":
    """Makes a data set of arrays. They stay in memory, and no file is written.

    Splits are drawn class by class in each domain, as for images in folders.

    Args:
      images: (n, h, w, c), all finite. uint8, with c of 1 or 3: images, which are augmented and resized to
        `config.data.image_size` like all images. float32: arrays, which are normalised and reach the network in their
        own shape; `config.data.augment` must be none.
      labels: (n,) integers in [0, number of classes).
      domains: (n,) integers in [0, number of domains).
      classes: names of the classes. None: "0", "1" and so on, up to the highest label.
      domain_names: names of the domains. None: "domain0", "domain1" and so on, up to the highest number.
      val_fraction, test_fraction: shares of each class in each domain that are held out, in [0, 1).
      seed: seed of the splits.
      mean, std: per channel, of uint8 images divided by 255 or of float32 arrays. The network gets (image - mean) /
        std. None: computed over the "train" splits of all domains, including that of a later target. Give them if the
        target must have no part in them.
      name: of the data set.

    Returns:
      The data set.

    Raises:
      UserError: another shape, length or dtype, a number out of range, a value that is not finite, a domain or split
        without images.
    """
    from dgjax.data import arrays  # here, as it builds on this module

    return arrays.build(images, labels, domains, classes, domain_names, val_fraction=val_fraction,
                        test_fraction=test_fraction, seed=seed, mean=mean, std=std, name=name)

  @staticmethod
  def from_folder(path: str | os.PathLike[str], *, seed: int = 0, **settings: Any) -> "Dataset":
    """Opens images as PATH/DOMAIN/CLASS/*, as `config.data.name=folder` does.

    Args:
      path: the folder that holds the domains' folders.
      seed: of the splits.
      **settings: keys of `config.data`, such as val_fraction, test_fraction, cache_dir, on_error.

    Returns:
      The data set.

    Raises:
      UserError: no such folder or setting, or images that cannot be used.
    """
    from ml_collections import ConfigDict

    from dgjax import data  # here, as it builds on this module

    known = data.defaults("folder")
    for key in settings:
      if key not in known:
        raise UserError(f"from_folder has no setting {key!r}{nearest(key, known)}")
    return data.load(ConfigDict({**known, **settings, "name": "folder", "dir": os.fspath(path)}), seed)

  def facts(self) -> dict[str, Any]:
    """Everything that is known of the data set without its examples, as JSON. `from_facts` reads it."""
    known = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)
             if field.name not in ("opener", "left_out")}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in known.items()}

  @classmethod
  def from_facts(cls, facts: Mapping[str, Any]) -> "Dataset":
    """A data set that has a description alone; its examples cannot be opened.

    Args:
      facts: as `facts` returned them.
    """
    known: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in facts.items()}
    return cls(opener=None, **known)

  def compare(self, digests: Mapping[str, str]) -> None:
    """Compares the data set with one that a run was trained on.

    Args:
      digests: the digests of the other data set.

    Raises:
      UserError: a domain's examples, classes or splits are others.
    """
    for domain, digest in digests.items():
      if self.digests.get(domain, digest) != digest:
        raise UserError(f"domain {domain!r} of {self.name} has changed since the run's last checkpoint (images, "
                        "classes or splits): restore the data as they were, or train anew in another --workdir")

  def example(self, image_size: int) -> tuple[tuple[int, int, int], np.dtype]:
    """Returns the shape (h, w, c) and dtype that an example has in a batch of images of `image_size` pixels a side."""
    if self.array_shape:
      return self.array_shape, np.dtype(np.float32)
    return (image_size, image_size, self.channels), np.dtype(np.uint8)

  def check(self, domain: str) -> str:
    """Returns `domain` if the data set has it, and raises a UserError that names the nearest one if not."""
    if domain not in self.domains:
      raise UserError(f"data set {self.name!r} has no domain {domain!r}{nearest(domain, self.domains)}")
    return domain

  def adaptation_split(self, domain: str) -> str:
    """Returns the split of a target that is trained on without labels.

    It is "train", with two exceptions. If a domain is scored on all of its images (not `source_test`, as in PACS), it
    is "test": unsupervised adaptation is by custom trained and scored on the same target images (Office-31,
    VisDA-2017). It is also "test" if there is no other split, as for unseen fonts.

    Raises:
      UserError: no such domain.
    """
    return "train" if self.source_test and self.splits[self.check(domain)]["train"] else "test"

  def open(self, domain: str, split: str) -> Source:
    """Opens one split of one domain.

    Args:
      domain: one of `domains`.
      split: "train", "val" or "test".

    Returns:
      A random-access source of {"image": (h, w, c) uint8 or float32, "label": int}.

    Raises:
      UserError: no such domain or split.
    """
    self.check(domain)
    if split not in SPLITS:
      raise UserError(f"data set {self.name!r} has no split {split!r}{nearest(split, SPLITS)}")
    if self.opener is None:
      raise UserError(f"the examples of {self.name!r} are not at hand: only what a run recorded of them is")
    return self.opener(domain, split)
