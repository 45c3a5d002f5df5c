"""Records in ArrayRecord files: written one after the other, read at random."""

import bisect
import itertools
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

SHARD_BYTES = 256 << 20
# Records this small on average, in a store this small, are all read at once and kept in memory, because finding one on
# disk takes longer than decoding it.
HELD_RECORD_BYTES, HELD_STORE_BYTES = 2 << 10, 64 << 20
BLOCK_BYTES = 64 << 10  # files are padded to a multiple of it
# One record a chunk, so that a record is read without its neighbours. Images are compressed already.
WRITER_OPTIONS = "group_size:1,uncompressed"
READER_OPTIONS = "readahead_buffer_size:0,max_parallelism:0"


class DamagedError(Exception):
  """Prepared data are not what was written."""


class Writer:
  """A context manager that writes records to files in a folder. A new file begins when one is full."""

  def __init__(self, folder: Path):
    self._folder, self._files, self._bytes = folder, 0, 0
    self._writer: Any = None

  def __enter__(self) -> "Writer":
    return self

  def __exit__(self, *exception: object) -> None:
    if self._writer is not None:
      self._writer.close()

  def write(self, record: bytes) -> None:
    """Appends one record.

    Raises:
      RuntimeError, ValueError: ArrayRecord's, such as where the disk is full.
    """
    if self._writer is None or self._bytes >= SHARD_BYTES:
      self.__exit__()
      self._writer = ArrayRecordWriter(str(self._folder / f"records-{self._files:05d}.array_record"), WRITER_OPTIONS)
      self._files, self._bytes = self._files + 1, 0
    self._writer.write(record)
    self._bytes += len(record)


class Records(Sequence[bytes]):
  """Random access to the records in a folder. It is safe to read from several threads."""

  def __init__(self, folder: Path, count: int):
    """Opens the record files.

    Args:
      folder: the folder that a `Writer` wrote to.
      count: the number of records that it must hold.

    Raises:
      DamagedError: the files hold another number of records.
    """
    paths = sorted(folder.glob("records-*.array_record"))
    self._readers = [ArrayRecordReader(str(path), READER_OPTIONS, file_reader_buffer_size=BLOCK_BYTES // 2)
                     for path in paths]
    self._starts = [0, *itertools.accumulate(reader.num_records() for reader in self._readers)]
    if self._starts[-1] != count:
      raise DamagedError(f"{self._starts[-1]} records instead of {count}")
    size = sum(path.stat().st_size for path in paths)
    self._small = size <= HELD_STORE_BYTES and size <= HELD_RECORD_BYTES * count + BLOCK_BYTES * len(paths)
    self._held: list[bytes] | None = None
    self._lock = threading.Lock()

  def __len__(self) -> int:
    return self._starts[-1]

  def __getitem__(self, index: Any) -> Any:
    """Returns one record.

    Raises:
      IndexError: there is none of that index.
      RuntimeError: the record is not there or does not have its checksum.
    """
    if not 0 <= index < len(self):
      raise IndexError(f"index {index} is not in [0, {len(self)})")
    if self._small and self._held is None:
      self._hold()
    if self._held is not None:
      return self._held[index]
    shard = bisect.bisect_right(self._starts, index) - 1
    # One by one: a list of scattered indices takes ArrayRecord longer than as many calls
    return _whole(self._readers[shard].read([index - self._starts[shard]])[0])

  def _hold(self) -> None:
    """Reads all records into memory, unless one of them is damaged: the others can still be read one by one."""
    with self._lock:
      if self._held is None and self._small:
        try:
          held = [_whole(record) for reader in self._readers for record in reader.read_all()]
          self._held = held if len(held) == len(self) else None
        except RuntimeError:
          pass
        self._small = self._held is not None


def _whole(record: bytes) -> bytes:
  """Returns a record. Raises RuntimeError if it is empty, as records beyond a file's end are in ArrayRecord."""
  if not record:
    raise RuntimeError("the file ends early")
  return record
