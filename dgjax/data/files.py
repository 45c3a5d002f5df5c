"""Lists folders: files, folders, and what is neither. Every layout looks into folders through this module.

What systems leave behind (hidden files, `Thumbs.db`, `__MACOSX` ...) is ignored. Pipes, devices and broken links are
never opened.
"""

import contextlib
import errno
import functools
import logging
import os
import stat
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from dgjax.data import decoding
from dgjax.errors import UserError

log = logging.getLogger("dgjax")

LITTER = frozenset({
  "$recycle.bin", "#recycle", "#snapshot", "@__thumb", "@eadir", "@recycle", "__macosx", "__pycache__", "desktop.ini",
  "ehthumbs.db", "icon\r", "lost+found", "system volume information", "thumbs.db"})
"""Names, in lower case, of what systems leave in folders, apart from hidden files."""

MOST_LOOKED_AT = 200  # folders that a search for the right level looks into


FOLDER = "a folder"


class Listing(NamedTuple):
  """What is directly in a folder, each part by name.

  Attributes:
    files: regular files, also those that links lead to.
    folders: names of the folders, also those that links lead to.
    faults: names of what is neither, with the reason.
  """

  files: tuple[os.DirEntry[str], ...]
  folders: tuple[str, ...]
  faults: tuple[tuple[str, str], ...]


def is_litter(name: str) -> bool:
  """Returns whether a file or folder of that name is hidden or left by a system, and so not the user's."""
  return name.startswith(".") or name.lower() in LITTER


def fault(path: Path | str) -> str:
  """Returns why there is no regular file at a path, or "" where there is one; opens nothing."""
  try:
    mode = os.stat(path).st_mode
  except OSError as error:
    return _link_fault(error, path)
  return "" if stat.S_ISREG(mode) else _kind(mode)


def regular(path: Path) -> Path | None:
  """Returns the path if it is a regular file, and None if it is a folder or absent.

  Raises:
    UserError: a broken link, a pipe or another thing that cannot be read.
  """
  if not os.path.lexists(path) or path.is_dir():
    return None
  if reason := fault(path):
    raise UserError(f"cannot read {path} ({reason}): replace or remove the file")
  return path


def absence(path: Path) -> str:
  """Returns what is wrong with a file that a list names, for a message after "which", or "" if nothing is."""
  if not os.path.lexists(path):
    return "does not exist"
  reason = fault(path)
  return f"cannot be read ({reason})" if reason else ""


def no_folder(path: Path) -> str:
  """Returns why there is no folder at a path, for a message."""
  return f"{path} is {fault(path) or 'a file'}" if os.path.lexists(path) else f"there is no folder {path}"


def contents(path: Path) -> bytes:
  """Reads a regular file.

  Raises:
    OSError: it is absent or cannot be read, or it is a pipe, a device or a folder, which is not opened.
  """
  if os.path.lexists(path) and (reason := fault(path)):
    raise OSError(reason)
  return path.read_bytes()


def listing(folder: Path) -> Listing:
  """Looks into a folder.

  Raises:
    UserError: it cannot be listed.
  """
  files, folders, faults = [], [], []
  for entry in sorted(scan(folder), key=lambda entry: entry.name):
    kind = entry_fault(entry, folder)
    if not kind:
      files.append(entry)
    elif kind == FOLDER:
      folders.append(entry.name)
    else:
      faults.append((entry.name, kind))
  return Listing(tuple(files), tuple(folders), tuple(faults))


def scan(folder: Path) -> Iterator[os.DirEntry[str]]:
  """Yields what is in a folder but litter, in no order.

  Raises:
    UserError: the folder cannot be listed.
  """
  try:
    with os.scandir(folder) as entries:
      yield from (entry for entry in entries if not is_litter(entry.name))
  except OSError as error:
    raise UserError(f"cannot look into folder {folder} ({error.strerror}): check that it may be read") from error


def entry_fault(entry: os.DirEntry[str], folder: Path) -> str:
  """Returns "" for a regular file, `FOLDER` for a folder, and otherwise why it is neither. Links are followed."""
  try:
    if entry.is_file():
      return ""
    if not entry.is_dir():
      return _kind(entry.stat().st_mode)
  except OSError as error:
    return _link_fault(error, entry.path)
  if entry.is_symlink():
    target, place = os.path.realpath(entry.path), os.path.realpath(folder)
    if place == target or place.startswith(target.rstrip(os.sep) + os.sep):
      return "a link to a folder that it lies in"
  return FOLDER


def _link_fault(error: OSError, path: Path | str) -> str:
  if error.errno == errno.ELOOP:
    return "a loop of links"
  if error.errno == errno.ENOENT and os.path.islink(path):
    return f"a broken link to {os.readlink(path)}"
  return error.strerror or str(error)


def _kind(mode: int) -> str:
  kinds = {stat.S_ISDIR: FOLDER, stat.S_ISFIFO: "a pipe", stat.S_ISSOCK: "a socket", stat.S_ISCHR: "a device",
           stat.S_ISBLK: "a device"}
  return next((f"{kind}, not a file" for test, kind in kinds.items() if test(mode)), "no regular file")


def folders(folder: Path) -> list[str]:
  """Returns the names of the folders directly in a folder, sorted."""
  return sorted(entry.name for entry in scan(folder) if entry_fault(entry, folder) == FOLDER)


def is_image(name: str) -> bool:
  """Returns whether a file's suffix is of an image that can be read here."""
  return name.lower().endswith(decoding.suffixes())


def is_picture(name: str) -> bool:
  """Returns whether a file's suffix is of an image, one that can be read here or not."""
  return is_image(name) or name.lower().endswith(decoding.FOREIGN)


def has_images(folder: Path) -> bool:
  """Returns whether an image file lies directly in a folder; looks no further than the first."""
  return any(is_image(entry.name) and not entry_fault(entry, folder) for entry in scan(folder))


def walk(folder: Path) -> Iterator[tuple[Path, str]]:
  """Yields everything in and below a folder but folders, each with "" for a file, or with why it is no file.

  Links to folders are followed. Each folder is visited once.
  """
  seen: set[str] = set()

  def below(place: Path) -> Iterator[tuple[Path, str]]:
    real = os.path.realpath(place)
    if real in seen:
      return
    seen.add(real)
    found = listing(place)
    yield from ((place / entry.name, "") for entry in found.files)
    yield from ((place / name, reason) for name, reason in found.faults)
    for name in found.folders:
      yield from below(place / name)

  return below(folder)


def below(root: Path, fits: Callable[[Path], bool]) -> Path | None:
  """Returns the first folder, of those one and two levels below one, that fits; None where there is none."""
  level, looked_at = [root], 0
  for _ in range(2):
    level = [place / name for place in level for name in _folders_or_none(place)]
    for place in level[: MOST_LOOKED_AT - looked_at]:
      looked_at += 1
      with contextlib.suppress(UserError, OSError):  # folders that may not be read are ignored
        if fits(place):
          return place
  return None


def _folders_or_none(place: Path) -> list[str]:
  with contextlib.suppress(UserError):
    return folders(place)[:MOST_LOOKED_AT]
  return []


def normal(name: str) -> str:
  """Returns a name in the form in which it is shown and compared.

  It is in Unicode's normal form C, because systems write the same letter as one code point or as two. Bytes that are
  not UTF-8, which some systems allow in names, are written as backslash, x and two digits.
  """
  visible = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
  return unicodedata.normalize("NFC", visible)


def by_normal_name(folder: Path, names: Sequence[str]) -> dict[str, str]:
  """Returns `normal` names -> the names as they are in a folder.

  Raises:
    UserError: two names differ in nothing but Unicode's normal form.
  """
  found: dict[str, str] = {}
  for name in names:
    if (other := found.setdefault(normal(name), name)) != name:
      raise UserError(f"{folder} holds {other!a} and {name!a}, which differ in nothing but Unicode's normal "
                      "form: rename one, or put what they hold into one")
  return found


def spelt(folder: Path, name: str) -> str | None:
  """Returns a path as it is spelt below a folder (as given, with slashes for backslashes, in form C or D), or None.

  Args:
    folder: where the path starts.
    name: as a list has it.
  """
  slashes = name.replace("\\", "/")
  forms = (unicodedata.normalize(form, slashes) for form in ("NFC", "NFD"))
  for spelling in dict.fromkeys((name, slashes, *forms)):
    if os.path.lexists(folder / spelling):
      return spelling
  return None


def lines(path: Path) -> Iterator[tuple[int, str]]:
  """Yields the lines of a text file that are not blank, each with its number from 1.

  The file is UTF-8 text, with or without a byte order mark, with any line ends. Bytes that are not UTF-8 are kept as
  Python keeps them in file names, so that names in any encoding find their files.

  Raises:
    UserError: the file cannot be read, or is no such text.
  """
  try:
    content = contents(path)
  except OSError as error:
    raise UserError(f"cannot read {path} ({error.strerror or error}): replace the file") from error
  if content.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in content:
    what = "UTF-16" if content.count(b"\0") > len(content) // 4 or content[:1] in (b"\xff", b"\xfe") else "no text"
    raise UserError(f"{path} is {what}: save it as UTF-8 text")
  text = content.decode("utf-8-sig", errors="surrogateescape")
  for number, line in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), 1):
    if line.strip():
      yield number, line.strip()


def split_label(line: str) -> tuple[str, str]:
  """Splits a line of a list at its last spaces or tabs into a path and a label; ("", "") if there are none."""
  path, label = line.rsplit(None, 1) if len(line.split(None, 1)) == 2 else ("", "")
  return path, label


def counted(names: Sequence[str]) -> str:
  """Returns how many files there are by suffix, and the first of them, for a message."""
  suffixes = Counter(os.path.splitext(name)[1].lower() or "no suffix" for name in names)
  return f"{len(names)} ({', '.join(f'{suffix}: {n}' for suffix, n in suffixes.most_common(5))}), the first: {names[0]}"


@functools.cache
def say_once(message: str) -> None:
  """Logs a warning, once in this process."""
  log.warning("%s", message)
