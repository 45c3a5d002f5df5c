"""Preparing a data set once, domain by domain, as ArrayRecord files through a TFDS builder.

A data set states where its examples are (`Layout`); everything else is here: checking, copying the encoded bytes as
they are, splitting, writing down what was split and what was left out. Each set of records, a domain's in general, is
a preparation of its own, so that an interrupted or failed one costs only itself.
"""

import collections
import concurrent.futures
import contextlib
import errno
import fcntl
import functools
import hashlib
import io
import itertools
import json
import logging
import math
import os
import re
import shutil
import tempfile
import types
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image
from tqdm import tqdm

from dgjax.data.builders.base import SKIP_HINT, Example, Layout
from dgjax.data.dataset import SPLITS, Dataset, Source
from dgjax.errors import UserError

log = logging.getLogger("dgjax")

SHARD_BYTES = 256 << 20
# Records this small on average, in a store this small, stay in memory: finding one takes longer than decoding it
HELD_RECORD_BYTES, HELD_STORE_BYTES = 2 << 10, 64 << 20


def _unreadable(encoded: bytes) -> str:
  """Returns why the bytes are no whole image, or "" where they are one."""
  try:
    image = Image.open(io.BytesIO(encoded))
    image.draft(None, (1, 1))  # JPEG: walks the whole stream but reconstructs only an eighth of each side
    image.load()
  except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
    # Pillow names the in-memory stream by its address, which means nothing to a reader and changes every time
    return "not an image" if "cannot identify" in str(error) else str(error)
  return ""


def _unreadable_error(layout: Layout, name: str, reason: str) -> UserError:
  where = layout.where(Example(name, 0))
  return UserError(f"cannot read {layout.noun} {where} ({reason}): replace or remove the file, {SKIP_HINT}")


class Domain(tfds.core.ShardBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
  """TFDS builder of one store, a domain's in general: a single split "records", images as the bytes they were found as.

  Shard-based, because TFDS's other builder keeps a gigabyte of records in memory and beyond that needs TensorFlow.
  """

  VERSION = tfds.core.Version("1.0.0")
  name = "records"

  def __init__(self, layout: Layout, domain: str, examples: Sequence[Example], data_dir: Path):
    """Opens what is prepared in `data_dir`, or gets ready to prepare `examples`, in that order, there."""
    self._layout, self._domain, self._examples = layout, domain, examples
    self._skipped: list[tuple[str, str]] = []
    super().__init__(file_format="array_record", data_dir=data_dir)

  def _info(self) -> tfds.core.DatasetInfo:
    info = tfds.core.DatasetInfo(
      builder=self,
      description=f"Domain {self._domain!r} of {self._layout.name!r}.",
      features=tfds.features.FeaturesDict({
        "image": _feature(self._layout),
        "label": tfds.features.ClassLabel(names=list(self._layout.classes)),
      }))
    info.initialize_from_bucket = lambda: None  # it would litter /tmp with empty folders
    return info

  def _make_download_manager(self, **kwargs: Any) -> Any:
    # TFDS's own would make download folders, and look for checksums by a package that it does not declare
    return types.SimpleNamespace(downloaded_size=0)

  def _log_download_bytes(self) -> None:
    """Says nothing: there is a progress bar."""

  def _log_download_done(self) -> None:
    """Says nothing."""

  def _shard_iterators_per_split(self, dl_manager: Any) -> dict[str, list[Any]]:
    del dl_manager
    examples = self._examples
    total = sum(example.size for example in examples)
    shards = max(1, min(math.ceil(total / SHARD_BYTES), len(examples)))
    edges = np.linspace(0, len(examples), shards + 1).astype(int)
    return {"records": [functools.partial(self._shard, examples[a:b]) for a, b in itertools.pairwise(edges)]}

  def _shard(self, examples: Sequence[Example]) -> Iterator[tuple[str, dict[str, Any]]]:
    layout = self._layout

    def load(example: Example) -> tuple[Any, str]:
      try:
        found = layout.read(example)
      except OSError as error:
        return b"", error.strerror or str(error)
      if isinstance(found, np.ndarray):
        return found, ""
      # A stream, not bytes: TFDS holds on to what is yielded until the shard ends, and a stream can be emptied
      return _Once(found), _unreadable(found)

    for example, (found, reason) in _map_ahead(load, examples, max(1, layout.config.threads)):
      self._bar.update()
      if not reason:
        yield example.name, {"image": found, "label": example.label}
      elif layout.config.on_error == "skip":
        self._skipped.append((example.name, reason))
      else:
        raise _unreadable_error(layout, example.name, reason)

  def _download_and_prepare(self, *args: Any, **kwargs: Any) -> None:
    layout = self._layout
    label, unit = f"preparing {layout.name}/{self._domain}", f" {layout.noun}s"
    with tqdm(total=len(self._examples), desc=label, unit=unit, leave=False, disable=None) as self._bar:
      super()._download_and_prepare(*args, **kwargs)
    if len(self._skipped) == len(self._examples):
      raise UserError(f"domain {self._domain!r} of data set {layout.name!r} has no {layout.noun} that can be read: "
                      "look at the files, or take the domain's folder away")
    left_out = [*layout.left_out.get(self._domain, ()), *self._skipped]
    _write_lines(self.data_path / "left_out.json", _json_lines(left_out))


def _feature(layout: Layout) -> tfds.features.FeatureConnector:
  if layout.array_shape:
    return tfds.features.Tensor(shape=layout.array_shape, dtype=np.float32)
  return tfds.features.Image()


def _map_ahead(function: Callable[[Any], Any], items: Sequence[Any], threads: int) -> Iterator[tuple[Any, Any]]:
  """Yields (item, function(item)) in order, from threads a few items ahead; a pool's own map() would do them all."""
  with concurrent.futures.ThreadPoolExecutor(threads) as pool:
    pending: collections.deque[tuple[Any, concurrent.futures.Future[Any]]] = collections.deque()
    for item in items:
      pending.append((item, pool.submit(function, item)))
      if len(pending) > 2 * threads:
        item, future = pending.popleft()
        yield item, future.result()
    for item, future in pending:
      yield item, future.result()


class _Once:
  """An in-memory file that lets go of its bytes when it is read."""

  def __init__(self, data: bytes):
    self._data = data

  def read(self) -> bytes:
    data, self._data = self._data, b""
    return data


class _Held:
  """Random access to records that stay in memory once they have been read."""

  def __init__(self, records: Any):
    self._records, self._held = records, dict[int, Any]()

  def __getitem__(self, index: int) -> Any:
    if index not in self._held:
      self._held[index] = self._records[index]
    return self._held[index]


def _write_lines(path: Any, lines: Any) -> None:
  Path(path).parent.mkdir(exist_ok=True)
  # errors: a file name may hold bytes that are not UTF-8
  with open(path, "w", encoding="utf-8", errors="surrogateescape", newline="\n") as file:
    file.writelines(line + "\n" for line in lines)


def _json_lines(pairs: Sequence[tuple[str, str]]) -> Iterator[str]:
  """Yields a JSON list of pairs, one a line: names may hold anything, and it should be readable all the same."""
  yield "["
  for number, pair in enumerate(pairs):
    yield json.dumps(pair) + ("," if number + 1 < len(pairs) else "")
  yield "]"


def cache_dir(config: Any) -> Path:
  """Returns where prepared data go: `config.data.cache_dir`, else $DGJAX_CACHE, else ~/.cache/dgjax."""
  return Path(config.cache_dir or os.environ.get("DGJAX_CACHE") or "~/.cache/dgjax").expanduser().absolute()


def _slug(text: str) -> str:
  return re.sub(r"[^\w-]+", "_", text, flags=re.ASCII)


def _digest(layout: Layout, domain: str, examples: Sequence[Example]) -> str:
  """Hashes everything the records are made of, so that a changed folder is prepared anew."""
  digest = hashlib.sha256()
  head = (layout.name, str(Domain.VERSION), str(getattr(layout, "root", "")), layout.recipe(), domain, *layout.classes,
          *map("\t".join, layout.left_out.get(domain, ())))
  for part in (*head, *(f"{e.name}\t{e.label}\t{e.size}\t{e.stamp}" for e in examples)):
    digest.update(part.encode("utf-8", "surrogateescape") + b"\0")
  return digest.hexdigest()[:12]


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
  """Holds an exclusive lock; the kernel lets go of it when the process dies, however it dies."""
  with open(path, "w") as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      log.info("Another process is preparing this data; waiting for it (lock %s).", path)
      fcntl.flock(file, fcntl.LOCK_EX)
    yield


@contextlib.contextmanager
def _cache_errors(place: Path) -> Iterator[None]:
  """Turns a full disk, or a cache that cannot be written, into a UserError."""
  try:
    yield
  except (OSError, RuntimeError, ValueError) as error:
    # The ArrayRecord writer raises RuntimeError or ValueError with the system's message but no errno
    text = str(error).lower()
    full = getattr(error, "errno", 0) in (errno.ENOSPC, errno.EDQUOT)
    if full or "no space left" in text or "quota exceeded" in text:
      raise UserError(f"the disk is full while preparing data in {place}: free some space there or set "
                      "config.data.cache_dir to a larger disk, and run again (finished domains are kept)") from error
    if isinstance(error, OSError):
      raise UserError(f"cannot write prepared data to {place} ({error.strerror or error}): set config.data.cache_dir "
                      "to a folder that can be written") from error
    raise


def _prepare(layout: Layout, domain: str, examples: Sequence[Example]) -> Domain:
  """Returns the prepared builder of one domain, preparing it if nobody has."""
  folder = cache_dir(layout.config) / layout.name / f"{_slug(domain)}-{_digest(layout, domain, examples)}"
  with _cache_errors(folder):
    builder = Domain(layout, domain, examples, folder)
    if not builder.data_path.exists():  # renamed into place when complete, so existence is completeness
      folder.mkdir(parents=True, exist_ok=True)
      with _lock(folder / ".lock"):
        if not builder.data_path.exists():
          # Left by a process that was killed: who holds the lock knows that nobody writes them now
          for stale in folder.glob(f"{builder.name}/*incomplete*"):
            shutil.rmtree(stale)
          need, free = sum(example.size for example in examples), shutil.disk_usage(folder).free
          if need > free:
            raise OSError(errno.ENOSPC, f"{need} bytes needed, {free} free")
          log.info("Preparing %d %ss of %s/%s in %s", len(examples), layout.noun, layout.name, domain, folder)
          builder.download_and_prepare()
  return Domain(layout, domain, (), folder)  # as read back from disk, and without the list of files


def _write_splits(
    folder: Path, examples: Sequence[Example], classes: Sequence[str], splits: dict[str, np.ndarray]) -> None:
  """Writes the splits as readable lists, unless it is done."""
  if folder.exists():
    return
  try:
    folder.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
      for name, indices in splits.items():
        lines = (f"{examples[i].name}\t{classes[examples[i].label]}" for i in indices)
        _write_lines(Path(temporary) / "new" / f"{name}.txt", lines)
      (Path(temporary) / "new").rename(folder)
  except OSError as error:
    if not folder.exists():  # it does if another process was quicker: it wrote the same
      log.warning("Could not write the splits down in %s: %s", folder, error)


def prepare(layout: Layout, seed: int) -> Dataset:
  """Prepares every domain of a data set that is not prepared yet, and opens it.

  Args:
    layout: where the examples are.
    seed: draws the splits where none are given, unless `config.data.split_seed` does.

  Returns:
    The data set.

  Raises:
    UserError: a file that cannot be used (under on_error="raise"), a full disk, a cache that cannot be written.
  """
  if seed < 0:
    raise UserError(f"config.seed must be at least 0, got {seed}")
  if layout.config.split_seed >= 0:
    seed = layout.config.split_seed
  builders, kept, left_out = {}, {}, {}
  for store in dict.fromkeys(map(layout.store, layout.domains)):
    examples = layout.examples(store)
    builder = builders[store] = _prepare(layout, store, examples)
    layout.release(store)
    report = builder.data_path / "left_out.json"
    left_out[store] = [(name, reason) for name, reason in json.loads(report.read_text())]
    if left_out[store]:
      name, reason = left_out[store][0]
      if layout.config.on_error != "skip":
        raise _unreadable_error(layout, name, reason)
      log.warning("Left out %d of domain %s (listed in %s), the first: %s (%s)",
                  len(left_out[store]), store, report, name, reason)
    gone = {name for name, _ in left_out[store]}
    kept[store] = [example for example in examples if example.name not in gone]
    if len(kept[store]) != builder.info.splits["records"].num_examples:
      raise UserError(f"the prepared data in {builder.data_path} are damaged: delete that folder and run again")

  names, numbers = layout.groups(kept[layout.store(layout.domains[0])], seed) or (None, None)
  indices = {}
  for domain in layout.domains:
    store = layout.store(domain)
    indices[domain] = layout.split(domain, kept[store], seed)
    name = layout.split_name(seed) if store == domain else f"{domain}-{layout.split_name(seed)}"
    _write_splits(builders[store].data_path / "splits" / name, kept[store], layout.classes, indices[domain])

  @functools.cache
  def records(store: str) -> Any:
    raw = None if layout.array_shape else {"image": tfds.decode.SkipDecoding()}
    found = builders[store].as_data_source("records", decoders=raw)
    size = builders[store].info.splits["records"].num_bytes
    small = size <= HELD_STORE_BYTES and size <= HELD_RECORD_BYTES * len(found)
    return _Held(found) if small else found

  def opener(domain: str, split: str) -> Source:
    store, chosen = layout.store(domain), indices[domain][split]
    return Source(records(store), chosen, layout.channels, domain, split, str(builders[store].data_path),
                  None if numbers is None else numbers[chosen])

  return Dataset(
    name=layout.name, domains=tuple(layout.domains), classes=tuple(layout.classes),
    splits={domain: {split: len(indices[domain][split]) for split in SPLITS} for domain in layout.domains},
    source_test=layout.source_test, mean=layout.mean, std=layout.std, channels=layout.channels,
    sources=layout.sources, targets=layout.targets, groups=names, array_shape=layout.array_shape,
    centre_crop=layout.centre_crop, opener=opener, left_out=left_out)
