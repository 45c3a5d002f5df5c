"""Handwritten characters, split by writer: ROOT/WRITER/CHARACTER/* or LipiTk's ROOT/WRITER/CHARACTERtTRIAL.*."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dgjax.data.builders import base
from dgjax.data.builders.folder import folders, images
from dgjax.data.builders.grouped import Grouped
from dgjax.errors import UserError

TRIAL = re.compile(r"(?P<character>.+)t\d+", re.IGNORECASE)  # LipiTk: 017t02 is the second trial of character 017


class Handwriting(Grouped, base.RootedLayout):
  """Images of characters in a folder for each writer; a writer is a domain.

  In a writer's folder, images lie in a folder for each character, or as LipiTk's images do, all together under names
  such as `017t02.tiff`, character and trial. Files of pen strokes (LipiTk's `.txt`) are not read. A writer need not
  have written every character. The defaults split writers as the paper does, 60 % for training, 25 % for testing, 15 %
  for validation.

  Source: crossgrad.txt, Section 4 (LipiTk's Devanagari characters).
  """

  name = "handwriting"
  groups_noun = "writers"
  looks_like = "WRITER/CHARACTER/* or LipiTk's WRITER/CHARACTERtTRIAL.* (images)"
  channels = 1
  mean = std = (128 / 255,)
  defaults = {"image_size": 32, "augment": "none", "val_fraction": 0.15, "test_fraction": 0.25}  # noqa: RUF012

  def __init__(self, config: Any):
    super().__init__(config)
    self._found = [found for writer in folders(self.root) for found in self._writer(self.root / writer)]
    if not self._found:
      raise UserError(f"no image in {self.root}: config.data.dir must be the folder that holds {self.looks_like}")
    self.classes = tuple(sorted({character for character, _ in self._found}))

  def _writer(self, folder: Path) -> Iterator[tuple[str, Path]]:
    """Yields the character and the path of each of a writer's images, by name."""
    count = 0
    for entry in sorted(images(folder), key=lambda entry: entry.name):
      count += 1
      if match := TRIAL.fullmatch(Path(entry.name).stem):
        yield match["character"], Path(entry.path)
      else:
        self.problem(self.groups_noun, f"{folder.name}/{entry.name}",
                     f"{entry.path} is in no character's folder and its name is not CHARACTERtTRIAL, as in 017t02",
                     "put it into a folder named by its character")
    for character in folders(folder):
      for entry in sorted(images(folder / character), key=lambda entry: entry.name):
        count += 1
        yield character, Path(entry.path)
    if not count:
      strokes = " but .txt files, and pen strokes are not read" if any(folder.glob("*.txt")) else ""
      self.problem(self.groups_noun, folder.name, f"writer's folder {folder} holds no images{strokes}",
                   "put images there or remove the folder")

  def group(self, example: base.Example) -> str:
    """Returns the writer's folder."""
    return example.name.split("/", 1)[0]

  def examples(self, store: str) -> list[base.Example]:
    """Lists the images writer by writer."""
    del store
    labels = {character: label for label, character in enumerate(self.classes)}
    listed = []
    for character, path in self._found:
      stat = path.stat()
      name = path.relative_to(self.root).as_posix()
      listed.append(base.Example(name, labels[character], stat.st_size, stat.st_mtime_ns))
    return listed
