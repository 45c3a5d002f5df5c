"""Images that stay on the device: decoded once, then gathered by index.

`pipeline` tells which examples stand in which rows of a batch; `gather` makes the batch of them, under jit. One store
serves all runs of a group, whatever their splits and orders.
"""

import concurrent.futures
import dataclasses
import functools
import itertools
import os
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from dgjax.data import augment as augmentations
from dgjax.data import transforms
from dgjax.data.augment import Augmentation
from dgjax.data.dataset import Dataset, Source, array
from dgjax.data.threads import thread_count

SHARE = 1 / 4  # share of the free memory; the rest is for states, activations and, on a CPU, the decoder's copy
CHUNK = 64  # examples decoded between two pauses
Form = Callable[[Any], tuple[Any, tuple[int, int] | None]]  # example as read -> as stored, and sides for a crop


@dataclasses.dataclass(frozen=True)
class Resident:
  """Examples on the device.

  Attributes:
    arrays: image (n, h, w, c) uint8 or (n, *array_shape) float32; label (n,) int32; sides (n, 2) int32, the original
      width and height, if images are still to be cropped. Pass them to jitted functions as an argument: what such a
      function merely refers to is compiled into it.
    examples: domain -> places in its records that are held, sorted.
    starts: domain -> the row at which its examples begin in the arrays.
  """

  arrays: Mapping[str, jax.Array]
  examples: Mapping[str, np.ndarray]
  starts: Mapping[str, int]

  @property
  def nothing(self) -> int:
    """The number of a row that holds nothing, for which `gather` returns zeros."""
    return len(self.arrays["label"])

  def rows(self, sources: Sequence[Source]) -> np.ndarray:
    """Returns the rows of all examples of some sources, one source after the other: (n,) int32."""
    return np.concatenate([self.starts[source.domain] + np.searchsorted(self.examples[source.domain], source.indices)
                           for source in sources]).astype(np.int32)


def gather(arrays: Mapping[str, jax.Array], index: Mapping[str, Any]) -> dict[str, Any]:
  """Makes a batch of examples on the device.

  Args:
    arrays: of a `Resident`.
    index: a dict with row (b,) int32. If it has domain (b,) int32, the batch has labels. Other entries are kept. Or a
      dict of such parts.

  Returns:
    The batch as the stream yields it: image (b, h, w, c), label and domain (b,) int32, mask (b,) bool, key (b, 4)
    uint32; and sides (b, 2) int32 if `augment.on_device` still has to crop the images.
  """
  if "row" not in index:
    return {part: gather(arrays, index[part]) for part in index}
  row, rest = index["row"], {name: value for name, value in index.items() if name != "row"}
  names = arrays.keys() - (() if "domain" in index else {"label"})
  return rest | {name: arrays[name].at[row].get(mode="fill", fill_value=0) for name in names}


@dataclasses.dataclass(frozen=True)
class Plan:
  """What the runs of a group need on the device.

  Attributes:
    dataset: the data set of one of the runs.
    training, evaluation: all splits that some run trains on, and all that some run is evaluated on.
    image_size: pixels per side.
    augment: one of `augment.AUGMENTATIONS`.
  """

  dataset: Dataset
  training: Sequence[Source]
  evaluation: Sequence[Source]
  image_size: int
  augment: str

  @property
  def shared(self) -> bool:
    """Whether training and evaluation see the same part of an image, so that one store serves both."""
    return bool(self.dataset.array_shape) or (self.augment == "none" and not self.dataset.centre_crop)

  @property
  def bytes(self) -> int:
    """The most bytes that a device will hold."""
    train_size = self.image_size if self.shared else transforms.enlarged(self.image_size)
    both = [*self.training, *self.evaluation]
    stores = [(both, train_size)] if self.shared else [(self.training, train_size), (self.evaluation, self.image_size)]
    return sum(_size(self.dataset, size) * sum(map(len, _union(sources).values())) for sources, size in stores)

  def fits(self, devices: Sequence[jax.Device]) -> bool:
    """Whether there is room for it on those of the devices that belong to this process.

    It may take a quarter of the free memory: on an accelerator of what JAX may allocate, on a CPU of the main memory,
    in which every device has a copy of its own.
    """
    return self.bytes <= SHARE * free_memory(devices)

  def build(self, sharding: jax.sharding.Sharding, threads: int, pause: Callable[[], None] = lambda: None
            ) -> tuple[Resident, Resident]:
    """Decodes every example once and lays it on the devices.

    Args:
      sharding: replicated over the devices.
      threads: number of threads that decode.
      pause: called now and then. It may raise an error to end this.

    Returns:
      The store of training batches and the store of evaluation batches; one store if `shared`.

    Raises:
      UserError: a prepared record cannot be read.
    """
    build = functools.partial(_build, sharding=sharding, threads=threads, pause=pause)
    crop, aspect = self.dataset.centre_crop, self.dataset.keep_aspect
    fit = lambda image: (transforms.fit(image, self.image_size, crop, aspect), None)  # noqa: E731
    if self.shared:
      both = build([*self.training, *self.evaluation], fit)
      return both, both
    augmentation = augmentations.find(self.augment)
    smallest = augmentation.smallest(self.image_size)
    training = build(self.training, self._training_form(augmentation), smallest=smallest)
    return training, build(self.evaluation, fit)

  def _training_form(self, augmentation: Augmentation) -> Form:
    if not augmentation.prepare:
      # Images that are cropped as they are keep their own size, up to the largest size of other augmentations
      longest = max(max(source.sides(index)) for source in self.training for index in range(len(source)))
      side = min(longest, transforms.enlarged(self.image_size))
      return lambda image: (transforms.resize(image, side), image.size)
    prepare, size = augmentation.prepare, self.image_size
    if not augmentation.device_crop:
      return lambda image: (prepare(image, size), None)

    def form(image: Any) -> tuple[Any, tuple[int, int]]:
      prepared = prepare(image, size)
      return prepared, prepared.size

    return form


def _size(dataset: Dataset, image_size: int) -> int:
  """Returns how many bytes an example takes."""
  shape, dtype = dataset.example(image_size)
  return int(np.prod(shape)) * dtype.itemsize


def free_memory(devices: Sequence[jax.Device]) -> int:
  """Returns the free bytes on each of the devices that belong to this process.

  On an accelerator this is what JAX may still allocate. On a CPU it is a device's part of the free main memory or, if
  the system does not report that, of all main memory.
  """
  local = [device for device in devices if device.process_index == jax.process_index()]
  if local[0].platform != "cpu":
    stats = [device.memory_stats() or {} for device in local]
    return min(each.get("bytes_limit", 0) - each.get("bytes_in_use", 0) for each in stats)
  return _main_memory() // len(local)


def _main_memory() -> int:
  try:
    lines = pathlib.Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))
  except (OSError, StopIteration):
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _union(sources: Iterable[Source]) -> dict[str, np.ndarray]:
  """Returns domain -> the places in its records of all examples of the sources, sorted."""
  found: dict[str, list[np.ndarray]] = {}
  for source in sources:
    found.setdefault(source.domain, []).append(source.indices)
  return {domain: np.unique(np.concatenate(indices)) for domain, indices in found.items()}


def _build(sources: Sequence[Source], form: Form, *, sharding: jax.sharding.Sharding, threads: int,
           pause: Callable[[], None], smallest: int | None = None) -> Resident:
  """Decodes the examples of all sources, each once, and puts them on the device in the form that `form` returns."""
  examples = _union(sources)
  starts = dict(zip(examples, itertools.accumulate(map(len, examples.values()), initial=0), strict=False))
  where: dict[int, tuple[Source, int]] = {}
  for source in sources:
    rows = starts[source.domain] + np.searchsorted(examples[source.domain], source.indices)
    where |= {row: (source, index) for index, row in enumerate(rows.tolist())}
  arrays: dict[str, np.ndarray] = {}

  def read(row: int) -> dict[str, Any]:
    source, index = where[row]
    image, label = source.image(index, smallest)
    formed, sides = form(image)
    found = {"image": array(formed), "label": np.int32(label)}
    return found if sides is None else found | {"sides": np.array(sides, np.int32)}

  with concurrent.futures.ThreadPoolExecutor(thread_count(threads)) as pool:
    for first in tqdm(range(0, len(where), CHUNK), "decoding", unit_scale=CHUNK, leave=False, disable=None):
      pause()
      for row, found in enumerate(pool.map(read, range(first, min(first + CHUNK, len(where)))), first):
        for name, value in found.items():
          if name not in arrays:
            arrays[name] = np.empty((len(where), *value.shape), value.dtype)
          arrays[name][row] = value
  return Resident({name: _place(values, sharding) for name, values in arrays.items()}, examples, starts)


def _place(values: np.ndarray, sharding: jax.sharding.Sharding) -> jax.Array:
  return jax.make_array_from_callback(values.shape, sharding, lambda part: values[part])
