"""Data sets that come with list files: lines of `path label`, one file per domain and split."""

import contextlib
import itertools
import os
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from dgjax.data import files
from dgjax.data.builders import base
from dgjax.errors import UserError

FOLDERS = ("splits", ".", "splits_mst")  # where lists are, below the root; some of Dassl's data sets have the last
SAMPLE = 100  # the number of lines of each domain's first list that are used to find where paths start from


class Lists(base.RootedLayout):
  """Images below a folder, named by list files in ROOT/splits, ROOT or ROOT/splits_mst.

  The paths in the lists start from ROOT or a folder in it, as Dassl's `images`. ROOT may also be one level too deep.

  Attributes:
    lists: split -> name of its list file, with {} for the domain. The first one tells which domains there are.
    first_label: the lowest label of the lists.
    folder: where the lists are.
    root: where the paths in the lists start from.
  """

  lists: Mapping[str, str]
  first_label = 0

  def __init__(self, config: Any):
    super().__init__(config)
    self.folder = self._lists_folder()
    self._written = files.by_normal_name(self.folder, self._domains_in(self.folder))  # domain -> as in lists' names
    self.domains = tuple(domain for domain in self._written if self._complete(domain))
    if not self.domains:
      raise UserError(f"no domain in {self.folder} has all its lists ({', '.join(self.lists.values())}): complete them")
    self.root = self._start()
    self.classes, self._labels = self._classes()

  def fits(self, root: Path) -> bool:
    """Returns whether there are lists in a folder, where they are looked for."""
    return any((root / name).is_dir() and self._domains_in(root / name) for name in FOLDERS)

  def _lists_folder(self) -> Path:
    """Returns the folder of the lists, below the root or beside it."""
    for root in (self.root, self.root.parent):
      for name in FOLDERS:
        with contextlib.nullcontext() if root == self.root else contextlib.suppress(UserError):
          if (root / name).is_dir() and self._domains_in(root / name):
            return root / name
    first = next(iter(self.lists.values())).format("DOMAIN")
    raise UserError(
      f"no list file {first} in {self.root / 'splits'} or {self.root}: config.data.dir must be the folder that holds "
      f"{self.looks_like}{self.level()}; put the official lists of {self.name!r} there, or use config.data.name=folder "
      "to draw splits without them")

  def _domains_in(self, folder: Path) -> list[str]:
    """Returns the domains that a folder has a first list of, as written there, sorted."""
    prefix, suffix = next(iter(self.lists.values())).split("{}")
    found = files.listing(folder)
    names = [*(entry.name for entry in found.files), *(name for name, _ in found.faults)]
    return sorted(name[len(prefix) : len(name) - len(suffix)] for name in names
                  if name.startswith(prefix) and name.endswith(suffix) and len(name) > len(prefix + suffix))

  def _list(self, domain: str, split: str) -> Path:
    name = self.lists[split].format(self._written[domain])
    return self.folder / (files.spelt(self.folder, name) or name)

  def _complete(self, domain: str) -> bool:
    """Returns whether all lists of a domain can be read. If not, it leaves the domain out or raises an error."""
    for split in self.lists:
      path = self._list(domain, split)
      if not os.path.lexists(path):
        self.leave_out(domain, f"there is no list file {path}",
                       f"every domain needs {', '.join(self.lists.values())}; add it")
        return False
      try:
        next(files.lines(path), None)
      except UserError as error:
        reason, _, advice = str(error).rpartition(": ")
        self.leave_out(domain, reason, advice)
        return False
    return True

  def _start(self) -> Path:
    """Returns the folder that the lists' paths start from: the root or a folder near it, whichever has most files."""
    first = next(iter(self.lists))
    names = [name for domain in self.domains for _, name, _ in itertools.islice(self._lines(domain, first), SAMPLE)]

    def found(place: Path) -> int:
      return sum(files.spelt(place, name) is not None for name in names)

    if found(self.root) == len(names):
      return self.root
    near = (self.root, self.root / "images", self.folder, self.folder.parent, self.root.parent,
            *(self.root / name for name in files.folders(self.root)))
    return max(near, key=found)

  def _lines(self, domain: str, split: str, note: bool = False) -> Iterator[tuple[str, str, int]]:
    """Yields (where it stands, path as it is written, label from 0) for each line of a list file.

    A malformed line is a problem. Under `on_error=skip` it is noted only if `note` is set, because lists are read
    twice.
    """
    path = self._list(domain, split)
    for number, line in files.lines(path):
      where, (name, label) = f"{path} line {number}", files.split_label(line)
      value = int(label) - self.first_label if label.isdecimal() else -1
      if name and value >= 0:
        yield where, name, value
      elif note or self.config.on_error != "skip":
        self.problem(domain, where, f"{where}: expected `path label` with labels from {self.first_label}, got {line!r}",
                     "mend the line")

  def _classes(self) -> tuple[tuple[str, ...], dict[int, int]]:
    """Returns the names of the classes that every domain has, and the lists' labels -> index into them."""
    names: dict[int, str] = {}
    found: dict[str, set[int]] = {}
    for domain in self.domains:
      found[domain] = set()
      for split in self.lists:
        for where, path, label in self._lines(domain, split):
          name = files.normal(PurePosixPath(path.replace("\\", "/")).parent.name)
          if names.setdefault(label, name) != name:
            raise UserError(f"{where}: label {label + self.first_label} is class {name!r} here "
                            f"but {names[label]!r} before: mend the list")
          found[domain].add(label)
    common = sorted(set.intersection(*found.values()))
    for label in sorted(set(names) - set(common)):
      missing = next(domain for domain in self.domains if label not in found[domain])
      most = max(self.domains, key=lambda domain: len(found[domain]))
      for domain in self.domains:
        if label in found[domain]:
          self.problem(domain, f"{domain}/{names[label]}",
                       f"class {names[label]!r}, label {label + self.first_label}, is missing from the lists of "
                       f"domain {missing!r} ({len(found[missing])} classes there, {len(found[most])} in {most!r})",
                       "complete the lists or take the class out of the other domains")
    if not common:
      raise UserError(f"no class is in the lists of every domain in {self.folder}: check the lists")
    return tuple(names[label] for label in common), {label: i for i, label in enumerate(common)}

  def examples(self, domain: str) -> list[base.Example]:
    """Reads the lists of a domain. A file may be in several of them."""
    splits: dict[str, tuple[str, ...]] = {}
    labels: dict[str, int] = {}
    absent: dict[str, tuple[str, str]] = {}  # path -> where it is named, and what is wrong with it
    for split in self.lists:
      for where, written, label in self._lines(domain, split, note=True):
        if label not in self._labels or written in absent:
          continue
        name, reason = self._file(written)
        if reason:
          absent[written] = where, reason
        elif split in splits.get(name, ()) or labels.get(name, label) != label:
          self.problem(domain, where, f"{where} repeats {name}", "take one of the two lines out")
        else:
          labels[name] = label
          splits[name] = (*splits.get(name, ()), split)
    if not splits:
      raise UserError(f"the lists of domain {domain!r} in {self.folder} name no image that exists in {self.root}: "
                      "config.data.dir must be the folder that the paths in the lists start from")
    for written, (where, reason) in absent.items():
      self.problem(domain, written, f"{where} names {self.root / written}, which {reason}",
                   "fetch the file or take the line out")
    examples = []
    for name in sorted(splits):
      stat = os.stat(self.root / name)
      examples.append(base.Example(name, self._labels[labels[name]], stat.st_size, stat.st_mtime_ns, splits[name]))
    return examples

  def _file(self, written: str) -> tuple[str, str]:
    """Returns the path of a listed file as the disk spells it, and what is wrong with the file, or ""."""
    if not files.fault(self.root / written):
      return written, ""
    name = files.spelt(self.root, written) or written
    return name, files.absence(self.root / name)
