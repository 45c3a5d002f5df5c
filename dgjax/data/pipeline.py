"""From a prepared data set to batches: shuffled for training, in order and padded for evaluation.

A batch is a function of (seed, step) alone. So the whole state of a training iterator is one number, a resumed run sees
what an uninterrupted one would, and every process computes its rows of the global batch without knowing the others.
First the examples of each row are determined, as arrays of indices. Then the images are either decoded and cropped here
(a stream) or gathered on the device (`resident`).
"""

import dataclasses
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import grain
import numpy as np
from PIL import Image

from dgjax.data import augment as augmentations
from dgjax.data import transforms
from dgjax.data.augment import Augmentation
from dgjax.data.dataset import Dataset, Source, array
from dgjax.data.resident import Resident
from dgjax.data.shuffle import Order
from dgjax.data.threads import thread_count
from dgjax.errors import UserError, nearest

MIXINGS = ("pooled", "balanced")
TARGET_ORDER = 1 << 31  # distinguishes a target's order from the orders of source domains
Batch = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Picks:
  """Says which examples are in which rows of which step, for this process.

  Examples are counted through all sources, one after the other.

  Attributes:
    sources: the splits that the examples come from.
    locate: function from positions in the endless order, of any shape, to the examples there and their epochs.
    batch_size: size of the global batch.
    rows: the rows of it that this process makes.
    seed: seed of order and augmentation.
    labelled: whether batches have labels and domains.
  """

  sources: tuple[Source, ...]
  locate: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
  batch_size: int
  rows: range
  seed: int
  labelled: bool

  def at(self, step: int, steps: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Returns the examples of some steps and their epochs, (steps, rows) int each."""
    first = (step + np.arange(steps)[:, None]) * self.batch_size
    return self.locate(first + np.arange(self.rows.start, self.rows.stop))

  def indices(self, resident: Resident) -> Callable[[int, int], Batch]:
    """Returns what `TrainStream.indices` returns, of this part."""
    row, (domain, words) = resident.rows(self.sources), _tables(self.sources)

    def at(step: int, steps: int) -> Batch:
      example, epoch = self.at(step, steps)
      found = {"row": row[example], "key": _keys(self.seed, epoch, words[example])}
      return found | {"domain": domain[example]} if self.labelled else found

    return at


def _tables(sources: Sequence[Source]) -> tuple[np.ndarray, np.ndarray]:
  """Returns, for all examples of the sources, their `domain` in training and the words of their keys."""
  domain = [np.full(len(source), number) if source.groups is None else source.groups
            for number, source in enumerate(sources)]
  words = [np.stack([np.full(len(source), zlib.crc32(source.domain.encode())), source.indices], 1)
           for source in sources]
  return np.concatenate(domain).astype(np.int32), np.concatenate(words).astype(np.uint32)


def _keys(seed: int, epoch: np.ndarray, words: np.ndarray) -> np.ndarray:
  """Returns (..., 4) uint32: everything that an example's augmentation depends on; see `augment.example_key`."""
  seeds = np.full_like(epoch, seed % 2**32)
  return np.concatenate([np.stack([seeds, epoch], -1).astype(np.uint32), words], -1)


@dataclasses.dataclass(frozen=True)
class TrainStream:
  """An endless stream of training batches.

  Attributes:
    picks: the examples of each row, under "source" and "target" in a stream made by `with_target`, else under "".
    batches: the batches as a grain dataset, indexed by step. Zip it with another one to feed both from one iterator.
    examples_per_epoch: number of examples of all domains together.
    steps_per_epoch: examples_per_epoch / the global batch size. In general no whole number, as batches straddle epochs.
    read_options: threads and batches made ahead.
  """

  picks: Mapping[str, Picks]
  batches: grain.MapDataset
  examples_per_epoch: int
  steps_per_epoch: float
  read_options: grain.ReadOptions

  def iterator(self) -> "Iterated":
    """Returns an iterator from step 0 with get_state and set_state, as `grain.checkpoint.CheckpointSave` takes it."""
    return Iterated(iter(self.batches.to_iter_dataset(self.read_options)))

  @property
  def sources(self) -> tuple[Source, ...]:
    """The splits whose examples are trained on."""
    return tuple(source for part in self.picks.values() for source in part.sources)

  def indices(self, resident: Resident) -> Callable[[int, int], dict[str, Any]]:
    """Returns a function that gives the indices of the batches of some steps, for images that stay on the device.

    Args:
      resident: holds the images.

    Returns:
      A function of a step and a number K of steps. It returns what `resident.gather` makes K batches of this process's
      b rows from: row (K, b) int32, domain (K, b) int32, key (K, b, 4) uint32; or a dict of such parts, of which that
      of the target has no domain.
    """
    parts = {name: part.indices(resident) for name, part in self.picks.items()}
    return parts[""] if "" in parts else lambda step, steps: {name: part(step, steps) for name, part in parts.items()}


class Iterated(grain.DatasetIterator):
  """Iterates over batches and counts the time that the caller waited for them.

  Attributes:
    waited: seconds waited since the beginning.
  """

  def __init__(self, batches: grain.DatasetIterator):
    super().__init__(batches)
    self.waited = 0.0

  def __next__(self) -> Any:
    began = time.perf_counter()
    batch = next(self._parent)
    self.waited += time.perf_counter() - began
    return batch

  def get_state(self) -> dict[str, Any]:
    """Returns the position."""
    return self._parent.get_state()

  def set_state(self, state: dict[str, Any]) -> None:
    """Goes to a position."""
    self._parent.set_state(state)


@dataclasses.dataclass(frozen=True)
class EvalBatches:
  """The batches of one pass over a split; iterate as often as needed.

  Attributes:
    source: the split.
    batches: as a grain dataset.
    rows: function from the index of a batch to the examples in this process's rows, and which rows have one.
    examples: number of examples in the split, over all processes.
    domain_index: the batches' `domain`.
    read_options: threads and batches made ahead.
  """

  source: Source
  batches: grain.MapDataset
  rows: Callable[[int | np.ndarray], tuple[np.ndarray, np.ndarray]]
  examples: int
  domain_index: int
  read_options: grain.ReadOptions

  def __len__(self) -> int:
    return len(self.batches)

  def __iter__(self) -> Iterator[Batch]:
    iterator = iter(self.batches.to_iter_dataset(self.read_options))
    try:
      yield from iterator
    finally:
      iterator.close()

  def indices(self, resident: Resident) -> Batch:
    """Returns the indices of all batches of the pass, for images that stay on the device.

    Args:
      resident: holds the images.

    Returns:
      What `resident.gather` makes the n batches from: row (n, b) int32, domain (n, b) int32, mask (n, b) bool.
    """
    example, mask = self.rows(np.arange(len(self))[:, None])
    row = np.where(mask, resident.rows([self.source])[np.where(mask, example, 0)], resident.nothing)
    return {"row": row, "domain": np.full(row.shape, self.domain_index, np.int32), "mask": mask}


def read_options(threads: int, prefetch: int) -> grain.ReadOptions:
  """Returns the number of threads that make batches, and the number of batches that are made ahead.

  Args:
    threads: 0 for as many as there are cores that this process may use.
    prefetch: 0 for two more than threads: each thread makes a batch of its own, and two wait for the caller.
  """
  threads = thread_count(threads)
  return grain.ReadOptions(num_threads=threads, prefetch_buffer_size=prefetch or threads + 2)


def _rows(batch_size: int, process_index: int, process_count: int, key: str = "batch_size") -> range:
  """Returns the rows of the global batch that this process makes. `key` is the setting of its size, for messages."""
  if batch_size < 1:
    raise UserError(f"config.{key} must be at least 1, got {batch_size}")
  if batch_size % process_count:
    raise UserError(f"config.{key} {batch_size} is not divisible by the {process_count} processes: "
                    f"use {batch_size // process_count * process_count or process_count}")
  each = batch_size // process_count
  return range(process_index * each, (process_index + 1) * each)


def _order(length: int, seed: int, salt: int) -> Order:
  """Returns an endless sequence of indices: every epoch of `length` is a permutation of its own."""
  return Order(length, int(np.random.SeedSequence([seed, salt]).generate_state(1)[0]))


def _pooled(lengths: Sequence[int], seed: int, salt: int = 0) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
  """Returns positions -> (examples, epochs), all domains shuffled together."""
  order = _order(sum(lengths), seed, salt)
  return lambda positions: (order[positions], positions // order.length)


def _balanced(lengths: Sequence[int], seed: int) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
  """Returns positions -> (examples, epochs of their domain), the domains taking turns."""
  orders = [_order(length, seed, 1 + number) for number, length in enumerate(lengths)]
  starts = np.cumsum([0, *lengths])

  def locate(positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    turn, domain = np.divmod(positions, len(lengths))
    example, epoch = np.empty_like(turn), turn // np.take(lengths, domain)
    for number, order in enumerate(orders):
      here = domain == number
      example[here] = starts[number] + order[turn[here]]
    return example, epoch

  return locate


def _open(dataset: Dataset, domain: str, split: str) -> Source:
  source = dataset.open(domain, split)
  if not len(source):
    raise UserError(_empty_split(dataset, domain, split))
  return source


def _empty_split(dataset: Dataset, domain: str, split: str) -> str:
  return (f"split {split!r} of domain {domain!r} of data set {dataset.name!r} is empty: it needs more images, or lines "
          "in its list file, or another config.data.val_fraction or config.data.test_fraction")


def check_splits(dataset: Dataset, sources: Sequence[str], target: str, adapts: bool, batch_size: int = 1,
                 target_batch_size: int = 1, validates: bool = True) -> None:
  """Refuses empty splits, and batches larger than the data, before anything is compiled.

  Args:
    dataset: as loaded.
    sources: the domains to train on and to validate with.
    target: the domain to score.
    adapts: whether the target's images are trained on without labels.
    batch_size: number of source images in a batch, over all processes.
    target_batch_size: number of target images in a batch, if the method adapts.
    validates: whether the sources' validation splits are used.

  Raises:
    UserError: unknown domain, an empty split, or a batch of more images than there are.
  """
  apart = ("test",) if dataset.source_test else ()  # scored at the end of a run
  looked_at = ("train", *(("val",) if validates else ()), *apart)
  needed = [(source, split) for source in sources for split in looked_at] + [(target, "test")]
  if adapts:
    needed.append((target, dataset.adaptation_split(target)))
  for domain, split in needed:
    if not dataset.splits[dataset.check(domain)][split]:
      raise UserError(_empty_split(dataset, domain, split))
  parts = [("batch_size", batch_size, sum(dataset.splits[source]["train"] for source in sources), "to train on")]
  if adapts:
    examples = dataset.splits[target][dataset.adaptation_split(target)]
    parts.append(("target_batch_size", target_batch_size, examples, f"of the target {target!r}"))
  for key, size, examples, what in parts:
    if examples and size > examples:
      raise UserError(f"config.{key} is {size}, and there are {examples} images {what}: use at most {examples}")


def _augmentation(dataset: Dataset, name: str) -> Augmentation:
  """Returns an augmentation, after a check that it suits the data set."""
  augmentation = augmentations.find(name)
  if dataset.array_shape and name != "none":
    raise UserError(f"config.data.augment={name} is for images, and data set {dataset.name!r} has none: use none")
  return augmentation


def _check_image_size(image_size: int) -> None:
  if image_size < 1:
    raise UserError(f"config.data.image_size must be at least 1, got {image_size}")


def train(
    dataset: Dataset, domains: Sequence[str], *, batch_size: int, seed: int, image_size: int, augment: str = "paper",
    mixing: str = "pooled", process_index: int = 0, process_count: int = 1, threads: int = 0,
    prefetch: int = 0) -> TrainStream:
  """Streams shuffled batches of the "train" splits of some domains, without end.

  Every example comes exactly once per epoch. Batches straddle epochs, and nothing is dropped. Images are cropped here;
  `augment.on_device` does the rest of the augmentation. An example's augmentation depends on (seed, epoch, domain,
  example) alone.

  Args:
    dataset: as loaded.
    domains: the source domains. A batch's `domain` is an index of these, or of `dataset.groups` if there are groups.
    batch_size: of the global batch, over all processes.
    seed: seed of order and augmentation; at least 0.
    image_size: pixels per side.
    augment: one of `augment.AUGMENTATIONS`.
    mixing: "pooled": all domains are shuffled together, so they appear in proportion to their size. "balanced": every
      batch has equal numbers of each domain, and each domain goes through its examples at its own pace.
    process_index, process_count: this process yields rows [i * B / n, (i + 1) * B / n) of the global batch.
    threads, prefetch: see `read_options`.

  Returns:
    A stream of batches for this process's b = B / n rows: image (b, image_size, image_size, channels) uint8, or (b,
    *dataset.array_shape) float32; label (b,) int32, domain (b,) int32; and key (b, 4) uint32 where the augmentation has
    a part that is left to the device.

  Raises:
    UserError: unknown domain, augmentation or mixing; an empty split; a batch size that does not divide.
  """
  augmentation = _augmentation(dataset, augment)
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
                 augmentation=augmentation, labelled=True, threads=threads, prefetch=prefetch)


def unlabelled(
    dataset: Dataset, domain: str, *, batch_size: int, seed: int, image_size: int, augment: str = "paper",
    process_index: int = 0, process_count: int = 1, threads: int = 0, prefetch: int = 0) -> TrainStream:
  """Streams shuffled images of a target domain without their labels, without end.

  They are those of `dataset.adaptation_split`. Order and augmentation are drawn as in `train`, but independently.

  Args:
    dataset: as loaded.
    domain: the target.
    batch_size: of the target's part of the global batch, over all processes.
    seed, image_size, augment, process_index, process_count, threads, prefetch: as `train` takes them.

  Returns:
    A stream of batches that hold image and key, as `train` yields them, and nothing else.

  Raises:
    UserError: unknown domain or augmentation; an empty split; a batch size that does not divide.
  """
  augmentation = _augmentation(dataset, augment)
  _check_image_size(image_size)
  rows = _rows(batch_size, process_index, process_count, "target_batch_size")
  source = _open(dataset, domain, dataset.adaptation_split(domain))
  return _stream(dataset, [source], _pooled([len(source)], seed, TARGET_ORDER), rows=rows, batch_size=batch_size,
                 seed=seed, image_size=image_size, augmentation=augmentation, labelled=False, threads=threads,
                 prefetch=prefetch)


def with_target(source: TrainStream, target: TrainStream) -> TrainStream:
  """Joins a stream of the sources and one of the target, for methods that adapt.

  Args:
    source: made by `train`.
    target: made by `unlabelled`; it has epochs of its own.

  Returns:
    A stream of {"source": a batch of the one, "target": a batch of the other}. An epoch is one of the sources.
  """
  length = min(len(source.batches), len(target.batches))
  both = grain.experimental.ZipMapDataset([source.batches[:length], target.batches[:length]])
  return dataclasses.replace(
    source, picks={"source": source.picks[""], "target": target.picks[""]},
    batches=both.map(lambda parts: {"source": parts[0], "target": parts[1]}))


def _stream(dataset: Dataset, sources: Sequence[Source],
            locate: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]], *, rows: range, batch_size: int, seed: int,
            image_size: int, augmentation: Augmentation, labelled: bool, threads: int, prefetch: int) -> TrainStream:
  """Returns the batches of the examples that `locate` finds. Without labels they hold images and keys alone."""
  picks = Picks(tuple(sources), locate, batch_size, rows, seed, labelled)
  domain, words = _tables(sources)
  starts, examples = np.cumsum([0, *map(len, sources)]), sum(map(len, sources))
  smallest = augmentation.smallest(image_size)

  def make(step: int) -> Batch:
    (example,), (epoch,) = picks.at(step)
    batch = _empty(len(rows), dataset, image_size) | {"domain": domain[example]}
    numbers = np.searchsorted(starts, example, side="right") - 1
    for slot, number in enumerate(numbers):
      image, batch["label"][slot] = sources[number].image(int(example[slot] - starts[number]), smallest)
      if isinstance(image, Image.Image):
        key = [seed, int(epoch[slot]), *map(int, words[example[slot]])]
        image = augmentation.on_host(image, image_size, key)
      batch["image"][slot] = array(image)
    if augmentation.needs_key:
      batch["key"] = _keys(seed, epoch, words[example])
    return batch if labelled else {key: batch[key] for key in ("image", "key") if key in batch}

  return TrainStream({"": picks}, grain.MapDataset.range(sys.maxsize // batch_size).map(make), examples,
                     examples / batch_size, read_options(threads, prefetch))


def evaluate(
    dataset: Dataset, domain: str, split: str, *, batch_size: int, image_size: int, domain_index: int = 0,
    process_index: int = 0, process_count: int = 1, threads: int = 0, prefetch: int = 0) -> EvalBatches:
  """Goes once through one split of one domain, in order.

  Args:
    dataset: as loaded.
    domain: one of its domains.
    split: "train", "val" or "test".
    batch_size: of the global batch, over all processes.
    image_size: pixels per side. Images are resized to exactly that, or to a little more and cut if the data set has
      `centre_crop`. Arrays are left as they are.
    domain_index: what the batches' `domain` says.
    process_index, process_count: this process yields rows [i * B / n, (i + 1) * B / n) of each global batch; every
      process yields the same number of batches.
    threads, prefetch: see `read_options`.

  Returns:
    Batches as `train` yields them, and mask (b,) bool: each example is True exactly once over all batches and
    processes; False rows are zeros that pad the last batch.

  Raises:
    UserError: unknown domain or split, an empty split, a batch size that does not divide.
  """
  _check_image_size(image_size)
  rows = _rows(batch_size, process_index, process_count)
  source = _open(dataset, domain, split)

  def find(step: int | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    example = step * batch_size + np.arange(rows.start, rows.stop)
    return example, example < len(source)

  def make(step: int) -> Batch:
    batch = _empty(len(rows), dataset, image_size)
    batch["domain"][:] = domain_index
    example, batch["mask"] = find(step)
    for slot in range(int(batch["mask"].sum())):
      image, batch["label"][slot] = source.image(int(example[slot]))
      batch["image"][slot] = array(transforms.fit(image, image_size, dataset.centre_crop, dataset.keep_aspect))
    return batch

  return EvalBatches(source, grain.MapDataset.range(-(-len(source) // batch_size)).map(make), find, len(source),
                     domain_index, read_options(threads, prefetch))


def _empty(rows: int, dataset: Dataset, image_size: int) -> dict[str, Any]:
  shape, dtype = dataset.example(image_size)
  return {"image": np.zeros((rows, *shape), dtype), "label": np.zeros(rows, np.int32),
          "domain": np.zeros(rows, np.int32)}
