"""Image transforms on Pillow images: what the papers train and evaluate with, at any resolution.

Randomness comes from an explicit generator alone, drawn in a fixed order.
"""

import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance

from dgjax.errors import UserError, nearest

Augmentation = Callable[[Image.Image, int, np.random.Generator], Image.Image]


def resize(image: Image.Image, size: int) -> Image.Image:
  """Resizes to exactly (size, size), bilinear with antialiasing, whatever the aspect; what evaluation does.

  Args:
    image: mode RGB or L.
    size: pixels per side.

  Returns:
    The image, itself where it has that size.

  Source: DMG, released evaluation transform.
  """
  return image if image.size == (size, size) else image.resize((size, size), Image.Resampling.BILINEAR)


def resize_array(pixels: np.ndarray, size: int) -> np.ndarray:
  """Resizes pixels (h, w, c) uint8, c being 1 or 3, to (size, size, c), as `resize` does."""
  image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
  return np.asarray(resize(image, size)).reshape(size, size, -1)


def enlarged(size: int) -> int:
  """Returns 256/224 of the size: what images are resized to where a crop of the size is then taken."""
  return round(size * 256 / 224)


def centre(image: Image.Image, size: int) -> Image.Image:
  """Resizes to 256/224 of the size, whatever the aspect, and takes the centre of the size.

  Args:
    image: mode RGB or L.
    size: pixels per side of the result.

  Returns:
    The crop; where a side is odd, the middle is rounded down.

  Source: Transfer-Learning-Library's evaluation on Office-31 and VisDA-2017, on which wemnet.txt seems to build.
  """
  offset = (enlarged(size) - size) // 2
  return resize(image, enlarged(size)).crop((offset, offset, offset + size, offset + size))


def random_resized_crop(
    image: Image.Image, size: int, rng: np.random.Generator, scale: tuple[float, float] = (0.8, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3)) -> Image.Image:
  """Crops a box of random area and aspect at a random place and resizes it to (size, size).

  Args:
    image: mode RGB or L.
    size: pixels per side of the result.
    rng: drawn from.
    scale: range of the box's area as a share of the image's, uniform.
    ratio: range of width / height, uniform in its logarithm.

  Returns:
    The crop. Where ten draws fit no box, the largest centred one whose aspect is in range.
  """
  width, height = image.size
  for _ in range(10):
    area = width * height * rng.uniform(*scale)
    aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
    w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
    if 0 < w <= width and 0 < h <= height:
      left, top = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
      break
  else:
    w, h = min(width, round(height * ratio[1])), min(height, round(width / ratio[0]))
    left, top = (width - w) // 2, (height - h) // 2
  # crop, then resize: resize(box=...) would let pixels beyond the box bleed in
  return resize(image.crop((left, top, left + w, top + h)), size)


def random_flip(image: Image.Image, rng: np.random.Generator) -> Image.Image:
  """Mirrors left to right with probability 0.5."""
  return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else image


def shift_hue(image: Image.Image, amount: float) -> Image.Image:
  """Turns the hue of an RGB image.

  Args:
    image: mode RGB; any other is returned as it is.
    amount: in turns of the colour circle, [-0.5, 0.5].

  Returns:
    The image, through 8-bit HSV.
  """
  if image.mode != "RGB":
    return image
  hue, saturation, value = image.convert("HSV").split()
  turn = int(amount * 255)
  hue = hue.point([(level + turn) % 256 for level in range(256)])
  return Image.merge("HSV", (hue, saturation, value)).convert("RGB")


def color_jitter(
    image: Image.Image, rng: np.random.Generator, brightness: float = 0.4, contrast: float = 0.4,
    saturation: float = 0.4, hue: float = 0.4) -> Image.Image:
  """Changes brightness, contrast, saturation and hue by random amounts, in random order.

  Args:
    image: mode RGB or L (which has neither saturation nor hue).
    rng: drawn from.
    brightness, contrast, saturation: each factor is uniform in [1 - x, 1 + x].
    hue: the turn is uniform in [-hue, hue].

  Returns:
    The changed image.
  """
  order = rng.permutation(4)
  factors = 1.0 + rng.uniform(-1.0, 1.0, 3) * (brightness, contrast, saturation)
  turn = rng.uniform(-hue, hue)
  for operation in order:
    if operation == 0:
      image = ImageEnhance.Brightness(image).enhance(factors[0])
    elif operation == 1:
      image = ImageEnhance.Contrast(image).enhance(factors[1])
    elif operation == 2:
      image = ImageEnhance.Color(image).enhance(factors[2])
    else:
      image = shift_hue(image, turn)
  return image


def paper(image: Image.Image, size: int, rng: np.random.Generator) -> Image.Image:
  """Random resized crop of 80 to 100 % of the area, flip, colour jitter of 0.4 each.

  Source: DMG, Section 4 and released code (PACS).
  """
  return color_jitter(random_flip(random_resized_crop(image, size, rng), rng), rng)


def domainnet(image: Image.Image, size: int, rng: np.random.Generator) -> Image.Image:
  """Resizes to 256/224 of the size, takes a random crop of the size, and flips.

  Source: DMG, released code (DomainNet).
  """
  larger = enlarged(size)
  left, top = (int(offset) for offset in rng.integers(larger - size + 1, size=2))
  return random_flip(resize(image, larger).crop((left, top, left + size, top + size)), rng)


def office(image: Image.Image, size: int, rng: np.random.Generator) -> Image.Image:
  """Resizes to 256/224 of the size, crops a box of 8 to 100 % of the area, resizes that to the size, and flips.

  Source: Transfer-Learning-Library's default for Office-31, on which wemnet.txt seems to build.
  """
  return random_flip(random_resized_crop(resize(image, enlarged(size)), size, rng, scale=(0.08, 1.0)), rng)


def visda(image: Image.Image, size: int, rng: np.random.Generator) -> Image.Image:
  """Resizes to 256/224 of the size, takes the centre of the size, and flips.

  Source: Transfer-Learning-Library's setting for VisDA-2017, on which wemnet.txt seems to build.
  """
  return random_flip(centre(image, size), rng)


def none(image: Image.Image, size: int, rng: np.random.Generator) -> Image.Image:
  """Only resizes."""
  del rng
  return resize(image, size)


AUGMENTATIONS: dict[str, Augmentation] = {
  "paper": paper, "domainnet": domainnet, "office": office, "visda": visda, "none": none}


def find(name: str) -> Augmentation:
  """Returns an augmentation by name, and raises a UserError that names the nearest one where there is none."""
  if name not in AUGMENTATIONS:
    raise UserError(f"unknown augmentation {name!r} in config.data.augment{nearest(name, AUGMENTATIONS)}")
  return AUGMENTATIONS[name]
