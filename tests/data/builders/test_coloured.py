import io

import numpy as np
import pytest
from PIL import Image

from dgjax import data
from dgjax.data import pipeline
from dgjax.data.builders import coloured
from dgjax.errors import UserError


def images(dataset, domain, split, size=32):
  batches = list(pipeline.evaluate(dataset, domain, split, batch_size=32, image_size=size))
  mask = np.concatenate([batch["mask"] for batch in batches])
  return tuple(np.concatenate([batch[key] for batch in batches])[mask] for key in ("image", "label"))


def nearest_colour(pixels):
  """The class whose colour the brightest pixel of each image has."""
  brightest = [image.reshape(-1, 3)[image.sum(-1).argmax()] for image in pixels.astype(int)]
  return np.array([np.abs(coloured.COLOURS.astype(int) - pixel).sum(-1).argmin() for pixel in brightest])


def test_colours_are_the_papers():
  """Six on a sphere of radius 0.5 about middle grey, four on vertices of the unit cube."""
  distance = np.linalg.norm(coloured.COLOURS / 255 - 0.5, axis=1)
  np.testing.assert_allclose(distance[:6], 0.5, atol=0.005)
  np.testing.assert_allclose(distance[6:], np.sqrt(0.75), atol=0.005)
  np.testing.assert_allclose(coloured.COLOURS.mean(0), 127.3, atol=0.1)
  assert coloured.COLOURS[3].tolist() == [127, 0, 127] and coloured.COLOURS[9].tolist() == [0, 255, 0]


def test_paint_against_a_loop():
  digit = np.random.default_rng(0).integers(0, 256, (5, 6), dtype=np.uint8)
  painted = coloured.paint(digit, coloured.COLOURS[0])
  for y in range(5):
    for x in range(6):
      for channel, level in enumerate((255, 127, 127)):
        assert painted[y, x, channel] == int(digit[y, x] / 255 * level + 0.5)


@pytest.mark.parametrize("name", ["mnist_mp", "digits_mp"])
def test_missing_patterns(config, little_mnist, name):
  dataset = data.load(config(name, dir=str(little_mnist) if name == "mnist_mp" else ""), 0)
  count = {"train": 240, "val": 60, "test": 60} if name == "mnist_mp" else {"train": 1437, "val": 360, "test": 360}
  assert dataset.domains == ("coloured", "grey") and not dataset.source_test and dataset.channels == 3
  assert dataset.splits == {"coloured": count, "grey": count} and dataset.groups is None
  assert not dataset.sources and not dataset.targets
  pixels, labels = images(dataset, "coloured", "val", 28)
  assert (nearest_colour(pixels) == labels).all()
  grey, same = images(dataset, "grey", "test", 28)
  assert (same == labels).all() and (grey == grey[..., :1]).all() and 110 <= grey.max() <= 127
  np.testing.assert_array_equal(images(dataset, "coloured", "test", 28)[0], pixels)
  assert (grey > 0).sum() > 0 and ((grey.sum(-1) == 0) <= (pixels.max(-1) <= 2)).all()  # the same digits


def test_settings(config, little_mnist):
  def load(**keys):
    return data.load(config("mnist_mp", dir=str(little_mnist), **keys), 0)
  whole, padded = (images(load(enlarge=enlarge), "coloured", "val", 28)[0] for enlarge in ("resize", "pad"))
  assert load(enlarge="pad").open("coloured", "val")[0]["image"].shape == (32, 32, 3)
  assert whole.shape == padded.shape and (whole != padded).any()
  padded, _ = images(load(enlarge="pad"), "coloured", "val", 32)
  np.testing.assert_array_equal(padded[:, 2:-2, 2:-2], whole)
  assert not padded[:, :2].any() and not padded[:, :, 30:].any()
  assert images(load(grey=200), "grey", "test", 28)[0].max() == 200
  assert (load().mean, load().std) == ((0.0,) * 3, (1.0,) * 3)
  symmetric = load(input_range="symmetric")
  assert (symmetric.mean, symmetric.std) == ((0.5,) * 3, (0.5,) * 3)


@pytest.mark.parametrize("key,value,message", [
  ("enlarge", "pda", r"config\.data\.enlarge 'pda' \(did you mean 'pad'"),
  ("input_range", "units", r"config\.data\.input_range 'units' \(did you mean 'unit'"),
  ("grey", 300, r"config\.data\.grey must be in \[0, 255\], got 300")])
def test_bad_settings(config, key, value, message):
  with pytest.raises(UserError, match=message):
    data.load(config("digits_mp", **{key: value}), 0)


def test_uncorrelated_patterns(config, little_mnist):
  dataset = data.load(config("mnist_up", dir=str(little_mnist)), 0)
  assert dataset.sources == ("correlated",) and dataset.targets == ("uncorrelated", "anticorrelated")
  assert dataset.splits["correlated"] == {"train": 240, "val": 60, "test": 60}
  assert dataset.splits["anticorrelated"] == {"train": 0, "val": 0, "test": 60}
  pixels, labels = images(dataset, "correlated", "train", 28)
  assert (nearest_colour(pixels) == labels).all()
  pixels, labels = images(dataset, "anticorrelated", "test", 28)
  assert (nearest_colour(pixels) == (labels + 1) % 10).all()
  pixels, labels = images(dataset, "uncorrelated", "test", 28)
  assert set(nearest_colour(pixels)) == set(range(10)) and (nearest_colour(pixels) == labels).mean() < 0.4


def test_real_digits(config, mnist):
  """Reads a few; preparing all would take the better part of a minute."""
  layout = coloured.MnistMp(config("mnist_mp", dir=mnist))
  examples = layout.examples("grey")
  split = layout.split("grey", examples, 0)
  assert {name: len(chosen) for name, chosen in split.items()} == {"train": 60000, "val": 10000, "test": 10000}
  first = examples[split["test"][0]]
  assert (first.name, first.label) == ("grey/test/00000", 7)
  pixels = np.asarray(Image.open(io.BytesIO(layout.read(first))))
  np.testing.assert_array_equal(pixels[..., 0], (layout.images("test")[0] / 255 * 127 + 0.5).astype(np.uint8))
