"""Data sets of adaptation in class folders: all images are trained on and, for a target, scored on."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dgjax.data import files
from dgjax.data.builders import base
from dgjax.data.builders.folder import Folder
from dgjax.errors import UserError

log = logging.getLogger("dgjax")


class Adapted(Folder):
  """A data set of fixed domains in class folders, all of whose images are trained on and, as a target's, scored on.

  Settings: `val_fraction` of every class is for validation; `held_out`: whether the validation images are kept out of
  training. The papers train on all images; validation accuracy is then measured on images that were trained on.

  Attributes:
    class_count: the number of classes that there must be.
    places: where each domain's class folders are, below the root.
  """

  source_test = False
  centre_crop = True
  class_count: int
  places: tuple[str, ...]
  defaults = {"image_size": 224, "val_fraction": 0.1, "test_fraction": 0.0, "held_out": True}  # noqa: RUF012

  def __init__(self, config: Any):
    super().__init__(config)
    if len(self.classes) != self.class_count:
      reason = f"{self.root} has {len(self.classes)} classes, not the {self.class_count} of {self.name!r}"
      if config.on_error != "skip":
        raise UserError(f"{reason}: complete the folders, {base.SKIP_HINT}")
      log.warning("%s", reason)

  def fits(self, root: Path) -> bool:
    """Returns whether a folder has all the domains' folders."""
    return all((root / place).is_dir() for place in self.places)

  def above(self) -> Path | None:
    """Returns the folder above the root that has the domains' folders, or None."""
    return base.RootedLayout.above(self)

  def _domains(self) -> Iterator[str]:
    for domain, place in zip(type(self).domains, self.places, strict=True):
      if not (self.root / place).is_dir():
        raise UserError(f"{files.no_folder(self.root / place)}: config.data.dir must be the folder that holds "
                        f"{self.looks_like}{self.level()}")
      self._folders[domain] = place
      yield domain

  def split(self, domain: str, examples: Sequence[base.Example], seed: int) -> dict[str, np.ndarray]:
    """Draws validation class by class, from what is trained on or beside it; "test" is everything."""
    parts = self.draw(domain, examples, {"val": self.config.val_fraction}, seed)
    everything = np.arange(len(examples), dtype=np.int32)
    return parts | {"test": everything} | ({} if self.config.held_out else {"train": everything})

  def split_name(self, seed: int) -> str:
    """Returns the settings the splits depend on."""
    return f"seed{seed}-val{self.config.val_fraction:g}{'' if self.config.held_out else '-trained'}"
