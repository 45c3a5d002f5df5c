"""The cache of prepared data: what it holds, which of it nothing uses, and how to free its space."""

import dataclasses
import fcntl
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from dgjax.data import preparation
from dgjax.errors import UserError

DAY = 24 * 3600
REASONS = ("its source is gone", "replaced by a newer one", "an older format", "left by a process that was killed")


@dataclasses.dataclass(frozen=True)
class Entry:
  """One set of records in the cache.

  Attributes:
    dataset: its name.
    store: the set of records, a domain in general.
    path: its folder.
    size: bytes on disk.
    used: when it was last opened, in seconds since 1970.
    unused: why no data set uses it; "" if one does.
  """

  dataset: str
  store: str
  path: Path
  size: int
  used: float
  unused: str


def entries(cache: Path) -> list[Entry]:
  """Lists all prepared data, by data set, store and last use.

  Args:
    cache: as `preparation.cache_dir` returns it.

  Returns:
    One entry for each set of records. An entry is unused if its source was deleted or moved away, if the source was
    prepared again with other images or settings, if an older version of dgjax wrote it, or if it is half-written.
  """
  found: list[Entry] = []
  newest: dict[tuple[str, str, str], float] = {}
  roots: dict[Path, list[str]] = {}
  for folder in _folders(cache):
    dataset, store = folder.parent.name, folder.name.rpartition("-")[0]
    seen = preparation.read_seen(folder)
    note = folder / preparation.SEEN
    used = note.stat().st_mtime if note.exists() else folder.stat().st_mtime
    for path in sorted(path for path in folder.iterdir() if path.is_dir()):
      unused = ""
      if path.name.startswith(preparation.INCOMPLETE):
        unused = REASONS[3]
      elif not preparation.CONTENT.fullmatch(path.name):
        unused = REASONS[2]
      else:
        here = [root for root, (_, name) in seen.items() if name == path.name]
        roots[path] = [root for root in here if not root or Path(root).exists()]
        for root in roots[path]:
          newest[dataset, store, root] = max(used, newest.get((dataset, store, root), 0.0))
        if not roots[path]:
          # Without a root it was replaced, or seen.json is lost: then the next use compares contents and notes it again
          unused = REASONS[0] if here else REASONS[1]
      found.append(Entry(dataset, store, path, size_of(path), used, unused))
  for number, entry in enumerate(found):
    if not entry.unused and all(newest[entry.dataset, entry.store, root] > entry.used for root in roots[entry.path]):
      found[number] = dataclasses.replace(entry, unused=REASONS[1])
  return sorted(found, key=lambda entry: (entry.dataset, entry.store, -entry.used))


def _folders(cache: Path) -> Iterator[Path]:
  """Yields the folders of keys, DATASET/STORE-KEY."""
  for folder in sorted(cache.glob("*/*-*")):
    if folder.is_dir() and (folder / ".lock").exists():
      yield folder


def size_of(folder: Path) -> int:
  """Returns how many bytes the files in a folder have, 0 where there is no folder."""
  total = 0
  for parent, _, names in os.walk(folder):
    for name in names:
      try:
        total += os.lstat(Path(parent) / name).st_size
      except FileNotFoundError:  # removed meanwhile
        continue
  return total


def prunable(found: Iterable[Entry], days: float | None = None) -> list[Entry]:
  """Returns which entries can go.

  Args:
    found: as `entries` lists them.
    days: also take entries that were not opened for so many days. None: only unused entries.
  """
  oldest = time.time() - (days or 0) * DAY
  return [entry for entry in found if entry.unused or (days is not None and entry.used < oldest)]


def delete(found: Iterable[Entry]) -> int:
  """Deletes entries, except those that a process is preparing.

  Runs that read them go on: on a local file system open files stay readable.

  Args:
    found: what `entries` returned.

  Returns:
    How many bytes that freed.

  Raises:
    UserError: one cannot be deleted.
  """
  freed = 0
  for entry in found:
    folder = entry.path.parent
    try:
      with open(folder / ".lock", "a") as lock:
        try:
          fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
          continue
        if entry.path.exists():
          shutil.rmtree(entry.path)
          freed += entry.size
        if not any(path.is_dir() for path in folder.iterdir()):
          shutil.rmtree(folder)
    except OSError as error:
      raise UserError(f"cannot delete {entry.path} ({error.strerror or error}): delete it by hand, or ask its owner "
                      "to") from error
  return freed


def describe(folder: str = "") -> str:
  """Returns, as text, what the cache holds and how large it is.

  Args:
    folder: the cache; "": $DGJAX_CACHE, or ~/.cache/dgjax.
  """
  cache = preparation.cache_path(folder)
  compiled = f"{megabytes(size_of(cache / 'xla'))} of compiled programs in {cache / 'xla'}"
  return f"{cache}\n{table(entries(cache))}\n{compiled}"


def prune(folder: str = "", days: float | None = None) -> str:
  """Deletes what no data set uses.

  Args:
    folder: the cache; "": $DGJAX_CACHE, or ~/.cache/dgjax.
    days: also delete what was not opened for so many days. None: only what no data set uses.

  Returns:
    A text that says what was deleted.

  Raises:
    UserError: something cannot be deleted.
  """
  found = prunable(entries(preparation.cache_path(folder)), days)
  freed = delete(found)
  return f"{table(found)}\n{megabytes(freed)} freed" if found else "nothing to delete"


def table(found: Iterable[Entry]) -> str:
  """Formats entries as text: size, days since the last use, data set, store, what is unused and why; and the total."""
  found = list(found)
  rows = [(megabytes(entry.size), f"{max(0, time.time() - entry.used) / DAY:.0f} d", entry.dataset, entry.store,
           f"unused: {entry.unused}" if entry.unused else "", str(entry.path)) for entry in found]
  rows.insert(0, ("size", "last used", "data set", "domain", "", "folder"))
  widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
  lines = ["  ".join(cell.rjust(width) if column < 2 else cell.ljust(width)
                     for column, (cell, width) in enumerate(zip(row, widths, strict=True))).rstrip() for row in rows]
  unused = sum(entry.size for entry in found if entry.unused)
  lines.append(f"{megabytes(sum(entry.size for entry in found))} in all, {megabytes(unused)} of it unused")
  return "\n".join(lines)


def megabytes(size: int) -> str:
  """Returns a number of bytes in MB, as text."""
  return f"{size / 1e6:,.1f} MB"
