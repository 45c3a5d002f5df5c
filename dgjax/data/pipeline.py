"""From a prepared data set to batches: shuffled and augmented for training, in order and padded for evaluation.

A batch is a function of (seed, step) alone. That makes the whole state of a training iterator one number, makes a
resumed run see what an uninterrupted one would, and lets every process compute its rows of the global batch without
knowing of the others.
"""

import dataclasses
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import grain
import numpy as np

from dgjax.data import transforms
from dgjax.data.dataset import Dataset, Source, array
from dgjax.errors import UserError, nearest

MIXINGS = ("pooled", "balanced")
TARGET_ORDER = 1 << 31  # told apart from the orders of source domains, so that a target is shuffled on its own
Batch = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class TrainStream:
  """An endless stream of training batches.

  Attributes:
    batches: the batches as a grain dataset, indexed by step; zip it with another to feed both from one iterator.
    examples_per_epoch: of all domains together.
    steps_per_epoch: examples_per_epoch / the global batch size; not whole in general, batches straddle epochs.
    read_options: threads and batches made ahead.
  """

  batches: grain.MapDataset
  examples_per_epoch: int
  steps_per_epoch: float
  read_options: grain.ReadOptions

  def iterator(self) -> grain.DatasetIterator:
    """Returns an iterator from step 0, with get_state and set_state, that `grain.checkpoint.CheckpointSave` takes."""
    return iter(self.batches.to_iter_dataset(self.read_options))


@dataclasses.dataclass(frozen=True)
class EvalBatches:
  """The batches of one pass over a split; iterate as often as needed.

  Attributes:
    batches: as a grain dataset.
    examples: in the split, over all processes.
    read_options: threads and batches made ahead.
  """

  batches: grain.MapDataset
  examples: int
  read_options: grain.ReadOptions

  def __len__(self) -> int:
    return len(self.batches)

  def __iter__(self) -> Iterator[Batch]:
    iterator = iter(self.batches.to_iter_dataset(self.read_options))
    try:
      yield from iterator
    finally:
      iterator.close()


def _rows(batch_size: int, process_index: int, process_count: int, key: str = "batch_size") -> range:
  """Returns which rows of the global batch this process makes; `key` is where its size was set."""
  if batch_size < 1:
    raise UserError(f"config.{key} must be at least 1, got {batch_size}")
  if batch_size % process_count:
    raise UserError(f"config.{key} {batch_size} is not divisible by the {process_count} processes: "
                    f"use {batch_size // process_count * process_count or process_count}")
  each = batch_size // process_count
  return range(process_index * each, (process_index + 1) * each)


def _order(length: int, seed: int, salt: int) -> grain.MapDataset:
  """Returns an endless sequence of indices: every epoch of `length` is a permutation of its own."""
  word = int(np.random.SeedSequence([seed, salt]).generate_state(1)[0])
  return grain.MapDataset.range(length).seed(word).shuffle().repeat()


def _pooled(lengths: Sequence[int], seed: int, salt: int = 0) -> Callable[[int], tuple[int, int, int]]:
  """Returns position -> (domain, index in it, epoch), all domains shuffled together."""
  total, starts = sum(lengths), np.cumsum([0, *lengths])
  order = _order(total, seed, salt)

  def locate(position: int) -> tuple[int, int, int]:
    index = order[position]
    domain = int(np.searchsorted(starts, index, side="right")) - 1
    return domain, int(index - starts[domain]), position // total

  return locate


def _balanced(lengths: Sequence[int], seed: int) -> Callable[[int], tuple[int, int, int]]:
  """Returns position -> (domain, index in it, epoch of that domain), the domains taking turns."""
  orders = [_order(length, seed, 1 + number) for number, length in enumerate(lengths)]

  def locate(position: int) -> tuple[int, int, int]:
    turn, domain = divmod(position, len(lengths))
    return domain, int(orders[domain][turn]), turn // lengths[domain]

  return locate


def _open(dataset: Dataset, domain: str, split: str) -> Source:
  source = dataset.open(domain, split)
  if not len(source):
    raise UserError(f"split {split!r} of domain {domain!r} of data set {dataset.name!r} is empty: it needs more "
                    "images, or another config.data.val_fraction or config.data.test_fraction")
  return source


def _transform(dataset: Dataset, augment: str) -> Callable[[Any, int, np.random.Generator], Any]:
  """Returns the augmentation of a data set's examples; arrays that are no images are left as they are."""
  transform = transforms.find(augment)
  if not dataset.array_shape:
    return transform
  if augment != "none":
    raise UserError(f"config.data.augment={augment} is for images, and data set {dataset.name!r} has none: use none")
  return lambda image, size, rng: image


def _check_image_size(image_size: int) -> None:
  if image_size < 1:
    raise UserError(f"config.data.image_size must be at least 1, got {image_size}")


def train(
    dataset: Dataset, domains: Sequence[str], *, batch_size: int, seed: int, image_size: int, augment: str = "paper",
    mixing: str = "pooled", process_index: int = 0, process_count: int = 1, threads: int = 2,
    prefetch: int = 4) -> TrainStream:
  """Streams shuffled, augmented batches of the "train" splits of some domains, without end.

  Every example comes exactly once per epoch; batches straddle epochs, nothing is dropped. An example's augmentation
  depends on (seed, epoch, example) alone.

  Args:
    dataset: as loaded.
    domains: the source domains; a batch's `domain` indexes this, or `dataset.groups` where the data set has groups.
    batch_size: of the global batch, over all processes.
    seed: of order and augmentation; at least 0.
    image_size: pixels per side.
    augment: one of `transforms.AUGMENTATIONS`.
    mixing: "pooled": all domains shuffled together, so in proportion to their size; "balanced": equal numbers of each
      in every batch, each domain going through its examples at its own pace.
    process_index, process_count: this process yields rows [i * B / n, (i + 1) * B / n) of the global batch.
    threads: that make batches.
    prefetch: batches made ahead.

  Returns:
    A stream of batches for this process's b = B / n rows: image (b, image_size, image_size, channels) uint8, or (b,
    *dataset.array_shape) float32; label (b,) int32, domain (b,) int32.

  Raises:
    UserError: unknown domain, augmentation or mixing; an empty split; a batch size that does not divide.
  """
  transform = _transform(dataset, augment)
  _check_image_size(image_size)
  rows = _rows(batch_size, process_index, process_count)
  if not domains:
    raise UserError(f"no source domains: choose from {', '.join(dataset.domains)}")
  sources = [_open(dataset, domain, "train") for domain in domains]
  lengths = [len(source) for source in sources]
  if mixing == "pooled":
    locate = _pooled(lengths, seed)
  elif mixing == "balanced":
    if dataset.groups:
      raise UserError(f"config.data.mixing=balanced is for a few source domains, and data set {dataset.name!r} trains "
                      f"on {len(dataset.groups)}: use pooled")
    if batch_size % len(domains):
      raise UserError(f"config.batch_size {batch_size} is not divisible by the {len(domains)} source domains, as "
                      "config.data.mixing=balanced needs: use "
                      f"{batch_size // len(domains) * len(domains) or len(domains)}")
    locate = _balanced(lengths, seed)
  else:
    raise UserError(f"unknown config.data.mixing {mixing!r}{nearest(mixing, MIXINGS)}")
  return _stream(dataset, sources, locate, rows=rows, batch_size=batch_size, seed=seed, image_size=image_size,
                 transform=transform, labelled=True, threads=threads, prefetch=prefetch)


def unlabelled(
    dataset: Dataset, domain: str, *, batch_size: int, seed: int, image_size: int, augment: str = "paper",
    process_index: int = 0, process_count: int = 1, threads: int = 2, prefetch: int = 4) -> TrainStream:
  """Streams shuffled, augmented images of a target domain without their labels, without end.

  They are those of `dataset.adaptation_split`. Order and augmentation are as of `train`, but of the target's own.

  Args:
    dataset: as loaded.
    domain: the target.
    batch_size: of the target's part of the global batch, over all processes.
    seed, image_size, augment, process_index, process_count, threads, prefetch: as `train` takes them.

  Returns:
    A stream of batches that hold image, as `train` yields it, and nothing else.

  Raises:
    UserError: unknown domain or augmentation; an empty split; a batch size that does not divide.
  """
  transform = _transform(dataset, augment)
  _check_image_size(image_size)
  rows = _rows(batch_size, process_index, process_count, "target_batch_size")
  source = _open(dataset, domain, dataset.adaptation_split(domain))
  return _stream(dataset, [source], _pooled([len(source)], seed, TARGET_ORDER), rows=rows, batch_size=batch_size,
                 seed=seed, image_size=image_size, transform=transform, labelled=False, threads=threads,
                 prefetch=prefetch)


def with_target(source: TrainStream, target: TrainStream) -> TrainStream:
  """Joins a stream of the sources and one of the target, for methods that adapt.

  Args:
    source: made by `train`.
    target: made by `unlabelled`; it starts over at its own pace.

  Returns:
    A stream of {"source": a batch of the one, "target": a batch of the other}; an epoch is one of the sources.
  """
  length = min(len(source.batches), len(target.batches))
  both = grain.experimental.ZipMapDataset([source.batches[:length], target.batches[:length]])
  return dataclasses.replace(source, batches=both.map(lambda parts: {"source": parts[0], "target": parts[1]}))


def _stream(dataset: Dataset, sources: Sequence[Source], locate: Callable[[int], tuple[int, int, int]], *, rows: range,
            batch_size: int, seed: int, image_size: int, transform: Callable[[Any, int, np.random.Generator], Any],
            labelled: bool, threads: int, prefetch: int) -> TrainStream:
  """Returns the batches of the examples that `locate` finds; without labels they hold images alone."""
  salts = [zlib.crc32(source.domain.encode()) for source in sources]

  def make(step: int) -> Batch:
    batch = _empty(len(rows), dataset, image_size)
    for slot, row in enumerate(rows):
      domain, index, epoch = locate(step * batch_size + row)
      source = sources[domain]
      image, batch["label"][slot] = source.image(index)
      key = [seed, epoch, salts[domain], int(source.indices[index])]
      rng = np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))
      batch["image"][slot] = array(transform(image, image_size, rng))
      batch["domain"][slot] = domain if source.groups is None else source.groups[index]
    return batch if labelled else {"image": batch["image"]}

  examples = sum(map(len, sources))
  return TrainStream(
    batches=grain.MapDataset.range(sys.maxsize // batch_size).map(make),
    examples_per_epoch=examples, steps_per_epoch=examples / batch_size,
    read_options=grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(prefetch, 1)))


def evaluate(
    dataset: Dataset, domain: str, split: str, *, batch_size: int, image_size: int, domain_index: int = 0,
    process_index: int = 0, process_count: int = 1, threads: int = 2, prefetch: int = 4) -> EvalBatches:
  """Goes once through one split of one domain, in order.

  Args:
    dataset: as loaded.
    domain: one of its domains.
    split: "train", "val" or "test".
    batch_size: of the global batch, over all processes.
    image_size: pixels per side; images are resized to exactly that, or to a little more and cut where the data set says
      `centre_crop`; arrays that are no images are left as they are.
    domain_index: what the batches' `domain` says.
    process_index, process_count: this process yields rows [i * B / n, (i + 1) * B / n) of each global batch; every
      process yields the same number of batches.
    threads: that make batches.
    prefetch: batches made ahead.

  Returns:
    Batches as `train` yields them, and mask (b,) bool: each example is True exactly once over all batches and
    processes; False rows are zeros that pad the last batch.

  Raises:
    UserError: unknown domain or split, an empty split, a batch size that does not divide.
  """
  _check_image_size(image_size)
  rows = _rows(batch_size, process_index, process_count)
  source = _open(dataset, domain, split)
  fit: Callable[[Any, int], Any] = transforms.centre if dataset.centre_crop else transforms.resize
  if dataset.array_shape:
    fit = lambda image, size: image  # noqa: E731

  def make(step: int) -> Batch:
    batch = _empty(len(rows), dataset, image_size)
    batch["domain"][:] = domain_index
    batch["mask"] = np.arange(step * batch_size + rows.start, step * batch_size + rows.stop) < len(source)
    for slot in range(int(batch["mask"].sum())):
      image, batch["label"][slot] = source.image(step * batch_size + rows.start + slot)
      batch["image"][slot] = array(fit(image, image_size))
    return batch

  return EvalBatches(
    batches=grain.MapDataset.range(-(-len(source) // batch_size)).map(make), examples=len(source),
    read_options=grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(prefetch, 1)))


def _empty(rows: int, dataset: Dataset, image_size: int) -> dict[str, Any]:
  shape, dtype = dataset.example(image_size)
  return {"image": np.zeros((rows, *shape), dtype), "label": np.zeros(rows, np.int32),
          "domain": np.zeros(rows, np.int32)}
