import io

import numpy as np
from PIL import Image

from dgjax.data import pipeline
from dgjax.data.builders import digits as digits_builder


def test_contents(digits):
  assert len(digits.domains) >= 4 and digits.classes == tuple("0123456789") and digits.source_test
  for domain in digits.domains:
    assert digits.splits[domain] == {"train": 1257, "val": 180, "test": 360}
    example = digits.open(domain, "train")[0]
    assert example["image"].shape == (16, 16, 3) and example["image"].dtype == np.uint8


def test_a_digit_is_in_the_same_split_everywhere(digits):
  for split in ("train", "val", "test"):
    first, *others = (digits.open(domain, split).indices for domain in digits.domains)
    for other in others:
      np.testing.assert_array_equal(first, other)


def test_appearances_differ(digits):
  def mean(domain):
    source = digits.open(domain, "test")
    return np.mean([source[i]["image"] for i in range(100)])

  assert mean("inverted") > 2 * mean("plain")
  colour = next(iter(pipeline.evaluate(digits, "colour", "test", batch_size=64, image_size=16)))["image"]
  assert (colour.max(-1).astype(int) - colour.min(-1)).mean() > 30  # coloured
  thick, thin = (next(iter(pipeline.evaluate(digits, domain, "test", batch_size=64, image_size=16)))["image"]
                 for domain in ("turned", "plain"))
  assert (thick > 128).mean() > (thin > 128).mean() + 0.05


def test_drawing_is_the_same_every_time(digits, config):
  layout = digits_builder.Digits(config("digits"))
  for domain in digits.domains:
    examples = layout.examples(domain)
    source = digits.open(domain, "val")
    for i in (0, 99):
      again = Image.open(io.BytesIO(layout.read(examples[source.indices[i]])))
      np.testing.assert_array_equal(source[i]["image"], np.asarray(again))


def test_every_appearance_is_registered():
  assert tuple(digits_builder.APPEARANCES) == digits_builder.Digits.domains
