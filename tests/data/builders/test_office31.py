import numpy as np
import pytest
from PIL import Image

from dgjax import data
from dgjax.data import pipeline, transforms
from dgjax.data.builders.office31 import Office31
from dgjax.errors import UserError

CLASSES = tuple(f"class{i:02d}" for i in range(31))
SIZES = {"amazon": 4, "dslr": 1, "webcam": 2}


@pytest.fixture(scope="module")
def root(tmp_path_factory, draw):
  return draw(tmp_path_factory.mktemp("office"), lambda domain, name: SIZES[domain], domains=SIZES, classes=CLASSES)


def load(config, root, **keys):
  return data.load(config("office31", dir=str(root), **keys), 0)


@pytest.fixture
def copy(tmp_path, root):
  """The published layout, of links to the same images."""
  for domain in SIZES:
    (tmp_path / "office" / domain).mkdir(parents=True)
    (tmp_path / "office" / domain / "images").mkdir()
    for name in CLASSES:
      (tmp_path / "office" / domain / "images" / name).mkdir()
      for path in (root / domain / name).iterdir():
        (tmp_path / "office" / domain / "images" / name / path.name).hardlink_to(path)
  (tmp_path / "office" / "image_list").mkdir()  # others' lists are no domain
  return tmp_path / "office"


def test_both_layouts_pixel_by_pixel(config, root, copy):
  plain, published = load(config, root), load(config, copy)
  assert plain.domains == published.domains == ("amazon", "dslr", "webcam")
  assert plain.classes == published.classes == CLASSES and not plain.source_test and plain.centre_crop
  for domain, size in SIZES.items():
    assert plain.splits[domain]["test"] == 31 * size
    first, second = plain.open(domain, "test"), published.open(domain, "test")
    for number in (0, len(first) - 1):
      np.testing.assert_array_equal(first[number]["image"], second[number]["image"])
      path = root / domain / CLASSES[number // size] / f"{number % size:03d}.png"
      np.testing.assert_array_equal(first[number]["image"], np.asarray(Image.open(path)))
      assert first[number]["label"] == number // size


def test_splits(config, root):
  dataset = load(config, root, val_fraction=0.25)
  assert {domain: tuple(splits.values()) for domain, splits in dataset.splits.items()} == {
    "amazon": (93, 31, 124), "dslr": (31, 0, 31), "webcam": (31, 31, 62)}
  train, val, test = (set(dataset.open("amazon", split).indices.tolist()) for split in ("train", "val", "test"))
  assert not train & val and train | val == test and dataset.adaptation_split("amazon") == "test"
  papers = load(config, root, val_fraction=0.25, held_out=False)
  assert papers.splits["amazon"] == {"train": 124, "val": 31, "test": 124}
  assert set(papers.open("amazon", "val").indices.tolist()) == val
  target = pipeline.unlabelled(papers, "webcam", batch_size=4, seed=0, image_size=28, augment="office")
  assert target.examples_per_epoch == 62


def test_evaluation_sees_the_centre(config, root):
  dataset = load(config, root)
  batch = next(iter(pipeline.evaluate(dataset, "dslr", "test", batch_size=4, image_size=28)))
  image, _ = dataset.open("dslr", "test").image(2)
  np.testing.assert_array_equal(batch["image"][2], np.asarray(transforms.centre(image, 28)))


def test_defaults_are_the_papers(config):
  assert config("office31").augment == "office" and config("office31").image_size == 224
  assert config("office31").held_out is True


def test_a_missing_domain(config, copy):
  (copy / "dslr").rename(copy / "dlsr")
  with pytest.raises(UserError, match=f"there is no folder {copy}/dslr: config.data.dir must be the folder that holds "
                                      "amazon, dslr and webcam"):
    load(config, copy)


def test_a_missing_class(config, copy):
  (copy / "dslr" / "images" / "class07").rename(copy / "moved")
  with pytest.raises(UserError, match=rf"class 'class07' is missing from domain 'dslr' \(30 classes there, 31 in "
                                      rf"'amazon'\): add {copy}/dslr/images/class07 or .*on_error=skip"):
    load(config, copy)
  dataset = load(config, copy, on_error="skip")
  assert len(dataset.classes) == 30 and dataset.left_out["amazon"]


def test_a_class_missing_everywhere(config, copy):
  for domain in SIZES:
    (copy / domain / "images" / "class30").rename(copy / f"{domain}30")
  with pytest.raises(UserError, match=f"{copy} has 30 classes, not the 31 of 'office31': complete the folders, or set"):
    load(config, copy)
  assert len(Office31(config("office31", dir=str(copy), on_error="skip")).classes) == 30


def test_an_unreadable_image(config, copy):
  path = copy / "webcam" / "images" / "class03" / "001.png"
  path.unlink()
  path.write_bytes(b"no image")
  with pytest.raises(UserError, match=f"cannot read image {path}"):
    load(config, copy)
