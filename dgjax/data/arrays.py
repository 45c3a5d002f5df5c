"""Data sets of arrays in memory: see `Dataset.from_arrays`."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dgjax.data import digests
from dgjax.data.builders import base
from dgjax.data.dataset import SPLITS, Dataset, Source
from dgjax.errors import UserError


def build(
    images: Any, labels: Any, domains: Any, classes: Sequence[str] | None, domain_names: Sequence[str] | None, *,
    val_fraction: float, test_fraction: float, seed: int, mean: Sequence[float] | None, std: Sequence[float] | None,
    name: str) -> Dataset:
  """Implements `Dataset.from_arrays`, which says what the arguments are."""
  images = _images(images)
  labels, classes = _numbers("labels", labels, len(images), "classes", classes, "")
  domains, domain_names = _numbers("domains", domains, len(images), "domain_names", domain_names, "domain")
  fractions = {"val": val_fraction, "test": test_fraction}
  if min(fractions.values()) < 0 or sum(fractions.values()) >= 1:
    raise UserError(f"val_fraction and test_fraction must be at least 0 and together below 1, got {val_fraction} and "
                    f"{test_fraction}")

  if seed < 0:
    raise UserError(f"seed must be at least 0, got {seed}")

  indices, hashes = {}, {}
  for number, domain in enumerate(domain_names):
    members = np.flatnonzero(domains == number).astype(np.int32)
    if not len(members):
      raise UserError(f"domain {domain!r} has no images: no entry of domains is {number}")
    drawn = base.draw_by_class(labels[members], classes, fractions, seed, domain)
    indices[domain] = {split: members[chosen] for split, chosen in drawn.items()}
    contents = np.frombuffer(b"".join(digests.content(images[i]) for i in members), np.uint8).reshape(len(members), -1)
    examples = digests.of_examples([str(i) for i in members], labels[members], contents)
    hashes[domain] = digests.of_domain(classes, examples, indices[domain])

  channels, pictures = images.shape[3], images.dtype == np.uint8
  train = np.concatenate([indices[domain]["train"] for domain in domain_names])
  found_mean, found_std = _moments(images, np.sort(train))

  def opener(domain: str, split: str) -> Source:
    return Source(images, labels, indices[domain][split], channels, domain, split, "the arrays")

  return Dataset(
    name=name, domains=domain_names, classes=classes,
    splits={domain: {split: len(indices[domain][split]) for split in SPLITS} for domain in domain_names},
    source_test=True, mean=_per_channel("mean", mean, found_mean), std=_per_channel("std", std, found_std),
    channels=channels, array_shape=None if pictures else images.shape[1:], opener=opener, digests=hashes)


def _images(images: Any) -> np.ndarray:
  images = np.asarray(images)
  if images.ndim != 4 or 0 in images.shape:
    raise UserError(f"images must be of shape (n, h, w, c), none of them 0, got {images.shape}")
  if images.dtype not in (np.uint8, np.float32):
    raise UserError(f"images must be uint8 or float32, got {images.dtype}: convert them with images.astype")
  if images.dtype == np.uint8 and images.shape[3] not in (1, 3):
    raise UserError(f"uint8 images must have 1 or 3 channels, got {images.shape[3]}: give other arrays as float32")
  if images.dtype == np.float32:
    for number, image in enumerate(images):  # one by one, as a mask of all would take a quarter of their memory
      if not np.isfinite(image).all():
        raise UserError(f"image {number} holds a value that is not finite")
  return images


def _numbers(key: str, values: Any, count: int, names_key: str, names: Sequence[str] | None,
             prefix: str) -> tuple[np.ndarray, tuple[str, ...]]:
  """Returns labels or domains as (n,) int32, and their names."""
  values = np.asarray(values)
  if values.shape != (count,):
    raise UserError(f"{key} must be of shape ({count},), as there are {count} images, got {values.shape}")
  if not np.issubdtype(values.dtype, np.integer):
    raise UserError(f"{key} must be integers, got {values.dtype}")
  names = tuple(f"{prefix}{i}" for i in range(int(values.max()) + 1)) if names is None else tuple(map(str, names))
  if len(set(names)) != len(names):
    raise UserError(f"{names_key} names something twice: {', '.join(names)}")
  if values.min() < 0 or values.max() >= len(names):
    wrong = int(np.flatnonzero((values < 0) | (values >= len(names)))[0])
    raise UserError(f"{key}[{wrong}] is {values[wrong]}, and must be in [0, {len(names)}), the number of {names_key}")
  return values.astype(np.int32), names


def _moments(images: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Returns mean and standard deviation per channel of the chosen images, in [0, 1] where they are uint8."""
  total = np.zeros((2, images.shape[3]))
  for i in chosen:
    values = images[i].astype(np.float64)
    total += values.sum((0, 1)), (values * values).sum((0, 1))
  mean, square = total / (len(chosen) * images.shape[1] * images.shape[2])
  std = np.sqrt(np.maximum(square - mean * mean, 0.0))
  scale = 255.0 if images.dtype == np.uint8 else 1.0
  # A constant channel has nothing to scale: its deviation is rounding alone
  return mean / scale, np.where(std > 1e-6 * np.maximum(np.abs(mean), 1e-6), std / scale, 1.0)


def _per_channel(key: str, given: Sequence[float] | None, found: np.ndarray) -> tuple[float, ...]:
  values = found if given is None else np.asarray(given, np.float64)
  if values.shape != found.shape or not np.isfinite(values).all() or (key == "std" and values.min() <= 0):
    kind = "finite and positive" if key == "std" else "finite"
    raise UserError(f"{key} must be {len(found)} {kind} numbers, one a channel, got {given}")
  return tuple(float(value) for value in values)
