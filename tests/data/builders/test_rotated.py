import numpy as np
import pytest

from dgjax import data
from dgjax.data import pipeline
from dgjax.data.builders import rotated
from dgjax.errors import UserError

ANGLES = ("M0", "M15", "M30", "M45", "M60", "M75")


def names(layout, domain):
  return [example.name.split("/")[1] for example in layout.examples(domain)]


def test_the_same_digits_at_every_angle(config):
  dataset = data.load(config("rotated_digits"), 0)
  assert dataset.domains == ANGLES and dataset.channels == 1 and (dataset.mean, dataset.std) == ((0.0,), (1.0,))
  assert not dataset.source_test and not dataset.targets
  labels = {}
  for domain in ANGLES:
    assert dataset.splits[domain] == {"train": 900, "val": 100, "test": 1000}
    source = dataset.open(domain, "test")
    labels[domain] = [source[i]["label"] for i in range(1000)]
    assert np.bincount(labels[domain]).tolist() == [100] * 10 and labels[domain] == labels["M0"]
    for split in ("train", "val"):
      np.testing.assert_array_equal(dataset.open(domain, split).indices, dataset.open("M0", split).indices)
  both = np.concatenate([dataset.open("M15", split).indices for split in ("train", "val")])
  assert sorted(both) == list(range(1000))
  assert source[0]["image"].shape == (16, 16, 1)


def test_seeds_draw_the_validation_digits_and_not_the_digits(config):
  layout = rotated.RotatedDigits(config("rotated_digits"))
  examples = layout.examples("M30")
  first, second = (layout.split("M30", examples, seed) for seed in (0, 1))
  assert set(first["val"]) != set(second["val"]) and len(first["val"]) == len(second["val"]) == 100


def test_counter_clockwise(config, little_mnist):
  """The digits are a bar to the right of the centre: at 75 degrees it points up."""
  dataset = data.load(config("rotated_mnist", dir=str(little_mnist), image_size=28), 0)
  def ink(domain):
    batch = next(iter(pipeline.evaluate(dataset, domain, "test", batch_size=64, image_size=28)))
    image = batch["image"].mean((0, 3)) > 130
    y, x = np.nonzero(image)
    return 13.5 - y.mean(), x.mean() - 13.5
  for domain in ANGLES:
    up, right = ink(domain)
    np.testing.assert_allclose(np.degrees(np.arctan2(up, right)), rotated.ANGLES[domain], atol=4)


def test_all_digits_dealt_out(config, little_mnist):
  layout = rotated.RotatedMnist(config("rotated_mnist", dir=str(little_mnist), images="full", image_size=28))
  found = {domain: names(layout, domain) for domain in ANGLES}
  assert sorted(name for digits in found.values() for name in digits) == [f"{i:05d}" for i in range(240)]
  assert {len(digits) for digits in found.values()} == {40}
  assert len(names(rotated.RotatedMnist(config("rotated_mnist", dir=str(little_mnist))), "M15")) == 240  # 24 a class
  dataset = data.load(layout.config, 0)
  assert dataset.splits["M75"] == {"train": 36, "val": 4, "test": 40}
  assert dataset.open("M75", "test")[0]["image"].shape == (28, 28, 1)


def test_bad_settings(config):
  with pytest.raises(UserError, match=r"config\.data\.images 'ful' \(did you mean 'full'"):
    data.load(config("rotated_digits", images="ful"), 0)
  with pytest.raises(UserError, match="val_fraction"):
    data.load(config("rotated_digits", val_fraction=1.0), 0)


def test_real_digits(config, mnist):
  dataset = data.load(config("rotated_mnist", dir=mnist), 0)
  assert all(splits == {"train": 900, "val": 100, "test": 1000} for splits in dataset.splits.values())
  batch = next(pipeline.train(dataset, ANGLES[1:], batch_size=64, seed=0, image_size=16, augment="none").iterator())
  assert batch["image"].shape == (64, 16, 16, 1) and 0.08 < batch["image"].mean() / 255 < 0.2
  full = rotated.RotatedMnist(config("rotated_mnist", dir=mnist, images="full"))
  assert [len(full.examples(domain)) for domain in ANGLES] == [10000] * 6
