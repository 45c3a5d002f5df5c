"""Transforms of Pillow images on the host: resizing and cropping, at any resolution.

Flips and colours are changed on the device (`augment`). All randomness comes from an explicit generator, in a fixed
order.
"""

import math

import numpy as np
from PIL import Image

TRIES = 10  # to draw a box that fits


def resize(image: Image.Image, size: int) -> Image.Image:
  """Resizes to exactly (size, size), bilinear with antialiasing, whatever the aspect, as evaluation does.

  Args:
    image: mode RGB or L.
    size: pixels per side.

  Returns:
    The image, itself where it has that size.

  Source: DMG, released evaluation transform.
  """
  return image if image.size == (size, size) else image.resize((size, size), Image.Resampling.BILINEAR)


def enlarged(size: int) -> int:
  """Returns 256/224 of the size. Images are resized to this before a crop of the size is taken."""
  return round(size * 256 / 224)


def enlarge(image: Image.Image, size: int) -> Image.Image:
  """Resizes to 256/224 of the size, whatever the aspect."""
  return resize(image, enlarged(size))


def centre(image: Image.Image, size: int) -> Image.Image:
  """Resizes to 256/224 of the size, whatever the aspect, and takes the centre of the size.

  Args:
    image: mode RGB or L.
    size: pixels per side of the result.

  Returns:
    The crop; where a side is odd, the middle is rounded down.

  Source: Transfer-Learning-Library's evaluation on Office-31 and VisDA-2017, on which WEMNet seems to build.
  """
  offset = (enlarged(size) - size) // 2
  return enlarge(image, size).crop((offset, offset, offset + size, offset + size))


def shortened(sides: tuple[int, int], size: int) -> tuple[int, int]:
  """Returns width and height of an image whose shorter side becomes 256/224 of the size, its aspect kept.

  The longer side is rounded down, as torchvision does.
  """
  shorter, target = min(sides), enlarged(size)
  width, height = (target * side // shorter for side in sides)
  return width, height


def shorten(image: Image.Image, size: int) -> Image.Image:
  """Resizes the shorter side to 256/224 of the size, bilinear with antialiasing, and the longer one along with it."""
  sides = shortened(image.size, size)
  return image if image.size == sides else image.resize(sides, Image.Resampling.BILINEAR)


def centre_of_shortened(image: Image.Image, size: int) -> Image.Image:
  """Resizes the shorter side to 256/224 of the size, keeping the aspect, and takes the centre of the size.

  Args:
    image: mode RGB or L.
    size: pixels per side of the result.

  Returns:
    The crop; where a side is odd, the middle is rounded to even, as torchvision does.

  Source: DRT, released evaluation transform.
  """
  image = shorten(image, size)
  left, top = (round((side - size) / 2) for side in image.size)
  return image.crop((left, top, left + size, top + size))


def fit(image: Image.Image | np.ndarray, size: int, centre_crop: bool,
        keep_aspect: bool = False) -> Image.Image | np.ndarray:
  """Brings an image into the form that evaluation sees. An array stays as it is.

  Args:
    image: mode RGB or L, or an array.
    size: pixels per side of the result.
    centre_crop: whether evaluation sees the centre of an image instead of the whole image.
    keep_aspect: whether the centre is taken after `shorten`, instead of `enlarge`.
  """
  if isinstance(image, np.ndarray):
    return image
  if not centre_crop:
    return resize(image, size)
  return centre_of_shortened(image, size) if keep_aspect else centre(image, size)


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
  for _ in range(TRIES):
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


def random_crop(image: Image.Image, size: int, rng: np.random.Generator) -> Image.Image:
  """Takes a square of (size, size) at a random place.

  Args:
    image: mode RGB or L; both sides are at least `size`.
    size: pixels per side of the result.
    rng: drawn from.
  """
  left, top = (int(rng.integers(side - size + 1)) for side in image.size)
  return image.crop((left, top, left + size, top + size))


def random_crop_of_shortened(image: Image.Image, size: int, rng: np.random.Generator) -> Image.Image:
  """Resizes the shorter side to 256/224 of the size, keeping the aspect, and takes a square at a random place.

  Args:
    image: mode RGB or L.
    size: pixels per side of the result.
    rng: drawn from.

  Source: DRT, released training transform.
  """
  return random_crop(shorten(image, size), size, rng)
