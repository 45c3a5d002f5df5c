"""What a prepared data set offers: its domains, its splits, and random access to their examples."""

import dataclasses
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from dgjax.errors import UserError, nearest

SPLITS = ("train", "val", "test")


def decode(encoded: bytes, channels: int = 3, smallest: int | None = None) -> Image.Image:
  """Decodes one image file.

  Args:
    encoded: the bytes of an image file of any format that Pillow reads.
    channels: 3 for RGB, 1 for grey.
    smallest: sides that are enough: a JPEG is decoded at a half, a quarter or an eighth of its sides if neither becomes
      smaller. None: whole.

  Returns:
    A loaded Pillow image of mode RGB or L; transparency is dropped.

  Raises:
    OSError, ValueError, SyntaxError, Image.DecompressionBombError: Pillow's, where the bytes are no whole image.
  """
  image: Image.Image = Image.open(io.BytesIO(encoded))
  if smallest:
    image.draft(None, (smallest, smallest))
  if image.mode == "P" and "transparency" in image.info:
    image = image.convert("RGBA")  # else Pillow warns that it guesses
  elif image.mode.startswith("I"):  # 16-bit grey: convert() would clip instead of scale
    image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
  return image.convert("RGB" if channels == 3 else "L")


class Source:
  """Random access to the examples of one split of one domain; safe to read from several threads.

  Attributes:
    domain, split: which.
    indices: (n,) int32, where in the prepared records each example lies; it names the example in every split.
    groups: (n,) int32, what each example's `domain` is in training, an index of `Dataset.groups`; None: its domain.
  """

  def __init__(self, records: Any, indices: np.ndarray, channels: int, domain: str, split: str, where: str,
               groups: np.ndarray | None = None):
    """
    Args:
      records: random access to {"image": encoded bytes or a float32 array, "label": int}.
      indices: see above.
      channels: of decoded images.
      domain, split: see above.
      where: the folder of the records, for messages.
      groups: see above.
    """
    self.domain, self.split, self.indices, self.groups = domain, split, indices, groups
    self._records, self._channels, self._where = records, channels, where

  def __len__(self) -> int:
    return len(self.indices)

  def image(self, index: int, smallest: int | None = None) -> tuple[Image.Image | np.ndarray, int]:
    """Reads one example.

    Args:
      index: in [0, len(self)).
      smallest: see `decode`.

    Returns:
      The decoded Pillow image (mode RGB, or L with one channel), or the float32 array of a data set that has no images;
      and its label.

    Raises:
      UserError: the prepared record cannot be read.
    """
    try:
      record = self._records[int(self.indices[index])]
      stored = record["image"]
      image = stored if isinstance(stored, np.ndarray) else decode(stored, self._channels, smallest)
      return image, int(record["label"])
    except Exception as error:  # a damaged cache surfaces as any of half a dozen types
      raise UserError(
        f"record {self.indices[index]} of the prepared data in {self._where} cannot be read ({error}): "
        "delete that folder and run again to prepare it anew") from error

  def sides(self, index: int) -> tuple[int, int]:
    """Returns width and height of an example's image, which is not decoded for it."""
    return Image.open(io.BytesIO(self._records[int(self.indices[index])]["image"])).size

  def __getitem__(self, index: int) -> dict[str, Any]:
    """Returns {"image": (h, w, c) uint8, or float32 where there are no images, "label": int}, decoded here and now."""
    image, label = self.image(index)
    return {"image": array(image), "label": label}


def array(image: Image.Image | np.ndarray) -> np.ndarray:
  """Returns the (h, w, c) array of what `Source.image` gives."""
  values = np.asarray(image)
  return values if values.ndim == 3 else values[..., None]


@dataclass(frozen=True)
class Dataset:
  """A prepared data set.

  Attributes:
    name: its name in `dgjax.data.DATASETS`.
    domains: names of its domains.
    classes: names of its classes; labels index this.
    splits: domain -> {"train": n, "val": n, "test": n}; "test" is what a domain is scored on when it is the target.
    source_test: whether "test" is disjoint from "train" and "val", so that in-domain accuracy on it means something.
    mean, std: per channel, of pixels in [0, 1], or of arrays; normalisation happens on the device.
    channels: of images, 1 or 3.
    sources, targets: the domains that can be trained on, and that can be the target; empty: all.
    groups: names of what plays the part of source domains in training, where the data set has dozens to thousands of
      them (fonts, writers, speakers) and `domains` are those seen and those unseen; None: the source domains do.
    array_shape: where examples are no images: the shape of the float32 arrays that they are.
    centre_crop: whether evaluation sees the centre of an image only (`transforms.centre`), instead of all of it.
    left_out: store of records (of a domain, in general) -> [(file, reason)], what `data.on_error=skip` dropped.
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
  left_out: Mapping[str, list[tuple[str, str]]] = field(default_factory=dict, repr=False)
  digests: Mapping[str, str] = field(default_factory=dict, repr=False)

  def facts(self) -> dict[str, Any]:
    """What there is to know of the data set without its examples, as JSON has it; `from_facts` takes it."""
    known = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)
             if field.name not in ("opener", "left_out")}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in known.items()}

  @classmethod
  def from_facts(cls, facts: Mapping[str, Any]) -> "Dataset":
    """A data set that is described, but whose examples cannot be opened.

    Args:
      facts: as `facts` returned them.
    """
    known: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in facts.items()}
    return cls(opener=None, **known)

  def compare(self, digests: Mapping[str, str]) -> None:
    """Compares the data set with one that a run was trained on.

    Args:
      digests: of that one.

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
    """Returns which split of a target is trained on without labels.

    It is "train". Where a domain is scored on all of its images (not `source_test`, as PACS) it is "test": unsupervised
    adaptation is by custom trained and scored on the same images of the target (Office-31, VisDA-2017). So is it where
    nothing but "test" is there, as of unseen fonts.

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
