"""Augmentation of training images, on the host and on the device.

If images are streamed, the host decodes and crops them. Flips and colours are pure functions of one image and one key,
and so is the crop if images stay on the device (`resident`). The caller jits and vmaps them; `on_device` augments a
batch. Keys depend on (seed, epoch, domain, example) alone, so an example's augmentation does not depend on batch,
device, process or restart.

Images on the device are (h, w, c), uint8, or float32 in [0, 1] once values are mixed. Unlike in Pillow, nothing is
rounded to 8 bits between operations.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from dgjax.data import transforms
from dgjax.errors import UserError, nearest

GREY = (0.299, 0.587, 0.114)  # ITU-R 601, as Pillow's
CROP, FLIP, COLORS = range(3)  # folded into an example's key, one for each operation


def example_key(words: jax.Array) -> jax.Array:
  """Returns the key of one example in one epoch.

  Args:
    words: (4,) uint32: seed, epoch, domain, example (`pipeline.TrainStream`).

  Returns:
    A typed key. Its generator is fixed, because keys of other generators may depend on what they are mapped with.
  """
  key = jax.random.key(words[0], impl="threefry2x32")
  for number in range(1, 4):
    key = jax.random.fold_in(key, words[number])
  return key


def as_float(image: jax.Array) -> jax.Array:
  """Returns a uint8 image as float32 in [0, 1], and any other as it is."""
  return image.astype(jnp.float32) / 255 if image.dtype == jnp.uint8 else image


def random_flip(key: jax.Array, image: jax.Array) -> jax.Array:
  """Mirrors an image left to right with probability 0.5."""
  return jnp.where(jax.random.bernoulli(key), image[:, ::-1], image)


def random_crop(key: jax.Array, image: jax.Array, sides: jax.Array, size: int) -> jax.Array:
  """Takes a square at a random place.

  Args:
    key: drawn from.
    image: (h, w, c) uint8 or float32.
    sides: unused: the image lies on the device in its own size.
    size: of the square, at most h and w.

  Returns:
    (size, size, c) of the image's dtype.
  """
  del sides
  limits = jnp.array([image.shape[0] - size + 1, image.shape[1] - size + 1])
  top, left = jax.random.randint(key, (2,), 0, limits)
  return jax.lax.dynamic_slice(image, (top, left, 0), (size, size, image.shape[2]))


def random_crop_of_shortened(key: jax.Array, image: jax.Array, sides: jax.Array, size: int) -> jax.Array:
  """Takes a square at a random place of an image whose aspect is kept; see `transforms.random_crop_of_shortened`.

  Args:
    key: drawn from.
    image: (h, w, c) uint8 or float32.
    sides: (2,) int32, width and height that the image had before it was resized to w and h.
    size: pixels per side of the result.

  Returns:
    (size, size, c) float32.
  """
  shortened = transforms.enlarged(size) * sides // sides.min()
  place = jax.random.randint(key, (2,), 0, shortened - size + 1)
  box = jnp.concatenate([place, jnp.full(2, size)])
  return resample(image, box * jnp.tile(jnp.array([image.shape[1], image.shape[0]]) / shortened, 2), size)


def random_resized_crop(key: jax.Array, image: jax.Array, sides: jax.Array, size: int,
                        scale: tuple[float, float] = (0.8, 1.0)) -> jax.Array:
  """Crops a box of random area and aspect at a random place and resizes it; see `transforms.random_resized_crop`.

  Args:
    key: drawn from.
    image: (h, w, c) uint8 or float32.
    sides: (2,) int32, width and height that the image had before it was resized to w and h; the box is drawn in these.
    size: pixels per side of the result.
    scale: range of the box's area as a share of the image's, uniform.

  Returns:
    (size, size, c) float32.
  """
  shrunk = jnp.array([image.shape[1], image.shape[0]]) / sides
  return resample(image, draw_box(key, sides, scale) * jnp.tile(shrunk, 2), size)


def draw_box(key: jax.Array, sides: jax.Array, scale: tuple[float, float],
             ratio: tuple[float, float] = (3 / 4, 4 / 3)) -> jax.Array:
  """Draws the box of a random resized crop.

  Args:
    key: drawn from.
    sides: (2,) int32, the image's width and height.
    scale: range of the box's area as a share of the image's, uniform.
    ratio: range of width / height, uniform in its logarithm.

  Returns:
    (4,) float32, whole numbers: left, top, width, height. Where all draws fit no box, the largest centred one whose
    aspect is in range.
  """
  drawn = jax.random.uniform(key, (2 * transforms.TRIES + 2,))
  width, height = sides[0].astype(jnp.float32), sides[1].astype(jnp.float32)
  area = width * height * (scale[0] + (scale[1] - scale[0]) * drawn[2::2])
  aspect = jnp.exp(math.log(ratio[0]) + math.log(ratio[1] / ratio[0]) * drawn[3::2])
  w, h = jnp.round(jnp.sqrt(area * aspect)), jnp.round(jnp.sqrt(area / aspect))
  fits = (w > 0) & (w <= width) & (h > 0) & (h <= height)
  first, found = fits.argmax(), fits.any()
  w = jnp.where(found, w[first], jnp.minimum(width, jnp.round(height * ratio[1])))
  h = jnp.where(found, h[first], jnp.minimum(height, jnp.round(width / ratio[0])))
  left = jnp.floor(jnp.where(found, drawn[0] * (width - w + 1), (width - w) / 2))
  top = jnp.floor(jnp.where(found, drawn[1] * (height - h + 1), (height - h) / 2))
  return jnp.stack([left, top, w, h])


def resample(image: jax.Array, box: jax.Array, size: int) -> jax.Array:
  """Resizes a box of an image, bilinear with antialiasing, as Pillow does: as a product of matrices for each side.

  Args:
    image: (h, w, c) uint8 or float32.
    box: (4,) left, top, width, height, in pixels; nothing beyond it is seen.
    size: pixels per side of the result.

  Returns:
    (size, size, c) float32.
  """
  left, top, width, height = box
  rows, columns = _weights(top, height, size, image.shape[0]), _weights(left, width, size, image.shape[1])
  return jnp.einsum("ph,hwc,qw->pqc", rows, as_float(image), columns, precision=jax.lax.Precision.HIGHEST)


def _weights(start: jax.Array, length: jax.Array, size: int, side: int) -> jax.Array:
  """Returns (size, side): the share of each pixel of a side in each pixel that [start, start + length) becomes."""
  step = length / size
  centres = start + (jnp.arange(size) + 0.5) * step
  pixels = jnp.arange(side) + 0.5
  triangle = jnp.maximum(0, 1 - jnp.abs(pixels[None] - centres[:, None]) / jnp.maximum(step, 1))
  inside = jnp.abs(pixels - start - length / 2) <= jnp.maximum(length, 1) / 2
  triangle = triangle * inside[None]
  return triangle / triangle.sum(1, keepdims=True)


def grey(image: jax.Array) -> jax.Array:
  """Returns the (h, w, 1) brightness of a float32 image of three channels or one."""
  if image.shape[-1] == 1:
    return image
  red, green, blue = (image[..., channel : channel + 1] for channel in range(3))
  return GREY[0] * red + GREY[1] * green + GREY[2] * blue


def blend(image: jax.Array, other: jax.Array | float, share: jax.Array) -> jax.Array:
  """Returns share * image + (1 - share) * other, kept in [0, 1]; a share of 1 leaves the image as it is."""
  return jnp.clip(share * image + (1 - share) * other, 0, 1)


def shift_hue(image: jax.Array, amount: jax.Array) -> jax.Array:
  """Turns the hue of an RGB image, with HSV's saturation and value left as they are.

  Args:
    image: (h, w, 3) float32 in [0, 1]; an image of one channel is returned as it is.
    amount: in turns of the colour circle, [-1, 1].

  Returns:
    (h, w, 3) float32.
  """
  if image.shape[-1] == 1:
    return image
  red, green, blue = image[..., 0], image[..., 1], image[..., 2]
  value = jnp.maximum(jnp.maximum(red, green), blue)
  chroma = value - jnp.minimum(jnp.minimum(red, green), blue)
  inverse = 1 / jnp.where(chroma > 0, chroma, 1)
  # In sixths of a turn. Not `value == red`: XLA may compute either anew, and round it differently
  hue = 6 * amount + jnp.where(
    (red >= green) & (red >= blue), (green - blue) * inverse,
    jnp.where(green >= blue, 2 + (blue - red) * inverse, 4 + (red - green) * inverse))

  def channel(centre: int) -> jax.Array:
    away = hue - centre
    away = jnp.abs(away - 6 * jnp.round(away / 6))  # around the circle; `%` would not be vectorised on a CPU
    return value - chroma * jnp.clip(2 - away, 0, 1)

  return jnp.stack([channel(3), channel(-1), channel(1)], axis=-1)


def color_jitter(key: jax.Array, image: jax.Array, strength: float = 0.4) -> jax.Array:
  """Changes brightness, contrast, saturation and hue by random amounts, in random order; see `draw_jitter`, `adjust`.

  Args:
    key: drawn from.
    image: (h, w, c) uint8 or float32 in [0, 1]; with one channel it has neither saturation nor hue.
    strength: of each.

  Returns:
    (h, w, c) float32 in [0, 1].
  """
  return adjust(image, *draw_jitter(key, strength))


def draw_jitter(key: jax.Array, strength: float) -> tuple[jax.Array, jax.Array]:
  """Draws the order and the amounts of a colour jitter.

  Args:
    key: drawn from.
    strength: factors are uniform in [1 - strength, 1 + strength], the turn of hue in [-strength, strength].

  Returns:
    `place` and `amounts` of `adjust`.
  """
  drawn = jax.random.uniform(key, (2, 4))
  return drawn[0].argsort(), jnp.array([1.0, 1.0, 1.0, 0.0]) + strength * (2 * drawn[1] - 1)


def adjust(image: jax.Array, place: jax.Array, amounts: jax.Array) -> jax.Array:
  """Changes brightness, contrast, saturation and hue in a given order.

  The order differs from image to image, and one program serves all orders. Trying each of the four operations at each
  of four places would take 16 operations. Here the hue is turned once, between two rounds of the others, and within a
  round contrast, which needs a mean over the image, is changed once. Brightness and saturation blend each pixel with
  black or with its grey. Each can come before or after contrast and hue; at a place that is not its own it blends with
  a share of 1, which changes nothing.

  Args:
    image: (h, w, c) uint8 or float32 in [0, 1].
    place: (4,) int, a permutation: when brightness, contrast, saturation and hue each have their turn.
    amounts: (4,) float32: three factors, at least 0, and the turn of hue.

  Returns:
    (h, w, c) float32 in [0, 1].
  """
  image = as_float(image)
  bright, contrast, saturate, hue = (place[number] for number in range(4))
  bright_first = bright < saturate
  pair = ((jnp.minimum(bright, saturate), bright_first), (jnp.maximum(bright, saturate), ~bright_first))

  def blend_points(image: jax.Array, after_hue: bool, after_contrast: bool) -> jax.Array:
    """Changes brightness and saturation if it is their turn."""
    for turn, is_bright in pair:
      here = ((turn > hue) == after_hue) & ((turn > contrast) == after_contrast)
      factor = jnp.where(here, jnp.where(is_bright, amounts[0], amounts[2]), 1)
      image = blend(image, jnp.where(is_bright, 0, grey(image)), factor)
    return image

  def blend_mean(image: jax.Array, here: jax.Array) -> jax.Array:
    """Changes contrast, if it is its turn."""
    return blend(image, grey(image).mean(), jnp.where(here, amounts[1], 1))

  image = blend_points(image, after_hue=False, after_contrast=False)
  image = blend_mean(image, contrast < hue)
  image = blend_points(image, after_hue=False, after_contrast=True)
  image = shift_hue(image, amounts[3])
  image = blend_points(image, after_hue=True, after_contrast=False)
  image = blend_mean(image, contrast > hue)
  return blend_points(image, after_hue=True, after_contrast=True)


HostCrop = Callable[[Image.Image, int, np.random.Generator], Image.Image]
DeviceCrop = Callable[[jax.Array, jax.Array, jax.Array, int], jax.Array]


@dataclasses.dataclass(frozen=True)
class Augmentation:
  """What happens to a training image, in the order of these attributes.

  Attributes:
    prepare: deterministic function on the host from an image and a size to an image. None: the image is cropped as it
      is.
    host_crop: function from an image, a size and a generator to an image of that size, if images are streamed. None:
      `prepare` makes an image of the size.
    device_crop: the same if images stay on the device; see `random_resized_crop`.
    flip: whether images are mirrored at random, on the device.
    colors: whether `color_jitter` changes them, on the device.
    enough: a multiple of the size. A JPEG may be decoded at a half, a quarter or an eighth of its sides, which is
      faster, as long as they do not become smaller than that. None: it is always decoded whole.
  """

  prepare: Callable[[Image.Image, int], Image.Image] | None = None
  host_crop: HostCrop | None = None
  device_crop: DeviceCrop | None = None
  flip: bool = False
  colors: bool = False
  enough: float | None = None

  @property
  def needs_key(self) -> bool:
    """Whether the device's part is random even if images are streamed."""
    return self.flip or self.colors

  def smallest(self, size: int) -> int | None:
    """Returns the sides at which an image may be decoded; None: its own."""
    return math.ceil(self.enough * size) if self.enough else None

  def on_host(self, image: Image.Image, size: int, words: Sequence[int]) -> Image.Image:
    """Does the host's part for a streamed image.

    Args:
      image: mode RGB or L.
      size: pixels per side of the result.
      words: seed, epoch, domain, example; the crop depends on these alone.
    """
    image = self.prepare(image, size) if self.prepare else image
    if not self.host_crop:
      return image
    return self.host_crop(image, size, np.random.Generator(np.random.Philox(np.random.SeedSequence(words))))

  def on_device(self, image: jax.Array, words: jax.Array, sides: jax.Array | None, size: int) -> jax.Array:
    """Does the device's part for one image.

    Args:
      image: (h, w, c) uint8.
      words: (4,) uint32, as of `example_key`.
      sides: (2,) int32, original width and height of an image that is still to be cropped. None: it is cropped already.
      size: pixels per side of the result.

    Returns:
      (size, size, c): uint8 in [0, 255], or float32 in [0, 1] where values were mixed.
    """
    key = example_key(words)
    if sides is not None and self.device_crop:
      image = self.device_crop(jax.random.fold_in(key, CROP), image, sides, size)
    if self.flip:
      image = random_flip(jax.random.fold_in(key, FLIP), image)
    return color_jitter(jax.random.fold_in(key, COLORS), image) if self.colors else image


_WIDE = (0.08, 1.0)
AUGMENTATIONS: dict[str, Augmentation] = {
  # Random resized crop of 80 to 100 % of the area, flip, colour jitter of 0.4 each.
  # Source: DMG, Section 4 and released code (PACS)
  "paper": Augmentation(None, transforms.random_resized_crop, random_resized_crop, flip=True, colors=True, enough=1.5),
  # Resized to 256/224 of the size, a random crop of the size, flip. Source: DMG, released code (DomainNet)
  "domainnet": Augmentation(transforms.enlarge, transforms.random_crop, random_crop, flip=True, enough=256 / 224),
  # The shorter side resized to 256/224 of the size, a random crop of the size, flip. Source: DRT, released code
  # (DomainNet)
  "shorter": Augmentation(None, transforms.random_crop_of_shortened, random_crop_of_shortened, flip=True,
                          enough=256 / 224),
  # Resized to 256/224 of the size, a box of 8 to 100 % of the area resized to the size, flip.
  # Source: Transfer-Learning-Library's default for Office-31, on which WEMNet seems to build
  "office": Augmentation(
    transforms.enlarge, functools.partial(transforms.random_resized_crop, scale=_WIDE),
    functools.partial(random_resized_crop, scale=_WIDE), flip=True, enough=256 / 224),
  # Resized to 256/224 of the size, the centre of the size, flip.
  # Source: Transfer-Learning-Library's setting for VisDA-2017, on which WEMNet seems to build
  "visda": Augmentation(transforms.centre, flip=True, enough=256 / 224),
  "none": Augmentation(transforms.resize),
}


def find(name: str) -> Augmentation:
  """Returns an augmentation by name, and raises a UserError that names the nearest one where there is none."""
  if name not in AUGMENTATIONS:
    raise UserError(f"unknown augmentation {name!r} in config.data.augment{nearest(name, AUGMENTATIONS)}")
  return AUGMENTATIONS[name]


def on_device(name: str, size: int) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
  """Returns the device's part of an augmentation.

  Args:
    name: one of `AUGMENTATIONS`.
    size: pixels per side.

  Returns:
    A function of a batch, or of a dict of batches, for use under jit. Training batches hold `key` (b, 4) uint32, and
    `sides` (b, 2) int32 if they are still to be cropped; both are taken out. Other batches, such as those of
    evaluation, are returned unchanged.

  Raises:
    UserError: there is no such augmentation.
  """
  augmentation = find(name)

  def apply(batch: Mapping[str, Any]) -> dict[str, Any]:
    if "image" not in batch:
      return {part: apply(batch[part]) for part in batch}
    rest = dict(batch)
    words, sides = rest.pop("key", None), rest.pop("sides", None)
    if words is None:
      return rest
    change = lambda image, words, sides: augmentation.on_device(image, words, sides, size)  # noqa: E731
    return {**rest, "image": jax.vmap(change)(rest["image"], words, sides)}

  return apply
