import numpy as np
import pytest

from dgjax.data import pipeline
from dgjax.data.dataset import Dataset
from dgjax.errors import UserError

rng = np.random.default_rng(0)
IMAGES = rng.integers(0, 256, (60, 6, 9, 3), dtype=np.uint8)
LABELS, DOMAINS = np.arange(60) % 2, np.arange(60) // 20


def make(images=IMAGES, labels=LABELS, domains=DOMAINS, **keys):
  return Dataset.from_arrays(images, labels, domains, **keys)


def test_names_splits_and_examples():
  dataset = make()
  assert dataset.classes == ("0", "1") and dataset.domains == ("domain0", "domain1", "domain2")
  assert dataset.splits["domain1"] == {"train": 14, "val": 2, "test": 4}
  source = dataset.open("domain1", "train")
  for i, number in enumerate(source.indices):
    assert DOMAINS[number] == 1 and source[i]["label"] == LABELS[number]
    np.testing.assert_array_equal(source[i]["image"], IMAGES[number])
  assert sorted(LABELS[dataset.open("domain1", "test").indices]) == [0, 0, 1, 1]  # drawn class by class
  named = make(classes=["cat", "dog"], domain_names=["a", "b", "c"])
  assert named.classes == ("cat", "dog") and named.domains == ("a", "b", "c")


def test_splits_are_those_of_the_same_images_in_folders(tmp_path, draw):
  folder = Dataset.from_folder(draw(tmp_path / "root"), cache_dir=str(tmp_path / "cache"), seed=4)
  arrays = make(IMAGES[:36], np.arange(36) // 6 % 2, np.arange(36) // 12, classes=folder.classes,
                domain_names=folder.domains, seed=4)
  for number, domain in enumerate(folder.domains):
    for split in ("train", "val", "test"):
      chosen = folder.open(domain, split).indices
      np.testing.assert_array_equal(arrays.open(domain, split).indices, chosen + 12 * number)


@pytest.mark.parametrize("channels", [1, 3])
def test_uint8_images_through_the_pipeline(channels):
  dataset = make(IMAGES[..., :channels])
  stream = pipeline.train(dataset, ["domain0", "domain2"], batch_size=8, seed=0, image_size=12)
  batch = next(stream.iterator())
  assert batch["image"].shape == (8, 12, 12, channels) and batch["image"].dtype == np.uint8
  assert stream.examples_per_epoch == 28


def test_float32_arrays_through_the_pipeline():
  images = rng.normal(5.0, 3.0, (60, 6, 9, 2)).astype(np.float32)
  dataset = make(images)
  batches = list(pipeline.evaluate(dataset, "domain1", "val", batch_size=4, image_size=99))
  expected = images[dataset.open("domain1", "val").indices]
  np.testing.assert_array_equal(batches[0]["image"][batches[0]["mask"]], expected)
  batch = next(pipeline.train(dataset, ["domain0"], batch_size=4, seed=0, image_size=99, augment="none").iterator())
  assert batch["image"].shape == (4, 6, 9, 2) and batch["image"].dtype == np.float32


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_normalisation(dtype):
  images = np.concatenate([IMAGES[..., :2], np.full((60, 6, 9, 1), 7)], -1).astype(dtype)  # the last is constant
  dataset = make(images)
  train = np.concatenate([images[dataset.open(domain, "train").indices] for domain in dataset.domains])
  values = train.astype(np.float64) / (255.0 if dtype == np.uint8 else 1.0)
  np.testing.assert_allclose(dataset.mean, values.mean((0, 1, 2)))
  np.testing.assert_allclose(dataset.std[:2], values.std((0, 1, 2))[:2])
  assert dataset.std[2] == 1.0
  given = make(images, mean=[0.1, 0.2, 0.3], std=[1, 2, 3])
  assert given.mean == (0.1, 0.2, 0.3) and given.std == (1.0, 2.0, 3.0)


def test_digests():
  before = make().digests
  assert make(IMAGES.copy()).digests == before
  other = IMAGES.copy()
  other[25, 0, 0, 0] ^= 1
  labels = LABELS.copy()
  labels[45] ^= 1
  for keys, changed in (({"images": other}, {"domain1"}), ({"labels": labels}, {"domain2"}),
                        ({"classes": ["x", "y"]}, set(before)), ({"seed": 1}, set(before)),
                        ({"images": IMAGES.astype(np.float32)}, set(before))):
    after = make(**keys).digests
    assert {domain for domain in before if before[domain] != after[domain]} == changed


NAN = np.zeros((60, 6, 9, 3), np.float32)
NAN[17, 0, 0, 0] = np.nan


@pytest.mark.parametrize("keys,message", [
  ({"images": IMAGES[0]}, r"images must be of shape \(n, h, w, c\), none of them 0, got \(6, 9, 3\)"),
  ({"images": IMAGES[:0]}, r"got \(0, 6, 9, 3\)"),
  ({"images": IMAGES / 255}, "images must be uint8 or float32, got float64: convert them with images.astype"),
  ({"images": IMAGES[..., :2]}, "uint8 images must have 1 or 3 channels, got 2: give other arrays as float32"),
  ({"images": NAN}, "image 17 holds a value that is not finite"),
  ({"labels": LABELS[:9]}, r"labels must be of shape \(60,\), as there are 60 images, got \(9,\)"),
  ({"labels": LABELS / 1}, "labels must be integers, got float64"),
  ({"labels": LABELS - 1}, r"labels\[0\] is -1, and must be in \[0, 1\), the number of classes"),
  ({"classes": ["only"]}, r"labels\[1\] is 1, and must be in \[0, 1\), the number of classes"),
  ({"classes": ["a", "a"]}, "classes names something twice: a, a"),
  ({"domains": DOMAINS[:, None]}, r"domains must be of shape \(60,\)"),
  ({"domain_names": list("abcd")}, "domain 'd' has no images: no entry of domains is 3"),
  ({"domains": DOMAINS * 2}, "domain 'domain1' has no images"),
  ({"val_fraction": -0.1}, "val_fraction and test_fraction must be at least 0 and together below 1, got -0.1 and 0.2"),
  ({"val_fraction": 0.5, "test_fraction": 0.5}, "together below 1"),
  ({"mean": [0.5]}, r"mean must be 3 finite numbers, one a channel, got \[0.5\]"),
  ({"std": [1, 1, 0]}, r"std must be 3 finite and positive numbers")])
def test_bad_arguments(keys, message):
  with pytest.raises(UserError, match=message):
    make(**keys)
