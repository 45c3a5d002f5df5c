import colorsys
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance
from scipy import stats

from dgjax.data import augment, transforms
from dgjax.errors import UserError

ORDERS = np.array(list(itertools.permutations(range(4))))  # which of brightness, contrast, saturation, hue comes when
AMOUNTS = np.array([1.3, 0.65, 1.35, -0.2], np.float32)


def photo(height=9, width=7, channels=3, seed=0):
  return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def loop_adjust(pixels, order, amounts):
  """Each operation in turn, pixel by pixel."""
  image = pixels / 255.0
  weights = np.array([0.299, 0.587, 0.114])
  for operation in order:
    if operation == 3:
      for y, x in np.ndindex(image.shape[:2]):
        hue, saturation, value = colorsys.rgb_to_hsv(*image[y, x])
        image[y, x] = colorsys.hsv_to_rgb((hue + amounts[3]) % 1.0, saturation, value)
    else:
      other = [0, (image @ weights).mean(), (image @ weights)[..., None]][operation]
      image = np.clip(amounts[operation] * image + (1 - amounts[operation]) * other, 0, 1)
  return image


def pillow_adjust(pixels, order, amounts):
  """As Pillow and torchvision do it, rounding to 8 bits after each operation."""
  image = Image.fromarray(pixels)
  enhancers = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
  for operation in order:
    if operation < 3:
      image = enhancers[operation](image).enhance(float(amounts[operation]))
    else:
      hue, saturation, value = image.convert("HSV").split()
      turned = (np.asarray(hue).astype(int) + int(amounts[3] * 255)) % 256
      image = Image.merge("HSV", (Image.fromarray(turned.astype(np.uint8)), saturation, value)).convert("RGB")
  return np.asarray(image)


@pytest.fixture(scope="module")
def adjusted():
  """An image adjusted in each of the 24 orders."""
  image = photo()
  one = lambda place: augment.adjust(image, place, jnp.asarray(AMOUNTS))  # noqa: E731
  return image, np.asarray(jax.jit(jax.vmap(one))(ORDERS.argsort(1)))


def test_adjust_against_a_loop_in_every_order(adjusted):
  image, got = adjusted
  wanted = [loop_adjust(image, order, AMOUNTS) for order in ORDERS]
  np.testing.assert_allclose(got, wanted, atol=2e-5)
  assert len({each.tobytes() for each in got}) >= 12  # the order matters


def test_adjust_against_pillow_in_every_order(adjusted):
  image, got = adjusted
  distance = np.abs(got * 255 - [pillow_adjust(image, order, AMOUNTS) for order in ORDERS])
  # one step of 8-bit hue is up to six of a channel, and saturation rounds too, more so in dark pixels
  assert distance.mean() < 3 and np.quantile(distance, 0.99) < 16


def test_each_operation_is_pillows_within_rounding():
  image, amounts = photo(), np.tile(np.array([1.0, 1.0, 1.0, 0.0], np.float32), (3, 1))
  amounts[range(3), range(3)] = 0.7
  one = lambda amounts: augment.adjust(jnp.asarray(image), jnp.arange(4), amounts)  # noqa: E731
  got = np.asarray(jax.jit(jax.vmap(one))(amounts)) * 255
  for operation in range(3):
    np.testing.assert_allclose(got[operation], pillow_adjust(image, [operation], amounts[operation]), atol=1.01)


def test_hue_of_pillows_range_and_of_grey_pixels():
  image = np.concatenate([photo(), np.full((9, 1, 3), 80, np.uint8), np.zeros((9, 1, 3), np.uint8)], 1)
  turns = jnp.array([-0.4, -1 / 3, 0.0, 0.25, 0.4, 1.0])
  got = np.asarray(jax.jit(jax.vmap(augment.shift_hue, (None, 0)))(augment.as_float(jnp.asarray(image)), turns))
  wanted = [loop_adjust(image, [3], [1, 1, 1, turn]) for turn in turns]
  np.testing.assert_allclose(got, wanted, atol=1e-5)
  np.testing.assert_allclose(got[2], image / 255, atol=1e-6)


def test_images_of_one_channel():
  image = photo(channels=1)
  got = np.asarray(jax.jit(augment.adjust)(image, jnp.array([1, 0, 2, 3]), AMOUNTS))
  value = image / 255
  value = np.clip(0.65 * value + 0.35 * value.mean(), 0, 1)
  np.testing.assert_allclose(got, np.clip(1.3 * value, 0, 1), atol=1e-5)


@pytest.mark.parametrize("size", [4, 11])
def test_resample_is_pillows_crop_and_resize(size):
  image, boxes = photo(), [(0, 0, 7, 9), (2, 3, 4, 5), (1, 0, 5, 2), (3, 4, 1, 1)]
  resample = jax.jit(jax.vmap(lambda box: augment.resample(jnp.asarray(image), box, size)))
  for got, (left, top, width, height) in zip(resample(np.array(boxes, np.float32)), boxes, strict=True):
    wanted = Image.fromarray(image).crop((left, top, left + width, top + height))
    wanted = np.asarray(wanted.resize((size, size), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(np.asarray(got) * 255, wanted, atol=1.01)


class Probe:
  """Says which box was cropped."""

  mode = "RGB"

  def __init__(self, size):
    self.size, self.boxes = size, []

  def crop(self, box):
    self.boxes.append((box[0], box[1], box[2] - box[0], box[3] - box[1]))
    return Image.new("RGB", (2, 2))


def keys(count, seed=0):
  return jax.random.split(jax.random.key(seed), count)


def test_a_random_crop_keeps_the_aspect_that_the_image_had():
  """Squares of 14 pixels of 16 x 18: all there are of the image as it was, and those of one that was squashed."""
  image = np.random.default_rng(0).integers(0, 256, (16, 18, 3), dtype=np.uint8)
  crop = jax.jit(jax.vmap(augment.random_crop_of_shortened, (0, None, None, None)), static_argnums=3)
  sides = jnp.array([18, 16])
  found = np.asarray(crop(keys(100), jnp.asarray(image), sides, 14)) * 255
  places = {image[y : y + 14, x : x + 14].tobytes() for y in range(3) for x in range(5)}
  assert {crop.round().astype(np.uint8).tobytes() for crop in found} == places
  ramp = np.broadcast_to(np.arange(9, dtype=np.float32)[None, :, None], (9, 9, 1)) / 9  # 9 columns of 18, a half each
  found = np.asarray(crop(keys(100), jnp.asarray(ramp), sides, 14))[:, 7, :, 0]
  np.testing.assert_allclose(found[:, 11] - found[:, 3], 4 / 9, atol=1e-5)
  assert 3 <= len({round(float(line[7]), 3) for line in found}) <= 5


@functools.cache
def draw_boxes():
  return jax.jit(jax.vmap(lambda key, sides: augment.draw_box(key, sides, (0.3, 1.0)), (0, None)))


def boxes(sides):
  return np.asarray(draw_boxes()(keys(1000), np.array(sides)), np.float64)


@pytest.mark.parametrize("sides", [(227, 227), (300, 100)])
def test_boxes_are_distributed_as_the_hosts(sides):
  probe, rng = Probe(sides), np.random.default_rng(0)
  for _ in range(1000):
    transforms.random_resized_crop(probe, 2, rng, scale=(0.3, 1.0))
  got, wanted = boxes(sides), np.array(probe.boxes)
  assert (got == np.round(got)).all() and (got[:, :2] >= 0).all() and (got[:, :2] + got[:, 2:] <= sides).all()
  for measure in (lambda b: b[:, 2] * b[:, 3], lambda b: b[:, 2] / b[:, 3], lambda b: b[:, 0], lambda b: b[:, 1]):
    assert stats.ks_2samp(measure(got), measure(wanted)).pvalue > 1e-3


def test_boxes_of_images_that_are_too_long():
  assert (boxes((400, 4)) == [197, 0, 5, 4]).all()


def test_jitter_is_uniform_in_order_and_amounts():
  place, amounts = jax.jit(jax.vmap(lambda key: augment.draw_jitter(key, 0.4)))(keys(2400))
  for column, low in zip(np.asarray(amounts).T, (0.6, 0.6, 0.6, -0.4), strict=True):
    assert stats.kstest(column, stats.uniform(low, 0.8).cdf).pvalue > 1e-3
  _, counts = np.unique(np.asarray(place), axis=0, return_counts=True)
  assert len(counts) == 24 and stats.chisquare(counts).pvalue > 1e-3


def test_flips_and_crops_at_random():
  image = jnp.asarray(photo(5, 6))
  flipped = np.asarray(jax.jit(jax.vmap(augment.random_flip, (0, None)))(keys(400), image))
  mirrored = (flipped == np.asarray(image)[:, ::-1]).all((1, 2, 3))
  assert (mirrored | (flipped == np.asarray(image)).all((1, 2, 3))).all() and 150 < mirrored.sum() < 250
  crops = jax.jit(jax.vmap(lambda key: augment.random_crop(key, image, jnp.array([6, 5]), 4)))(keys(400))
  wanted = {np.asarray(image)[y : y + 4, x : x + 4].tobytes() for y in range(2) for x in range(3)}
  assert {np.asarray(crop).tobytes() for crop in crops} == wanted


def words(count, seed=0, epoch=0):
  return np.array([(seed, epoch, 7, example) for example in range(count)], np.uint32)


def test_every_word_of_a_key_matters():
  every = np.array(list(itertools.product((0, 1, 2**32 - 1), repeat=4)), np.uint32)
  found = jax.random.key_data(jax.vmap(augment.example_key)(every))
  assert len({each.tobytes() for each in np.asarray(found)}) == len(every)


def test_an_example_is_augmented_alike_in_every_batch():
  apply = jax.jit(augment.on_device("paper", 8))
  images = np.stack([photo(8, 8, seed=seed) for seed in range(6)])
  whole = np.asarray(apply({"image": images, "key": words(6)})["image"])
  two = {"image": images[::-1].reshape(2, 3, 8, 8, 3), "key": words(6)[::-1].reshape(2, 3, 4)}
  runs = jax.jit(jax.vmap(apply))(two)["image"]
  np.testing.assert_array_equal(np.asarray(runs).reshape(whole.shape), whole[::-1])
  assert (np.asarray(apply({"image": images, "key": words(6, seed=1)})["image"]) != whole).any((1, 2, 3)).all()


def test_what_is_left_to_the_device():
  batch = {"image": photo()[None], "label": np.zeros(1, np.int32)}
  dtypes = {}
  for name in augment.AUGMENTATIONS:
    apply = augment.on_device(name, 4)
    assert apply(batch) == batch  # evaluation
    assert apply({"source": batch, "target": batch}) == {"source": batch, "target": batch}
    shapes = {}
    for place, extra in {"streamed": {}, "resident": {"sides": np.array([[7, 9]])}}.items():
      out = jax.eval_shape(apply, {**batch, **extra, "key": words(1)})
      assert out.keys() == batch.keys()
      shapes[place] = out["image"].dtype.name, out["image"].shape[1]
    dtypes[name] = shapes
  assert dtypes == {
    "paper": {"streamed": ("float32", 9), "resident": ("float32", 4)},
    "domainnet": {"streamed": ("uint8", 9), "resident": ("uint8", 4)},
    "shorter": {"streamed": ("uint8", 9), "resident": ("float32", 4)},
    "office": {"streamed": ("uint8", 9), "resident": ("float32", 4)},
    "visda": {"streamed": ("uint8", 9), "resident": ("uint8", 9)},
    "none": {"streamed": ("uint8", 9), "resident": ("uint8", 9)}}


@pytest.mark.parametrize("name", sorted(augment.AUGMENTATIONS))
def test_the_hosts_part_gives_the_size_and_depends_on_its_words_alone(name):
  augmentation, image = augment.find(name), Image.fromarray(photo(50, 40))
  first, second, other = (augmentation.on_host(image, 28, [seed, 0, 7, 1]) for seed in (3, 3, 4))
  assert first.size == (28, 28) and first.mode == "RGB"
  assert first.tobytes() == second.tobytes()
  assert (first.tobytes() == other.tobytes()) == (name in ("none", "visda"))
  assert augmentation.on_host(image.convert("L"), 28, [0, 0, 0, 0]).mode == "L"


@pytest.mark.parametrize("name,prepare,crop", [
  ("domainnet", True, transforms.random_crop),
  ("office", True, functools.partial(transforms.random_resized_crop, scale=(0.08, 1.0))),
  ("paper", False, transforms.random_resized_crop),
])
def test_what_is_cropped_on_the_host(name, prepare, crop):
  image = Image.fromarray(photo(50, 40))
  larger = image.resize((32, 32), Image.Resampling.BILINEAR) if prepare else image
  for seed in range(5):
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, 0, 7, 1])))
    assert augment.find(name).on_host(image, 28, [seed, 0, 7, 1]).tobytes() == crop(larger, 28, rng).tobytes()


def test_unknown_augmentation():
  with pytest.raises(UserError, match=r"config.data.augment.*did you mean 'paper'"):
    augment.find("papr")
