"""PACS: photo, art painting, cartoon, sketch; seven classes; official split lists."""

from collections.abc import Sequence

import numpy as np

from dgjax.data.builders import base, lists


class Pacs(lists.Lists):
  """PACS with its official lists; a target is scored on all of its images.

  Source: Li et al., "Deeper, Broader and Artier Domain Generalization", ICCV 2017.
  """

  name = "pacs"
  looks_like = "DOMAIN/CLASS/* and the official lists (in splits/)"
  lists = {"train": "{}_train_kfold.txt", "val": "{}_crossval_kfold.txt", "test": "{}_test_kfold.txt"}  # noqa: RUF012
  first_label = 1
  source_test = False
  defaults = {"image_size": 224, "augment": "paper"}  # noqa: RUF012

  def split(self, domain: str, examples: Sequence[base.Example], seed: int) -> dict[str, np.ndarray]:
    """Returns the official splits."""
    return {split: np.array([i for i, example in enumerate(examples) if split in example.splits], np.int32)
            for split in self.lists}

  def split_name(self, seed: int) -> str:
    """Returns that nothing was drawn."""
    return "official"
