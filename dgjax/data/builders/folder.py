"""Anybody's images as ROOT/DOMAIN/CLASS/*: domains and classes are found, splits are drawn."""

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dgjax.data.builders import base
from dgjax.errors import UserError

log = logging.getLogger("dgjax")

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")


def images(folder: Path) -> Iterator[os.DirEntry[str]]:
  """Yields the image files directly in a folder, by their suffix; hidden files are not looked at."""
  with os.scandir(folder) as entries:
    for entry in entries:
      if entry.name.lower().endswith(IMAGE_SUFFIXES) and not entry.name.startswith(".") and entry.is_file():
        yield entry


def folders(folder: Path) -> list[str]:
  """Returns the names of the folders directly in a folder, sorted; hidden ones are not looked at."""
  with os.scandir(folder) as entries:
    return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))


class Folder(base.RootedLayout):
  """Images in class folders in domain folders; train, val and test are drawn class by class."""

  name = "folder"
  defaults = {"image_size": 224, "augment": "paper", "val_fraction": 0.1, "test_fraction": 0.2}  # noqa: RUF012

  def __init__(self, config: Any):
    super().__init__(config)
    base.check_fractions(val_fraction=config.val_fraction, test_fraction=config.test_fraction)
    self.domains = tuple(self._domains())
    found = {domain: {name: next(images(self.root / self.place(domain) / name), None) is not None
                      for name in folders(self.root / self.place(domain))} for domain in self.domains}
    self.classes = tuple(self._common(found))

  def place(self, domain: str) -> str:
    """Returns where a domain's class folders are, below the root."""
    return domain

  def _domains(self) -> Iterator[str]:
    for name in folders(self.root):
      if folders(self.root / name):
        yield name
      elif next(images(self.root / name), None) is not None:
        self.problem(name, name, f"domain folder {self.root / name} holds images but no class folders",
                     "sort them into one folder per class")
      else:
        log.info("%s holds neither class folders nor images: not a domain.", self.root / name)

  def _common(self, found: dict[str, dict[str, bool]]) -> Iterator[str]:
    """Yields the classes that every domain has images of; `found` is domain -> class -> whether it has any."""
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
        elif not classes[name]:
          reason = f"class folder {self.root / self.place(domain) / name} holds no images"
          advice = "put some there or remove the class everywhere"
        else:
          continue
        break
      if reason:
        for domain, classes in found.items():  # left out everywhere: a label must mean the same in every domain
          if name in classes:
            self.problem(domain, f"{domain}/{name}", reason, advice)
      else:
        common = True
        yield name
    if not common:
      raise UserError(f"no class has images in every domain of {self.root}: "
                      "use the same class folder names in every domain folder")

  def examples(self, domain: str) -> list[base.Example]:
    """Lists the image files of a domain, class by class, by name."""
    examples, place = [], self.place(domain)
    for label, name in enumerate(self.classes):
      for entry in sorted(images(self.root / place / name), key=lambda entry: entry.name):
        stat = entry.stat()
        examples.append(base.Example(f"{place}/{name}/{entry.name}", label, stat.st_size, stat.st_mtime_ns))
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
