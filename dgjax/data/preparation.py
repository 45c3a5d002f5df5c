"""Preparing a data set once, domain by domain, as ArrayRecord files.

A data set states where its examples are (`Layout`). Everything else is done here: checking, copying the encoded bytes,
splitting, and recording the splits and what was left out. Each set of records (in general a domain) is prepared
separately, so an interrupted or failed preparation costs only itself.

The cache holds, for each set of records, DATASET/STORE-KEY/CONTENT/: the key is a hash of names, labels and sizes, the
content a hash of names, labels and bytes. `seen.json` beside the contents says which roots hold which of them.
"""

import collections
import concurrent.futures
import contextlib
import dataclasses
import errno
import fcntl
import functools
import itertools
import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from dgjax.data import digests, records
from dgjax.data.builders.base import SKIP_HINT, Example, Layout
from dgjax.data.dataset import SPLITS, Dataset, Source
from dgjax.data.decoding import unreadable as _unreadable
from dgjax.data.threads import thread_count
from dgjax.errors import UserError, printable
from dgjax.memory import check_addresses

log = logging.getLogger("dgjax")

FORMAT = "2"  # version of the format below; records of another one are prepared beside it
LEFT_OUT, CONTENTS, DAMAGED = "left_out.json", "sha256.npy", "damaged"  # beside the records
SEEN, INCOMPLETE = "seen.json", "incomplete-"  # beside the folder of the records
DIGITS = 16  # of a digest, as the name of a folder
LONGEST = 100  # of a domain in the name of a folder, beside which a key must find room
CONTENT = re.compile(f"[0-9a-f]{{{DIGITS}}}")


def _unreadable_error(layout: Layout, name: str, reason: str) -> UserError:
  where = layout.where(Example(name, 0))
  return UserError(f"cannot read {layout.noun} {where} ({reason}): replace or remove the file, {SKIP_HINT}")


def _load(layout: Layout, example: Example) -> tuple[bytes, bytes, str]:
  """Returns an example as it is stored, its hash, and why it is unreadable ("" if it can be read)."""
  try:
    found = layout.read(example)
  except UserError:
    raise
  except Exception as error:  # a damaged file surfaces as any of a dozen types
    return b"", b"", getattr(error, "strerror", None) or str(error) or type(error).__name__
  stored = _stored(found)
  return stored, digests.content(stored), _unreadable(stored) if isinstance(found, bytes) else ""


def _stored(found: bytes | np.ndarray) -> bytes:
  """Returns what the record of an example holds."""
  return found if isinstance(found, bytes) else found.astype(np.float32, copy=False).tobytes()


def _map_ahead(function: Callable[[Any], Any], items: Sequence[Any], threads: int) -> Iterator[tuple[Any, Any]]:
  """Yields (item, function(item)) in order, from threads that are a few items ahead, unlike those of a pool's map()."""
  with concurrent.futures.ThreadPoolExecutor(threads) as pool:
    pending: collections.deque[tuple[Any, concurrent.futures.Future[Any]]] = collections.deque()
    for item in items:
      pending.append((item, pool.submit(function, item)))
      if len(pending) > 2 * threads:
        item, future = pending.popleft()
        yield item, future.result()
    for item, future in pending:
      yield item, future.result()


def _write_lines(path: Any, lines: Any) -> None:
  Path(path).parent.mkdir(exist_ok=True)
  # errors: a file name may hold bytes that are not UTF-8
  with open(path, "w", encoding="utf-8", errors="surrogateescape", newline="\n") as file:
    file.writelines(line + "\n" for line in lines)


def _json_lines(pairs: Sequence[tuple[str, str]]) -> Iterator[str]:
  """Yields the lines of a JSON list of pairs, one pair a line, which is readable whatever the names hold."""
  yield "["
  for number, pair in enumerate(pairs):
    yield json.dumps(pair) + ("," if number + 1 < len(pairs) else "")
  yield "]"


def cache_dir(config: Any) -> Path:
  """Returns where prepared data go: `config.data.cache_dir`, else $DGJAX_CACHE, else ~/.cache/dgjax."""
  return cache_path(config.cache_dir)


def cache_path(folder: str = "") -> Path:
  """Returns the full path of a cache: `folder`, else $DGJAX_CACHE, else ~/.cache/dgjax."""
  return Path(folder or os.environ.get("DGJAX_CACHE") or "~/.cache/dgjax").expanduser().absolute()


def _slug(text: str) -> str:
  return re.sub(r"[^\w-]+", "_", text, flags=re.ASCII)


def _key(layout: Layout, store: str, examples: Sequence[Example]) -> str:
  """Hashes what is known of the records without reading an image, but neither their place nor their times.

  So data that were only moved keep their key. `_find` distinguishes them from others with the same names and sizes.
  """
  head = (layout.name, FORMAT, layout.recipe(), store, *layout.classes,
          *map("\t".join, layout.left_out.get(store, ())))
  return digests.texts(itertools.chain(head, (f"{e.name}\t{e.label}\t{e.size}" for e in examples)))[:12]


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
  """Holds an exclusive lock. The kernel releases it when the process dies, however it dies."""
  with open(path, "w") as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      log.info("Another process is preparing this data; waiting for it (lock %s).", path)
      fcntl.flock(file, fcntl.LOCK_EX)
    yield


@contextlib.contextmanager
def cache_errors(place: Path) -> Iterator[None]:
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


@dataclasses.dataclass(frozen=True)
class Prepared:
  """One set of records that is complete.

  Attributes:
    folder: the folder of the records, which is named by the beginning of the digest.
    examples: those that were not left out, in the order of the records.
    left_out: [(file, reason)].
    contents: (n, 32) uint8, a hash of each record.
    digest: a hash of the names, labels and contents of all examples.
    records: the records.
  """

  folder: Path
  examples: list[Example]
  left_out: list[tuple[str, str]]
  contents: np.ndarray
  digest: str
  records: records.Records


def _labels(examples: Sequence[Example]) -> np.ndarray:
  return np.fromiter((example.label for example in examples), np.int32, len(examples))


def _open(folder: Path, examples: Sequence[Example]) -> Prepared:
  """Opens what was prepared of `examples`.

  Raises:
    records.DamagedError: some file is not what was written.
  """
  try:
    left_out = [(str(name), str(reason)) for name, reason in json.loads((folder / LEFT_OUT).read_text("utf-8"))]
    contents = np.load(folder / CONTENTS, allow_pickle=False)
  except (OSError, ValueError, TypeError, EOFError) as error:
    raise records.DamagedError(str(error)) from error
  gone = {name for name, _ in left_out}
  kept = [example for example in examples if example.name not in gone]
  digest = digests.of_examples([example.name for example in kept], _labels(kept), contents)
  if digest[:DIGITS] != folder.name:
    raise records.DamagedError(f"{LEFT_OUT} or {CONTENTS} is not what was written")
  if (folder / DAMAGED).exists():
    raise records.DamagedError("a record could not be read")
  return Prepared(folder, kept, left_out, contents, digest, records.Records(folder, len(kept)))


def _root(layout: Layout) -> str:
  return str(getattr(layout, "root", ""))


def _stamps(examples: Sequence[Example]) -> str:
  return digests.texts(str(example.stamp) for example in examples)[:DIGITS]


def read_seen(folder: Path) -> dict[str, tuple[str, str]]:
  """Reads which roots hold what is prepared in the folder of a key.

  Returns:
    root -> (hash of the examples' stamps there, name of the folder of records). If the file cannot be read, it counts
    as never written, and contents are compared again.
  """
  try:
    found = json.loads((folder / SEEN).read_text("utf-8"))
    return {str(root): (str(stamps), str(name)) for root, (stamps, name) in found.items()}
  except (OSError, ValueError, TypeError, AttributeError):
    return {}


def _write_seen(folder: Path, layout: Layout, examples: Sequence[Example], name: str) -> None:
  seen = {**read_seen(folder), _root(layout): (_stamps(examples), name)}
  partial = folder / f"{SEEN}.{os.getpid()}"
  try:
    partial.write_text(json.dumps(seen, indent=1), "utf-8")
    partial.replace(folder / SEEN)
  except OSError as error:  # contents are then compared at every start
    log.info("Could not note in %s where its data are: %s", folder, error)


def _find(folder: Path, layout: Layout, examples: Sequence[Example], compare: bool) -> Prepared | None:
  """Returns the prepared records of `examples` in the folder of their key, if there are any.

  Args:
    folder: of the key.
    layout: where the examples are.
    examples: of the store.
    compare: whether to read the examples' files if it is not known that they are those that were prepared.
  """
  stamps, trusted = read_seen(folder).get(_root(layout), ("", ""))
  if stamps != _stamps(examples):
    trusted = ""
  for path in sorted(folder.iterdir() if folder.is_dir() else (), key=lambda path: path.name != trusted):
    if not CONTENT.fullmatch(path.name) or not (compare or path.name == trusted):
      continue
    try:
      found = _open(path, examples)
    except records.DamagedError as error:
      if compare:
        log.warning("The prepared data in %s are damaged (%s).", path, error)
      continue
    if path.name == trusted:
      with contextlib.suppress(OSError):
        os.utime(folder / SEEN)  # when they were last used
      return found
    if _same(layout, examples, found):
      _write_seen(folder, layout, examples, path.name)
      return found
  return None


def _same(layout: Layout, examples: Sequence[Example], prepared: Prepared) -> bool:
  """Whether the examples' files hold what was prepared; reads them until one differs."""
  hashes = {example.name: row.tobytes() for example, row in zip(prepared.examples, prepared.contents, strict=True)}
  reasons = dict(prepared.left_out)

  def same(example: Example) -> bool:
    if example.name in reasons:
      return _load(layout, example)[2] == reasons[example.name]
    try:
      return digests.content(_stored(layout.read(example))) == hashes[example.name]
    except UserError:
      raise
    except Exception:  # it cannot be read; preparation will say so
      return False

  log.info("Comparing %d %ss with those prepared in %s", len(examples), layout.noun, prepared.folder)
  with _progress(f"comparing {layout.name}", layout, examples) as bar:
    for _, equal in _map_ahead(same, examples, thread_count(layout.config.threads)):
      if not equal:
        return False
      bar.update()
  return True


def _progress(label: str, layout: Layout, examples: Sequence[Example]) -> Any:
  return tqdm(total=len(examples), desc=printable(label), unit=f" {layout.noun}s", leave=False, disable=None)


def _prepare(layout: Layout, store: str, examples: Sequence[Example]) -> Prepared:
  """Returns the prepared records of one store, and prepares them if necessary."""
  folder = cache_dir(layout.config) / layout.name / f"{_slug(store)[:LONGEST]}-{_key(layout, store, examples)}"
  with cache_errors(folder):
    if found := _find(folder, layout, examples, compare=True):
      return found
    folder.mkdir(parents=True, exist_ok=True)
    with _lock(folder / ".lock"):
      return _find(folder, layout, examples, compare=False) or _make(folder, layout, store, examples)


def _make(folder: Path, layout: Layout, store: str, examples: Sequence[Example]) -> Prepared:
  """Prepares one store. The caller holds its lock."""
  for stale in folder.glob(f"{INCOMPLETE}*"):  # left by a process that was killed, since nobody else writes now
    shutil.rmtree(stale)
  need, free = sum(example.size for example in examples), shutil.disk_usage(folder).free
  if need > free:
    raise OSError(errno.ENOSPC, f"{need} bytes needed, {free} free")
  log.info("Preparing %d %ss of %s/%s in %s", len(examples), layout.noun, layout.name, store, folder)
  partial = folder / f"{INCOMPLETE}{os.getpid()}"
  partial.mkdir()
  try:
    digest = _write(partial, layout, store, examples)
    complete = folder / digest[:DIGITS]
    if complete.exists():  # it is damaged, or it would have been found
      complete.rename(folder / f"{INCOMPLETE}{os.getpid()}-damaged")
    partial.rename(complete)  # renamed at the end, so that a folder that exists is complete
  finally:
    for rest in folder.glob(f"{INCOMPLETE}*"):
      shutil.rmtree(rest, ignore_errors=True)
  _write_seen(folder, layout, examples, complete.name)
  return _open(complete, examples)


def _write(folder: Path, layout: Layout, store: str, examples: Sequence[Example]) -> str:
  """Writes records and what is known of them, and returns their digest."""
  kept, contents, skipped = [], [], []
  load = functools.partial(_load, layout)
  with records.Writer(folder) as writer, _progress(f"preparing {layout.name}/{store}", layout, examples) as bar:
    for example, (stored, content, reason) in _map_ahead(load, examples, thread_count(layout.config.threads)):
      bar.update()
      if not reason:
        writer.write(stored)
        kept.append(example)
        contents.append(content)
      elif layout.config.on_error == "skip":
        skipped.append((example.name, reason))
      else:
        raise _unreadable_error(layout, example.name, reason)
  if not kept:
    raise UserError(f"domain {store!r} of data set {layout.name!r} has no {layout.noun} that can be read: "
                    "look at the files, or take the domain's folder away")
  hashes = np.frombuffer(b"".join(contents), np.uint8).reshape(len(kept), -1)
  np.save(folder / CONTENTS, hashes, allow_pickle=False)
  _write_lines(folder / LEFT_OUT, _json_lines([*layout.left_out.get(store, ()), *skipped]))
  return digests.of_examples([example.name for example in kept], _labels(kept), hashes)


class _Mended:
  """The records of a store. A damaged record is read from its source, if the source has not changed.

  The damage is noted beside the records, which are then prepared anew at the next start.
  """

  def __init__(self, layout: Layout, store: str, prepared: Prepared):
    self._layout, self._store, self._folder = layout, store, prepared.folder
    self._records, self._contents, self._warned = prepared.records, prepared.contents, False

  def __getitem__(self, index: int) -> bytes | np.ndarray:
    try:
      stored = self._records[index]
    except RuntimeError as error:
      stored = self._source(index, error)
    shape = self._layout.array_shape
    return np.frombuffer(stored, np.float32).reshape(shape) if shape else stored

  def _source(self, index: int, error: Exception) -> bytes:
    with contextlib.suppress(OSError):
      (self._folder / DAMAGED).touch()
    if not self._warned:
      log.warning("Record %d of the prepared data in %s is damaged: it is read from its source, and the data are "
                  "prepared anew at the next start.", index, self._folder)
      self._warned = True
    try:
      gone = {name for name, _ in json.loads((self._folder / LEFT_OUT).read_text("utf-8"))}
      # Listed again: keeping the names of all files would cost memory in every run
      listed = (example for example in self._layout.examples(self._store) if example.name not in gone)
      stored, content, _ = _load(self._layout, next(itertools.islice(listed, index, None)))
    except (OSError, ValueError, StopIteration, UserError):
      content = b""
    if content != self._contents[index].tobytes():
      raise UserError(f"record {index} of the prepared data in {self._folder} cannot be read ({error}), and the file "
                      f"that it was made of is gone or has changed: run again to prepare the data anew") from error
    return stored


def _write_splits(
    folder: Path, examples: Sequence[Example], classes: Sequence[str], splits: dict[str, np.ndarray]) -> None:
  """Writes the splits as readable lists, unless they are written already."""
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
    if not folder.exists():  # another process was quicker and wrote the same
      log.warning("Could not write the splits down in %s: %s", folder, error)


def prepare(layout: Layout, seed: int) -> Dataset:
  """Prepares every domain of a data set that is not prepared yet, and opens it.

  Args:
    layout: where the examples are.
    seed: draws the splits where none are given, unless `config.data.split_seed` does.

  Returns:
    The data set.

  Raises:
    UserError: a file that cannot be used (under on_error="raise"), a full disk, a cache that cannot be written, too few
      addresses for the reader's threads.
  """
  check_addresses()
  if seed < 0:
    raise UserError(f"config.seed must be at least 0, got {seed}")
  if layout.config.split_seed >= 0:
    seed = layout.config.split_seed
  prepared, opened = {}, {}
  for store in dict.fromkeys(map(layout.store, layout.domains)):
    found = prepared[store] = _prepare(layout, store, layout.examples(store))
    layout.release(store)
    if found.left_out:
      name, reason = found.left_out[0]
      if layout.config.on_error != "skip":
        raise _unreadable_error(layout, name, reason)
      log.warning("Left out %d of domain %s (listed in %s), the first: %s (%s)",
                  len(found.left_out), store, found.folder / LEFT_OUT, name, reason)
    names = [example.name for example in found.examples]
    opened[store] = (_Mended(layout, store, found), _labels(found.examples), f"the prepared data in {found.folder}",
                     names)

  groups, numbers = layout.groups(prepared[layout.store(layout.domains[0])].examples, seed) or (None, None)
  indices, hashes = {}, {}
  for domain in layout.domains:
    store = layout.store(domain)
    found = prepared[store]
    indices[domain] = layout.split(domain, found.examples, seed)
    hashes[domain] = digests.of_domain(layout.classes, found.digest, indices[domain])
    name = layout.split_name(seed) if store == domain else f"{domain}-{layout.split_name(seed)}"
    _write_splits(found.folder / "splits" / name, found.examples, layout.classes, indices[domain])

  def opener(domain: str, split: str) -> Source:
    chosen = indices[domain][split]
    stored, labels, where, names = opened[layout.store(domain)]
    return Source(stored, labels, chosen, layout.channels, domain, split, where,
                  None if numbers is None else numbers[chosen], names)

  mean, std = layout.normalisation([opener(domain, "train") for domain in layout.sources or layout.domains])
  return Dataset(
    name=layout.name, domains=tuple(layout.domains), classes=tuple(layout.classes),
    splits={domain: {split: len(indices[domain][split]) for split in SPLITS} for domain in layout.domains},
    source_test=layout.source_test, mean=mean, std=std, channels=layout.channels,
    sources=layout.sources, targets=layout.targets, groups=groups, array_shape=layout.array_shape,
    centre_crop=layout.centre_crop, keep_aspect=layout.keep_aspect, opener=opener,
    left_out={store: found.left_out for store, found in prepared.items()}, digests=hashes)
