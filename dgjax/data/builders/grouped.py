"""Data sets with too many domains to name one by one: fonts, writers, speakers.

Here such a domain is called a group. The training loop sees two domains, "seen" (groups for training, and others for
validation) and "unseen" (groups for testing), both in one set of records. A training batch's `domain` is the number of
the group among those trained on, so a method learns about fonts or speakers as it would about photos and sketches.
"""

import abc
from collections.abc import Sequence
from typing import Any

import numpy as np

from dgjax.data.builders import base
from dgjax.data.dataset import SPLITS
from dgjax.errors import UserError


class Grouped(base.Layout):
  """A layout that is split by group. `val_fraction` and `test_fraction` are shares of the groups.

  Attributes:
    groups_noun: what the groups are called, in the plural.
  """

  groups_noun: str
  domains = ("seen", "unseen")
  sources, targets = ("seen",), ("unseen",)
  source_test = False

  def __init__(self, config: Any):
    super().__init__(config)
    base.check_fractions(val_fraction=config.val_fraction, test_fraction=config.test_fraction)

  @abc.abstractmethod
  def group(self, example: base.Example) -> str:
    """Returns the name of an example's group."""

  def store(self, domain: str) -> str:
    """Returns the one set of records there is."""
    return self.groups_noun

  def assign(self, names: list[str], seed: int) -> dict[str, list[str]]:
    """Draws which groups are for training, validation and testing.

    Args:
      names: of all groups, sorted; at least 3.
      seed: of the draw.

    Returns:
      split -> names of its groups, sorted. Shares are rounded to whole groups, and each split has at least one.
    """
    count = len(names)
    shares = {"val": self.config.val_fraction, "test": self.config.test_fraction}
    whole = {split: max(1, round(share * count)) / count for split, share in shares.items()}
    drawn = base.draw_split(count, whole, seed, self.name)
    return {split: [names[i] for i in chosen] for split, chosen in drawn.items()}

  def _assigned(self, examples: Sequence[base.Example], seed: int) -> dict[str, list[str]]:
    names = sorted({self.group(example) for example in examples})
    if len(names) < len(SPLITS):
      raise UserError(f"data set {self.name!r} is split by {self.groups_noun} and has {len(names)} of them: it needs "
                      f"{len(SPLITS)} at least, to train, validate and test on; look into config.data.dir")
    return self.assign(names, seed)

  def groups(self, examples: Sequence[base.Example], seed: int) -> tuple[tuple[str, ...], np.ndarray]:
    """Returns the groups that are trained on, and the number of each example's group among them, or -1."""
    names = self._assigned(examples, seed)["train"]
    numbers = {name: number for number, name in enumerate(names)}
    return tuple(names), np.array([numbers.get(self.group(example), -1) for example in examples], np.int32)

  def split(self, domain: str, examples: Sequence[base.Example], seed: int) -> dict[str, np.ndarray]:
    """Returns the training and validation groups' examples, or the testing groups'."""
    holds = ("train", "val") if domain == "seen" else ("test",)
    split_of = {name: split for split, names in self._assigned(examples, seed).items() for name in names}
    found = [split_of.get(self.group(example)) for example in examples]
    return {split: np.array([i for i, of in enumerate(found) if of == split and split in holds], np.int32)
            for split in SPLITS}

  def split_name(self, seed: int) -> str:
    """Returns the settings the drawn splits depend on."""
    return f"seed{seed}-val{self.config.val_fraction:g}-test{self.config.test_fraction:g}"
