"""Data sets that come with list files: lines of `path label`, one file per domain and split."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dgjax.data.builders import base
from dgjax.errors import UserError


class Lists(base.RootedLayout):
  """Images below a folder, named by list files in ROOT/splits or ROOT.

  Attributes:
    lists: split -> name of its list file, with {} for the domain. The first one tells which domains there are.
    first_label: what the lists count labels from.
  """

  lists: Mapping[str, str]
  first_label = 0

  def __init__(self, config: Any):
    super().__init__(config)
    pattern = next(iter(self.lists.values()))
    folders = [f for f in (self.root / "splits", self.root) if any(f.glob(pattern.format("*")))]
    if not folders:
      raise UserError(
        f"no list file {pattern.format('DOMAIN')} in {self.root / 'splits'} or {self.root}: put the official lists of "
        f"{self.name!r} there, or use config.data.name=folder to draw splits without them")
    self.folder = folders[0]
    prefix, suffix = pattern.split("{}")
    self.domains = tuple(sorted(
      path.name[len(prefix) : len(path.name) - len(suffix)] for path in self.folder.glob(pattern.format("*"))))
    self.classes, self._labels = self._classes()

  def _lines(self, domain: str, split: str) -> Iterator[tuple[str, str, int]]:
    """Yields (where it stands, path below the root, label from 0) for each line of a list file."""
    path = self.folder / self.lists[split].format(domain)
    try:
      file = open(path, encoding="utf-8", errors="surrogateescape")  # noqa: SIM115 (closed below; the error is for open)
    except FileNotFoundError:
      raise UserError(f"there is no list file {path}: every domain needs {', '.join(self.lists.values())}") from None
    with file:
      for number, line in enumerate(file, 1):
        if not line.strip():
          continue
        name, _, label = line.strip().rpartition(" ")
        try:
          value = int(label) - self.first_label
        except ValueError:
          value = -1
        if not name or value < 0:
          raise UserError(f"{path} line {number}: expected `path label` with labels from {self.first_label}, "
                          f"got {line.strip()!r}: mend the line")
        yield f"{path} line {number}", name.strip(), value

  def _classes(self) -> tuple[tuple[str, ...], dict[int, int]]:
    """Returns the names of the classes that every domain has, and the lists' labels -> index into them."""
    names: dict[int, str] = {}
    found: dict[str, set[int]] = {}
    for domain in self.domains:
      found[domain] = set()
      for split in self.lists:
        for where, path, label in self._lines(domain, split):
          name = Path(path).parent.name
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
                       f"class {names[label]!r} is missing from the lists of domain {missing!r} "
                       f"({len(found[missing])} classes there, {len(found[most])} in {most!r})",
                       "complete the lists or take the class out of the other domains")
    if not common:
      raise UserError(f"no class is in the lists of every domain in {self.folder}: check the lists")
    return tuple(names[label] for label in common), {label: i for i, label in enumerate(common)}

  def examples(self, domain: str) -> list[base.Example]:
    """Reads the lists of a domain; a file may stand in several of them."""
    splits: dict[str, tuple[str, ...]] = {}
    labels: dict[str, int] = {}
    absent: set[str] = set()
    for split in self.lists:
      for where, name, label in self._lines(domain, split):
        if label not in self._labels or name in absent:
          continue
        if split in splits.get(name, ()) or labels.get(name, label) != label:
          self.problem(domain, where, f"{where} repeats {name}", "take one of the two lines out")
          continue
        if name not in splits and not (self.root / name).is_file():
          self.problem(domain, name, f"{where} names {self.root / name}, which does not exist",
                       "fetch the file or take the line out")
          absent.add(name)
          continue
        labels[name] = label
        splits[name] = (*splits.get(name, ()), split)
    examples = []
    for name in sorted(splits):
      stat = os.stat(self.root / name)
      examples.append(base.Example(name, self._labels[labels[name]], stat.st_size, stat.st_mtime_ns, splits[name]))
    if not examples:
      raise UserError(f"the lists of domain {domain!r} in {self.folder} name no image that exists: "
                      "config.data.dir must be the folder that the paths in the lists start from")
    return examples
