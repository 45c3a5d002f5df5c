"""Synthetic numbers rendered from fonts, in colours, after Ganin's Syn Numbers."""

import functools
import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from dgjax.data.builders import base, fonts
from dgjax.data.builders.forms import PARTS, Form, crc

REVISION = 1  # counts changes of the drawing below
DIGITS = "0123456789"
RUN = 10  # images in a row, one of each class, of one font: opening it takes longer than drawing
# The magnitudes are ours, as the paper has none.
ROTATION, SCALE, SHIFT = 20.0, (0.8, 1.3), 0.08  # degrees; factor; share of the side
BLUR, NOISE, CONTRAST = 1.0, 10.0, 60.0  # pixels; levels; least difference in level of ink and ground


@functools.cache
def usable() -> tuple[Path, ...]:
  """Returns the fonts that come with matplotlib and have digits, sorted."""
  return tuple(path for path in sorted(fonts.bundled().glob("*.ttf")) if not fonts.lacking(path, DIGITS))


def draw(font: ImageFont.FreeTypeFont, digit: str, rng: np.random.Generator) -> np.ndarray:
  """Draws a digit in the middle, with neighbours cut off at the sides or none, in random colours.

  Args:
    font: as `fonts.scaled` opens it.
    digit: to draw.
    rng: drawn from.

  Returns:
    (32, 32, 3) uint8.

  Source: Ganin et al., "Domain-Adversarial Training of Neural Networks", JMLR 2016, Section 5.2.3: numbers of one to
    three digits, varied in position, orientation, colours of background and strokes, and blur.
  """
  before, after = (DIGITS[rng.integers(10)] if rng.random() < 0.5 else "" for _ in range(2))
  side = fonts.SIZE * fonts.OVERSAMPLING
  canvas = Image.new("L", (2 * side, 2 * side))
  left, top, right, bottom = font.getbbox(digit)
  corner = side - (left + right) / 2 - font.getlength(before), side - (top + bottom) / 2
  ImageDraw.Draw(canvas).text(corner, before + digit + after, fill=255, font=font)

  angle, scale = math.radians(rng.uniform(-ROTATION, ROTATION)), rng.uniform(*SCALE)
  across, down = side / 2 + side * rng.uniform(-SHIFT, SHIFT, 2)  # where the canvas's middle comes to lie
  cos, sin = math.cos(angle) / scale, math.sin(angle) / scale
  matrix = (cos, sin, side - cos * across - sin * down, -sin, cos, side + sin * across - cos * down)
  turned = canvas.transform((side, side), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
  mask = turned.reduce(fonts.OVERSAMPLING).filter(ImageFilter.GaussianBlur(rng.uniform(0.0, BLUR)))

  ink, ground = rng.uniform(0.0, 255.0, (2, 3))
  while abs(ink.mean() - ground.mean()) < CONTRAST:
    ink, ground = rng.uniform(0.0, 255.0, (2, 3))
  share = np.asarray(mask)[..., None] / 255.0
  pixels = share * ink + (1.0 - share) * ground + rng.normal(0.0, rng.uniform(0.0, NOISE), (fonts.SIZE, fonts.SIZE, 3))
  return np.clip(pixels + 0.5, 0.0, 255.0).astype(np.uint8)


class Rendered(Form):
  """Rendered digits, each of which its part and number decide; classes take turns."""

  def __init__(self, counts: tuple[int, int]):
    """
    Args:
      counts: images to train on and to test on.
    """
    super().__init__()
    self.counts, self.what = dict(zip(PARTS, counts, strict=True)), "digits rendered from matplotlib's fonts"

  def labels(self, part: str) -> np.ndarray:
    """Returns the labels of a part."""
    return (np.arange(self.counts[part]) % len(DIGITS)).astype(np.uint8)

  def encoded(self, part: str, number: int) -> bytes:
    """Draws one image."""
    font = fonts.scaled(usable()[number // RUN % len(usable())], DIGITS)
    rng = np.random.default_rng([REVISION, PARTS.index(part), number])
    return base.encode_png(draw(font, DIGITS[number % len(DIGITS)], rng))

  def stamp(self) -> int:
    """Returns what changes with the drawing or the fonts."""
    return crc(REVISION, [(path.name, path.stat().st_size) for path in usable()])
