"""Digits turned by six angles: rotated MNIST, and an embedded twin."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from dgjax.data.builders import base, mnist
from dgjax.errors import UserError, nearest

REVISION = 1  # counts changes of the drawing and of the choice of digits below
ANGLES = {f"M{angle}": angle for angle in range(0, 90, 15)}
IMAGES = ("ghifary", "full")
PER_CLASS = 100


class Rotated(mnist.Parts):
  """Digits for training, turned counter-clockwise about the centre; a domain is an angle.

  Settings: `images`: which digits a domain has: "ghifary": the same 100 digits of each class, chosen once and for all,
  at every angle; "full": all digits, dealt out over the angles (number n goes to angle n mod 6), so that no digit is at
  two of them. `image_size`: height and width in pixels, 16 in the papers with "ghifary"; "full" is meant for 28.

  A share of `val_fraction` of the digits of a domain, the same ones in every domain, is held out for validation. A
  target is scored on all its digits. Under "ghifary" the same digits were trained on at other angles, as in the papers.

  Source: Ghifary et al., "Domain Generalization for Object Recognition with Multi-task Autoencoders", ICCV 2015;
  CrossGrad, Section 4.
  """

  domains = tuple(ANGLES)
  source_test = False
  channels = 1
  mean, std = (0.0,), (1.0,)
  defaults = {"image_size": 16, "augment": "none", "val_fraction": 0.1, "images": "ghifary"}  # noqa: RUF012

  def __init__(self, config: Any):
    super().__init__(config)
    if config.images not in IMAGES:
      raise UserError(f"unknown config.data.images {config.images!r}{nearest(config.images, IMAGES)}")
    base.check_fractions(val_fraction=config.val_fraction)

  def _numbers(self, domain: str, labels: np.ndarray) -> np.ndarray:
    """Returns which digits a domain has, in order."""
    if self.config.images == "full":
      return np.arange(self.domains.index(domain), len(labels), len(self.domains))
    order = np.random.default_rng(REVISION).permutation(len(labels))
    return np.sort(np.concatenate([order[labels[order] == label][:PER_CLASS] for label in range(len(self.classes))]))

  def examples(self, store: str) -> list[base.Example]:
    """Lists a domain's digits by number."""
    labels, stamp = self.labels("train"), self.stamp("train")
    return [base.Example(f"{store}/{i:05d}", int(labels[i]), stamp=stamp) for i in self._numbers(store, labels)]

  def recipe(self) -> str:
    """Returns the revision of the drawing, and the size: digits are turned at 28 pixels and then resized."""
    return f"revision {REVISION}, {self.config.image_size} pixels"

  def read(self, example: base.Example) -> bytes:
    """Turns one digit."""
    domain, number = example.name.split("/")
    image = Image.fromarray(self.images("train")[int(number)]).rotate(ANGLES[domain], Image.Resampling.BICUBIC)
    side = self.config.image_size
    return base.encode_png(np.asarray(image.resize((side, side), Image.Resampling.BILINEAR)))

  def split(self, domain: str, examples: Sequence[base.Example], seed: int) -> dict[str, np.ndarray]:
    """Draws which digits are held out; all of them are a target's test split."""
    drawn = base.draw_split(len(examples), {"val": self.config.val_fraction}, seed, self.name)
    return drawn | {"test": np.arange(len(examples), dtype=np.int32)}

  def split_name(self, seed: int) -> str:
    """Returns the settings the drawn splits depend on."""
    return f"seed{seed}-val{self.config.val_fraction:g}"


class RotatedMnist(Rotated, mnist.Mnist):
  """Rotated MNIST."""

  name = "rotated_mnist"


class RotatedDigits(Rotated, mnist.Embedded):
  """Scikit-learn's digits turned as rotated MNIST's."""

  name = "rotated_digits"
