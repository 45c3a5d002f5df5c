"""Your own images as ROOT/DOMAIN/CLASS/*. Domains and classes are found, and splits are drawn."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dgjax.data import files
from dgjax.data.builders import base
from dgjax.errors import UserError

log = logging.getLogger("dgjax")


class Folder(base.RootedLayout):
  """Images in class folders in domain folders; train, val and test are drawn class by class."""

  name = "folder"
  defaults = {"image_size": 224, "augment": "paper", "val_fraction": 0.1, "test_fraction": 0.2}  # noqa: RUF012

  def __init__(self, config: Any):
    super().__init__(config)
    base.check_fractions(val_fraction=config.val_fraction, test_fraction=config.test_fraction)
    self._folders: dict[str, str] = {}  # domain -> its folder's name, which may be in another normal form
    self.domains = tuple(self._domains())
    self._class_folders = {domain: self._found(domain) for domain in self.domains}
    self.classes = tuple(self._common(self._class_folders))

  def place(self, domain: str) -> str:
    """Returns where a domain's class folders are, below the root."""
    return self._folders[domain]

  def fits(self, root: Path) -> bool:
    """Returns whether there is an image in a folder in a folder."""
    return any(files.has_images(root / domain / name)
               for domain in files.folders(root) for name in files.folders(root / domain))

  def above(self) -> Path | None:
    """Returns a folder above the root, if the root looks like the folder of a single domain or class."""
    if files.has_images(self.root):
      return self.root.parents[1]
    return self.root.parent if any(files.has_images(self.root / name) for name in files.folders(self.root)) else None

  def _domains(self) -> Iterator[str]:
    if not self.fits(self.root) and (level := self.level()):
      raise UserError(f"{self.root} has no images two levels down, as DOMAIN/CLASS/*: config.data.dir must be the "
                      f"folder that holds {self.looks_like}{level}")
    found = files.listing(self.root)
    self._loose("the root", self.root, found)
    self.say_unused("the root")
    for name, reason in found.faults:  # which may have been domains
      self.leave_out(name, f"{self.root / name} is {reason}", "mend or remove it")
    for domain, name in files.by_normal_name(self.root, found.folders).items():
      if files.folders(self.root / name):
        self._folders[domain] = name
        yield domain
      elif files.has_images(self.root / name):
        self.leave_out(domain, f"domain folder {self.root / name} holds images but no class folders",
                      "sort them into one folder per class")
      else:
        log.info("%s holds neither class folders nor images: not a domain.", self.root / name)

  def _loose(self, store: str, folder: Path, found: files.Listing) -> None:
    """Counts the pictures that lie beside folders."""
    for entry in found.files:
      if files.is_picture(entry.name):
        self.unused(store, folder / entry.name)

  def _found(self, domain: str) -> dict[str, str]:
    """Returns the classes of a domain -> the names of their folders."""
    folder = self.root / self.place(domain)
    found = files.listing(folder)
    self._loose(domain, folder, found)
    for name, reason in found.faults:  # which may have been classes
      self.problem(domain, f"{domain}/{name}", f"{folder / name} is {reason}", "mend or remove it")
    return files.by_normal_name(folder, found.folders)

  def class_folder(self, domain: str, name: str) -> str:
    """Returns where a class's images are, below the root."""
    return f"{self.place(domain)}/{self._class_folders[domain][name]}"

  def _common(self, found: dict[str, dict[str, str]]) -> Iterator[str]:
    """Yields the classes that every domain has images of; `found` is domain -> class -> its folder."""
    if not found:
      raise UserError(f"{self.root} holds no domain: config.data.dir must be the folder that holds {self.looks_like}")
    counts = {domain: len(classes) for domain, classes in found.items()}
    most = max(counts, key=counts.__getitem__)
    common = False
    for name in sorted({name for classes in found.values() for name in classes}):
      reason = ""
      for domain, classes in found.items():
        if name not in classes:
          other = most if name in found[most] else next(d for d in found if name in found[d])
          reason = (f"class {name!r} is missing from domain {domain!r} ({counts[domain]} classes there, "
                    f"{counts[other]} in {other!r})")
          advice = f"add {self.root / self.place(domain) / name} or take the class out of the other domains"
        elif not files.has_images(folder := self.root / self.class_folder(domain, name)):
          reason = f"class folder {folder} holds no images{self._instead(folder)}"
          advice = "put some there or remove the class everywhere"
        else:
          continue
        break
      if reason:
        for domain, classes in found.items():  # left out everywhere, as a label must mean the same in every domain
          if name in classes:
            self.problem(domain, f"{domain}/{name}", reason, advice)
      else:
        common = True
        yield name
    if not common:
      raise UserError(f"no class has images in every domain of {self.root}: "
                      "use the same class folder names in every domain folder")

  def _instead(self, folder: Path) -> str:
    """Returns what lies in a class folder that holds no images, for a message."""
    names = [path.relative_to(folder).as_posix() for path, _ in files.walk(folder)]
    return f" but {files.counted(names)}" if names else ""

  def examples(self, domain: str) -> list[base.Example]:
    """Lists the image files of a domain, class by class, by name."""
    examples = []
    for label, name in enumerate(self.classes):
      place = self.class_folder(domain, name)
      examples += [base.of_file(entry, f"{place}/{entry.name}", label)
                   for entry in self.usable_files(domain, self.root / place)]
    self.say_unused(domain)
    return examples

  def split(self, domain: str, examples: Sequence[base.Example], seed: int) -> dict[str, np.ndarray]:
    """Draws the splits class by class, so that each holds every class it has room for."""
    return self.draw(domain, examples, {"val": self.config.val_fraction, "test": self.config.test_fraction}, seed)

  def draw(self, domain: str, examples: Sequence[base.Example], fractions: dict[str, float],
           seed: int) -> dict[str, np.ndarray]:
    """Draws splits class by class, of shares as `base.draw_split` takes them."""
    labels = np.fromiter((example.label for example in examples), np.int32, len(examples))
    return base.draw_by_class(labels, self.classes, fractions, seed, domain)

  def split_name(self, seed: int) -> str:
    """Returns the settings the drawn splits depend on."""
    return f"seed{seed}-val{self.config.val_fraction:g}-test{self.config.test_fraction:g}"
