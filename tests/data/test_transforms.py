import math

import numpy as np
import pytest
from PIL import Image

from dgjax.data import transforms


def photo(height=20, width=30, seed=0):
  return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


class Script:
  """A generator whose draws are written down beforehand."""

  def __init__(self, uniform=(), integers=(), permutation=()):
    self._uniform, self._integers, self._permutation = list(uniform), list(integers), list(permutation)

  def uniform(self, low, high, size=None):
    return np.array([self._uniform.pop(0) for _ in range(size)]) if size else self._uniform.pop(0)

  def integers(self, high):
    value = self._integers.pop(0)
    assert value < high
    return value

  def permutation(self, count):
    assert count == len(self._permutation)
    return np.array(self._permutation)


def test_resize_is_exact_and_ignores_aspect():
  assert transforms.resize(photo(20, 30), 7).size == (7, 7)
  image = photo(8, 8)
  assert transforms.resize(image, 8) is image


def test_resize_is_bilinear_with_antialiasing():
  pixels = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
  got = np.asarray(transforms.resize(Image.fromarray(pixels), 4), float)
  # halving: a triangle of half-width 2 around each output's centre, normalised inside the image
  weight = np.zeros((4, 8))
  for out in range(4):
    for i in range(8):
      weight[out, i] = max(0.0, 1 - abs(i + 0.5 - (2 * out + 1)) / 2)
  weight /= weight.sum(1, keepdims=True)
  np.testing.assert_allclose(got, weight @ pixels @ weight.T, atol=1.5)


def test_random_resized_crop_takes_the_box_that_was_drawn():
  image = photo(20, 30)
  # area 0.8 * 600 = 480, aspect 4/3: 25 x 19 pixels
  got = transforms.random_resized_crop(image, 8, Script(uniform=[0.8, math.log(4 / 3)], integers=[5, 1]))
  want = image.crop((5, 1, 30, 20)).resize((8, 8), Image.Resampling.BILINEAR)
  np.testing.assert_array_equal(got, want)


def test_random_resized_crop_falls_back_to_the_centre():
  image = photo(4, 40)  # no box of 80 % of the area has an aspect below 4/3
  got = transforms.random_resized_crop(image, 6, np.random.default_rng(0))
  np.testing.assert_array_equal(got, image.crop((17, 0, 22, 4)).resize((6, 6), Image.Resampling.BILINEAR))


def test_random_resized_crop_ranges():
  rng = np.random.default_rng(0)
  seen = []

  class Probe:
    mode, size = "RGB", (100, 100)

    def crop(self, box):
      seen.append((box[2] - box[0], box[3] - box[1]))
      assert 0 <= box[0] < box[2] <= 100 and 0 <= box[1] < box[3] <= 100
      return photo(2, 2)

  for _ in range(300):
    transforms.random_resized_crop(Probe(), 2, rng)
  width, height = np.array(seen, float).T
  area, aspect = width * height / 1e4, width / height
  assert area.min() > 0.79 and area.max() <= 1.0 and area.max() - area.min() > 0.15
  assert aspect.min() > 0.75 - 0.02 and aspect.max() < 4 / 3 + 0.03


def test_a_random_crop_is_everywhere_in_the_image():
  image = photo(6, 8)
  pixels, rng = np.asarray(image), np.random.default_rng(0)
  places = {(x, y): pixels[y : y + 4, x : x + 4].tobytes() for y in range(3) for x in range(5)}
  assert {transforms.random_crop(image, 4, rng).tobytes() for _ in range(200)} == set(places.values())


def test_fit():
  image, values = photo(20, 30), np.zeros((3, 2, 1), np.float32)
  assert transforms.fit(image, 7, False) == transforms.resize(image, 7)
  assert transforms.fit(image, 7, True) == transforms.centre(image, 7)
  assert transforms.fit(image, 7, True, True) == transforms.centre_of_shortened(image, 7)
  assert transforms.fit(values, 7, True) is values


@pytest.mark.parametrize("sides, shortened", [((20, 30), (256, 384)), ((300, 201), (382, 256)), ((9, 9), (256, 256))])
def test_the_shorter_side_becomes_256_of_224(sides, shortened):
  """torchvision's Resize(256): the longer side is rounded down."""
  assert transforms.shortened(sides, 224) == transforms.shorten(photo(*sides[::-1]), 224).size == shortened


def test_the_centre_keeps_the_aspect():
  """torchvision's CenterCrop: the offset is rounded to even."""
  image = photo(16, 43)  # at 14 pixels the shorter side of 16 stays as it is
  got = transforms.centre_of_shortened(image, 14)
  np.testing.assert_array_equal(got, np.asarray(image)[1:15, 14:28])


def test_a_random_crop_of_a_shortened_image_is_everywhere_in_it():
  image = photo(16, 18)
  pixels, rng = np.asarray(image), np.random.default_rng(0)
  places = {pixels[y : y + 14, x : x + 14].tobytes() for y in range(3) for x in range(5)}
  assert {transforms.random_crop_of_shortened(image, 14, rng).tobytes() for _ in range(200)} == places
