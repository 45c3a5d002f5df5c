"""The lock of a run's folder: one process, or one group of processes, at a time."""

import contextlib
import json
import logging
import os
import pathlib
import socket
import threading
import time
import uuid
from typing import Any

from dgjax import parallel
from dgjax.errors import UserError

try:
  import fcntl
except ImportError:  # Windows
  fcntl = None  # type: ignore[assignment]

import jax

NAME = ".lock"
BEAT = 10.0  # seconds between two renewals of the lock
STALE = 60.0  # seconds without a renewal after which a process counts as dead
SETTLE = 0.5  # seconds within which two processes that take the same stale lock notice each other

log = logging.getLogger("dgjax")


class FolderLock:
  """Exclusive use of a run's folder, as a context manager; with several processes, process 0 locks for all.

  The lock is a file that names its holder. A thread renews it every `BEAT` seconds. If the file system supports it, the
  holder also has the system's lock (flock) on the file. A lock counts as left over, and is taken, if

  - the system's lock is free and the holder ran on this machine: it is dead, since a kill frees the system's lock;
  - there is no system's lock, and the holder is no longer among this machine's processes;
  - the holder is on another machine, which may not see this machine's locks (on a shared file system), and has not
    renewed the file while this process waited for `STALE` seconds. Clocks are not compared.
  """

  def __init__(self, folder: pathlib.Path):
    """A lock of `folder`, which must exist."""
    self._folder = folder
    self._path = folder / NAME
    self._file: int | None = None
    self._holder = {"host": socket.gethostname(), "process": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M"),
                    "machine": _machine(), "processes": _processes(), "started": _started(os.getpid()),
                    "id": uuid.uuid4().hex}
    self._beats = 0
    self._ended = threading.Event()
    self._thread = threading.Thread(target=self._renew, name="dgjax-lock", daemon=True)

  def __enter__(self) -> "FolderLock":
    """Takes the lock.

    Raises:
      UserError: another process has it, or the file cannot be written.
    """
    problem = ""
    if jax.process_index() == 0:
      try:
        problem = self._take()
      except OSError as error:
        problem = f"cannot lock {self._folder} ({error.strerror}): it must be a folder that can be written, with room"
    if problem := parallel.agree(problem):
      self._close()
      raise UserError(problem)
    if self._file is not None:
      self._thread.start()
    return self

  def __exit__(self, *_: Any) -> None:
    if self._file is None:
      return
    self._ended.set()
    self._thread.join()
    with contextlib.suppress(OSError):
      if self._is_ours():
        self._path.unlink()
    self._close()

  def check(self) -> None:
    """Makes sure that the lock is still ours. Call it on process 0, or on all, before writing what others rely on.

    Raises:
      UserError: another process took it, as it may if this one stood still for `STALE` seconds.
    """
    if self._file is not None and not self._is_ours():
      raise UserError(f"{self._folder} was taken over by {_named(_parsed(self._read()))} while this process stood "
                      "still: the run goes on there")

  def _take(self) -> str:
    """Takes the lock and returns "", or says who has it."""
    while True:
      created = self._open()
      locked = _flock(self._file)
      if locked is False:
        return self._in_use()
      if created:  # by one process alone, even on a file system that machines share
        self._write()
        return ""
      found = self._read()
      ours = locked and (_parsed(found) or {}).get("machine") == self._holder["machine"]
      if self._is_file() and not ours and self._alive(found):
        return self._in_use()
      if self._is_file():
        break
      self._close()  # the holder has just released it: others will no longer find this file
    self._write()
    if not ours:
      time.sleep(SETTLE)
      if not self._is_ours():
        return self._in_use()
    return ""

  def _open(self) -> bool:
    """Opens the file; whether it was not there."""
    while True:
      for flags in (os.O_CREAT | os.O_EXCL, 0):
        with contextlib.suppress(FileExistsError if flags else FileNotFoundError):
          self._file = os.open(self._path, os.O_RDWR | flags, 0o666)
          return bool(flags)

  def _alive(self, found: bytes) -> bool:
    """Whether the holder that a file names is at work. May watch it for a while."""
    holder = _parsed(found)
    seen = holder and all(holder[key] == self._holder[key] != "" for key in ("machine", "processes"))
    if holder and seen:  # it counts its processes as we do
      return _started(int(holder["process"])) == holder["started"]
    patience = STALE if holder else 4 * SETTLE  # a file is named as soon as it is made
    if holder:
      log.warning("%s was locked by %s: waiting up to %d s to see whether it is alive", self._folder, _named(holder),
                  STALE)
    end = time.monotonic() + patience
    while time.monotonic() < end:
      time.sleep(patience / 60)
      if self._read() != found:
        return self._is_file()
    return False

  def _in_use(self) -> str:
    holder = _parsed(self._read())
    if holder is None:  # about to be written
      time.sleep(SETTLE)
      holder = _parsed(self._read())
    return f"{self._folder} is in use by {_named(holder)}: wait for its end or stop it, or use another --workdir"

  def _renew(self) -> None:
    while not self._ended.wait(BEAT):
      # A full disk or an absent file server does not end the run; after `STALE` seconds another process may take over.
      with contextlib.suppress(OSError):
        if self._is_ours():
          self._write()

  def _write(self) -> None:
    """Writes the file in one piece and always with the same length, so that renewing it needs no disk space."""
    assert self._file is not None
    self._beats += 1
    text = json.dumps({**self._holder, "beat": f"{self._beats:012d}"}).encode()
    os.lseek(self._file, 0, os.SEEK_SET)
    os.write(self._file, text)
    os.ftruncate(self._file, len(text))
    os.fsync(self._file)

  def _read(self) -> bytes:
    """The content of the file as others find it; b"" if it is gone."""
    try:
      return self._path.read_bytes()
    except FileNotFoundError:
      return b""

  def _is_ours(self) -> bool:
    return (_parsed(self._read()) or {}).get("id") == self._holder["id"]

  def _is_file(self) -> bool:
    """Whether the open file is the file that others find."""
    assert self._file is not None
    try:
      return os.path.samestat(os.fstat(self._file), os.stat(self._path))
    except FileNotFoundError:
      return False

  def _close(self) -> None:
    if self._file is not None:
      os.close(self._file)  # this releases the system's lock
      self._file = None


def _flock(file: int | None) -> bool | None:
  """Takes the system's lock on a file. False: another process has it. None: there is no such lock here."""
  if fcntl is None or file is None:
    return None
  try:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    return False
  except OSError:  # a file system without locks, such as NFS without its lock service
    return None
  return True


def _parsed(content: bytes) -> dict[str, Any] | None:
  """The holder that a file names; None if the file is empty or being written."""
  try:
    holder = json.loads(content)
  except ValueError:
    return None
  keys = {"host", "process", "since", "machine", "processes", "started", "id"}
  return holder if isinstance(holder, dict) and keys <= holder.keys() else None


def _named(holder: dict[str, Any] | None) -> str:
  if not holder:
    return "another process"
  return f"process {holder['process']} on host {holder['host']} since {holder['since']}"


def _machine() -> str:
  """An identifier of this start of this machine or, if there is none, of this machine."""
  try:
    return pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
  except OSError:
    return f"{uuid.getnode():x}"  # its network address


def _processes() -> str:
  """The namespace of this process's process numbers (containers have their own); "" if unknown."""
  try:
    return os.readlink("/proc/self/ns/pid")
  except OSError:
    return ""


def _started(process: int) -> str:
  """When a process of this machine started, in the system's own unit; "" if it is dead or unknown.

  Process numbers are reused. Together with the start they are unique.
  """
  try:
    # The name of the command, in parentheses, may hold spaces.
    state, *fields = pathlib.Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return "" if state == "Z" else fields[18]
  except (OSError, IndexError, ValueError):
    return ""
