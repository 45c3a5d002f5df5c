"""Handwritten digits in four appearances: real images that come with scikit-learn, nothing to download."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from dgjax.data.builders import base

SIZE = 16
REVISION = 2  # counts changes of the drawing below, so that what an older one prepared is not read


@functools.cache
def strokes() -> tuple[np.ndarray, np.ndarray]:
  """Returns scikit-learn's digits, (1797, 8, 8) float32 in [0, 1], and their labels, (1797,) int32."""
  from sklearn.datasets import load_digits  # here, as it takes a second to import that other data sets need not wait

  digits = load_digits()
  return (digits.images / 16.0).astype(np.float32), digits.target.astype(np.int32)


def _enlarge(stroke: np.ndarray, angle: float = 0.0) -> np.ndarray:
  """Resizes an (8, 8) stroke in [0, 1] to (SIZE, SIZE), turned by `angle` degrees."""
  image = Image.fromarray(stroke * 255.0).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
  if angle:
    image = image.rotate(angle, Image.Resampling.BILINEAR)
  return np.clip(np.asarray(image) / 255.0, 0.0, 1.0)


def _plain(stroke: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """White on black, as scanned."""
  del rng
  return np.repeat(_enlarge(stroke)[..., None], 3, axis=-1)


def _inverted(stroke: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """Dark ink on paper."""
  paper = rng.uniform(0.75, 1.0, 3) + rng.normal(0, 0.03, (SIZE, SIZE, 1))
  return paper * (1.0 - 0.9 * _enlarge(stroke)[..., None])


def _colour(stroke: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """A coloured stroke on a textured background of another colour, light on dark or dark on light."""
  light, dark = rng.uniform(0.6, 1.0, 3), rng.uniform(0.0, 0.4, 3)
  ink, ground = (light, dark) if rng.random() < 0.5 else (dark, light)
  blotches = Image.fromarray(rng.uniform(-0.25, 0.25, (5, 5)).astype(np.float32))
  texture = np.asarray(blotches.resize((SIZE, SIZE), Image.Resampling.BICUBIC))[..., None]
  mask = _enlarge(stroke)[..., None]
  return mask * ink + (1.0 - mask) * (ground + texture)


def _turned(stroke: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """A thick grey stroke, turned by up to 30 degrees, on a dark gradient."""
  thin = np.pad(_enlarge(stroke, rng.uniform(-30.0, 30.0)), (0, 1))
  thick = np.max([thin[y : y + SIZE, x : x + SIZE] for y in range(2) for x in range(2)], axis=0)
  gradient = np.linspace(0.0, 0.4, SIZE)
  ground = gradient[:, None] if rng.random() < 0.5 else gradient[None, :]
  gray = thick * rng.uniform(0.7, 1.0) + (1.0 - thick) * ground
  return np.repeat(gray[..., None], 3, axis=-1)


APPEARANCES: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
  "plain": _plain, "inverted": _inverted, "colour": _colour, "turned": _turned}


class Digits(base.Layout):
  """1,797 digits of 8 x 8 pixels enlarged to 16 x 16, each drawn once in every appearance.

  A digit is in the same split in every domain, so that no digit of a target's test split is ever trained on.

  Source: Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI, 1998 (scikit-learn's `load_digits`).
  """

  name = "digits"
  mean, std = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
  domains = tuple(APPEARANCES)
  classes = tuple("0123456789")
  defaults = {"image_size": SIZE, "augment": "none", "val_fraction": 0.1, "test_fraction": 0.2}  # noqa: RUF012

  def __init__(self, config: Any):
    super().__init__(config)
    base.check_fractions(val_fraction=config.val_fraction, test_fraction=config.test_fraction)

  def examples(self, domain: str) -> list[base.Example]:
    """Lists the digits; their names are their numbers."""
    _, labels = strokes()
    return [base.Example(f"{domain}/{i:04d}", int(label), stamp=REVISION) for i, label in enumerate(labels)]

  def read(self, example: base.Example) -> bytes:
    """Draws one digit in one appearance, always the same way."""
    domain, number = example.name.split("/")
    rng = np.random.default_rng([REVISION, list(APPEARANCES).index(domain), int(number)])
    pixels = APPEARANCES[domain](strokes()[0][int(number)], rng)
    return base.encode_png((np.clip(pixels, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8))

  def split(self, domain: str, examples: Sequence[base.Example], seed: int) -> dict[str, np.ndarray]:
    """Draws which digits are for training, the same for every domain."""
    fractions = {"val": self.config.val_fraction, "test": self.config.test_fraction}
    return base.draw_split(len(examples), fractions, seed, self.name)

  def split_name(self, seed: int) -> str:
    """Returns the settings the drawn splits depend on."""
    return f"seed{seed}-val{self.config.val_fraction:g}-test{self.config.test_fraction:g}"
