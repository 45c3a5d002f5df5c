"""DomainNet: six domains, 345 classes; official train and test lists, validation drawn from train."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dgjax.data.builders import base, lists


class DomainNet(lists.Lists):
  """DomainNet with its official lists.

  Settings: `val_fraction`: share of each train list that is drawn by the seed and held out; 0: all of it is trained on
  and there is no validation; `centre_crop`: whether evaluation resizes the shorter side to 256/224 of the size and
  takes the centre (DRT), instead of resizing the whole image to the size, whatever its aspect (DMG).

  Source: Peng et al., "Moment Matching for Multi-Source Domain Adaptation", ICCV 2019; the released code of DMG and
    of DRT.
  """

  name = "domainnet"
  looks_like = "DOMAIN/CLASS/* and the official lists (in splits/ or beside the domains)"
  lists = {"train": "{}_train.txt", "test": "{}_test.txt"}  # noqa: RUF012
  keep_aspect = True
  defaults = {"image_size": 224, "augment": "domainnet", "val_fraction": 0.1, "centre_crop": False}  # noqa: RUF012

  def __init__(self, config: Any):
    super().__init__(config)
    base.check_fractions(val_fraction=config.val_fraction)
    self.centre_crop = config.centre_crop

  def split(self, domain: str, examples: Sequence[base.Example], seed: int) -> dict[str, np.ndarray]:
    """Returns the official test split, and the official train split with a share drawn for validation."""
    official = {split: np.array([i for i, example in enumerate(examples) if split in example.splits], np.int32)
                for split in self.lists}
    drawn = base.draw_split(len(official["train"]), {"val": self.config.val_fraction}, seed, domain)
    train = official.pop("train")
    return {split: train[chosen] for split, chosen in drawn.items()} | official

  def split_name(self, seed: int) -> str:
    """Returns the settings the drawn validation split depends on."""
    return f"official-seed{seed}-val{self.config.val_fraction:g}"
