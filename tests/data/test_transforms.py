import colorsys
import math

import numpy as np
import pytest
from PIL import Image

from dgjax.data import transforms
from dgjax.errors import UserError


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


def test_random_flip_mirrors_half_of_the_time():
  image, rng = photo(), np.random.default_rng(0)
  mirrored = np.asarray(image)[:, ::-1]
  flips = 0
  for _ in range(400):
    got = np.asarray(transforms.random_flip(image, rng))
    flips += (got == mirrored).all()
    assert (got == mirrored).all() or (got == np.asarray(image)).all()
  assert 150 < flips < 250


@pytest.mark.parametrize("amount", [-0.4, -0.1, 0.0, 0.25, 0.4])
def test_shift_hue_turns_the_hue_alone(amount):
  pixels = np.random.default_rng(1).integers(0, 256, (6, 6, 3), dtype=np.uint8)
  got = np.asarray(transforms.shift_hue(Image.fromarray(pixels), amount), float)
  wanted = np.empty_like(got)
  for y in range(6):
    for x in range(6):
      hue, saturation, value = colorsys.rgb_to_hsv(*(pixels[y, x] / 255))
      wanted[y, x] = np.array(colorsys.hsv_to_rgb((hue + amount) % 1.0, saturation, value)) * 255
  # hue, turn and saturation pass through 8 bits, and one step of hue is up to six of a channel
  np.testing.assert_allclose(got, wanted, atol=18)
  assert abs(got - wanted).mean() < 3


def loop_jitter(pixels, order, brightness, contrast, saturation):
  """Brightness, contrast and saturation as blends with black, the mean grey and each pixel's grey."""
  def gray(values):
    return values @ np.array([0.299, 0.587, 0.114])

  values = pixels.astype(float)
  for operation in order:
    if operation == 0:
      values = values * brightness
    elif operation == 1:
      values = values * contrast + np.round(gray(values).mean()) * (1 - contrast)
    elif operation == 2:
      values = values * saturation + gray(values)[..., None] * (1 - saturation)
    values = np.clip(values, 0, 255)
  return values


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (1, 3, 0, 2)])
def test_color_jitter_against_a_loop(order):
  image = photo()
  script = Script(uniform=[0.5, -1.0, 0.75, 0.0], permutation=order)  # no turn of hue: that has a test of its own
  got = np.asarray(transforms.color_jitter(image, script), float)
  wanted = loop_jitter(np.asarray(image), order, 1.2, 0.6, 1.3)
  np.testing.assert_allclose(got, wanted, atol=10)  # every operation rounds, and the turn of 0 passes through HSV
  assert abs(got - wanted).mean() < 2


def test_color_jitter_order_and_ranges_vary():
  image, results = photo(), set()
  for seed in range(20):
    results.add(transforms.color_jitter(image, np.random.default_rng(seed)).tobytes())
  assert len(results) == 20


def test_grey_images_pass_every_transform():
  image = photo().convert("L")
  for transform in transforms.AUGMENTATIONS.values():
    assert transform(image, 8, np.random.default_rng(0)).mode == "L"


@pytest.mark.parametrize("name", sorted(transforms.AUGMENTATIONS))
@pytest.mark.parametrize("size", [16, 33])
def test_augmentations_give_the_size_and_depend_on_the_generator_alone(name, size):
  transform = transforms.find(name)
  first, second, other = (transform(photo(), size, np.random.default_rng(seed)) for seed in (3, 3, 4))
  assert first.size == (size, size) and first.mode == "RGB"
  assert first.tobytes() == second.tobytes()
  assert (first.tobytes() == other.tobytes()) == (name == "none")


def test_domainnet_crops_from_eight_sevenths():
  image = photo(50, 40)
  larger = np.asarray(image.resize((32, 32), Image.Resampling.BILINEAR))
  got = np.asarray(transforms.domainnet(image, 28, np.random.default_rng(0)))
  crops = [larger[y : y + 28, x : x + 28] for y in range(5) for x in range(5)]
  assert any((got == crop).all() or (got == crop[:, ::-1]).all() for crop in crops)


def test_office_crops_a_random_box_of_the_enlarged_image():
  image = photo(50, 40)
  larger = image.resize((32, 32), Image.Resampling.BILINEAR)
  sides = set()
  for seed in range(30):
    got = transforms.office(image, 28, np.random.default_rng(seed))
    rng = np.random.default_rng(seed)
    wanted = transforms.random_flip(transforms.random_resized_crop(larger, 28, rng, scale=(0.08, 1.0)), rng)
    assert got.tobytes() == wanted.tobytes()
    sides.add(got.tobytes())
  assert len(sides) == 30


def test_unknown_augmentation():
  with pytest.raises(UserError, match=r"config.data.augment.*did you mean 'paper'"):
    transforms.find("papr")
