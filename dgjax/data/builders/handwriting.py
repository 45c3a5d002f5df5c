"""Handwritten characters, split by writer: ROOT/WRITER/CHARACTER/* or LipiTk's ROOT/WRITER/CHARACTERtTRIAL.*."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dgjax.data import files
from dgjax.data.builders import base
from dgjax.data.builders.grouped import Grouped
from dgjax.errors import UserError

TRIAL = re.compile(r"(?P<character>.+)t\d+", re.IGNORECASE)  # LipiTk: 017t02 is the second trial of character 017


class Handwriting(Grouped, base.RootedLayout):
  """Images of characters in a folder for each writer; a writer is a domain.

  In a writer's folder, images lie in a folder for each character, or as LipiTk's images do, all together under names
  such as `017t02.tiff`, character and trial. Files of pen strokes (LipiTk's `.txt`) are not read. A writer need not
  have written every character. The defaults split writers as the paper does, 60 % for training, 25 % for testing, 15 %
  for validation.

  Source: CrossGrad, Section 4 (LipiTk's Devanagari characters).
  """

  name = "handwriting"
  groups_noun = "writers"
  looks_like = "WRITER/CHARACTER/* or LipiTk's WRITER/CHARACTERtTRIAL.* (images)"
  channels = 1
  mean = std = (128 / 255,)
  defaults = {"image_size": 32, "augment": "none", "val_fraction": 0.15, "test_fraction": 0.25}  # noqa: RUF012

  def __init__(self, config: Any):
    super().__init__(config)
    if not self.fits(self.root) and (level := self.level()):
      raise UserError(f"{self.root} has no writers' folders: config.data.dir must be the folder that holds "
                      f"{self.looks_like}{level}")
    self._found = [found for writer in self.subfolders(self.groups_noun, self.root)
                   for found in self._writer(self.root / writer)]
    if not self._found:
      raise UserError(f"no image in {self.root}: config.data.dir must be the folder that holds {self.looks_like}")
    self.classes = tuple(sorted({character for character, _ in self._found}))

  def fits(self, root: Path) -> bool:
    """Returns whether some folder in a folder is a writer's."""
    return any(_is_writer(root / name) for name in files.folders(root))

  def above(self) -> Path | None:
    """Returns the folder above the root where the root looks like a writer's."""
    return self.root.parent if _is_writer(self.root) else None

  def _writer(self, folder: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yields the character and each of a writer's images, by name."""
    count = 0
    for entry in self.usable_files(self.groups_noun, folder, nested=False):
      count += 1
      if match := TRIAL.fullmatch(Path(entry.name).stem):
        yield files.normal(match["character"]), entry
      else:
        self.problem(self.groups_noun, f"{folder.name}/{entry.name}",
                     f"{entry.path} is in no character's folder and its name is not CHARACTERtTRIAL, as in 017t02",
                     "put it into a folder named by its character")
    for character in files.folders(folder):
      for entry in self.usable_files(self.groups_noun, folder / character):
        count += 1
        yield files.normal(character), entry
    if not count:
      strokes = " but .txt files, and pen strokes are not read" if any(folder.glob("*.txt")) else ""
      self.problem(self.groups_noun, folder.name, f"writer's folder {folder} holds no images{strokes}",
                   "put images there or remove the folder")

  def group(self, example: base.Example) -> str:
    """Returns the writer's folder."""
    return example.name.split("/", 1)[0]

  def examples(self, store: str) -> list[base.Example]:
    """Lists the images writer by writer."""
    self.say_unused(store)
    labels = {character: label for label, character in enumerate(self.classes)}
    return [base.of_file(entry, Path(entry.path).relative_to(self.root).as_posix(), labels[character])
            for character, entry in self._found]


def _is_writer(folder: Path) -> bool:
  """Returns whether a folder holds folders of images, or images that are named as LipiTk's."""
  return (any(files.has_images(folder / name) for name in files.folders(folder))
          or any(files.is_image(entry.name) and TRIAL.fullmatch(Path(entry.name).stem) for entry in files.scan(folder)))
