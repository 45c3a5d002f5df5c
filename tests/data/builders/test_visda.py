import numpy as np
import pytest
from PIL import Image

from dgjax import data
from dgjax.data import augment, transforms
from dgjax.errors import UserError

CLASSES = ("aeroplane", "bicycle", "bus", "car", "horse", "knife", "motorcycle", "person", "plant", "skateboard",
           "train", "truck")
SIZES = {"train": 4, "validation": 2}


@pytest.fixture
def root(tmp_path, draw):
  return draw(tmp_path / "visda", lambda domain, name: SIZES[domain], domains=SIZES, classes=CLASSES)


def load(config, root, cache, **keys):
  return data.load(config("visda2017", dir=str(root), cache_dir=str(cache), **keys), 0)


def write_list(root, domain, leave_out=()):
  lines = [f"{path.relative_to(root / domain)} {CLASSES.index(path.parent.name)}\n"
           for path in sorted((root / domain).glob("*/*.png"))]
  path = root / domain / "image_list.txt"
  path.write_text("".join(line for line in lines if line.split()[0] not in leave_out))
  return path


def test_renderings_to_real_images(config, root, tmp_path):
  dataset = load(config, root, tmp_path / "cache")
  assert dataset.domains == ("synthetic", "real") and dataset.classes == CLASSES
  assert (dataset.sources, dataset.targets) == (("synthetic",), ("real",))
  assert dataset.splits["synthetic"] == {"train": 36, "val": 12, "test": 48} and dataset.splits["real"]["test"] == 24
  assert dataset.adaptation_split("real") == "test" and not dataset.source_test and dataset.centre_crop
  real = dataset.open("real", "test")
  np.testing.assert_array_equal(real[5]["image"], np.asarray(Image.open(root / "validation" / "bus" / "001.png")))
  assert real[5]["label"] == 2
  papers = load(config, root, tmp_path / "cache", held_out=False)
  assert papers.splits["synthetic"] == {"train": 48, "val": 12, "test": 48}


def test_lists(config, root, tmp_path):
  write_list(root, "train", leave_out=["bus/002.png"])
  dataset = load(config, root, tmp_path / "cache", val_fraction=0.0)
  assert dataset.splits["synthetic"]["train"] == 47 and dataset.splits["real"]["test"] == 24
  labels = [example["label"] for example in dataset.open("synthetic", "test")]
  assert np.bincount(labels).tolist() == [4, 4, 3, *[4] * 9]


@pytest.mark.parametrize("line", ["bus/000.png", "bus/000.png two", "000.png 2", "bus/000.png -1"])
def test_bad_lines(config, root, tmp_path, line):
  path = write_list(root, "validation")
  path.write_text(path.read_text() + f"\n{line}\n")
  with pytest.raises(UserError, match=f"{path} line 26: expected `CLASS/FILE label`, got '{line}': mend the line"):
    load(config, root, tmp_path / "cache")


@pytest.mark.parametrize("label", [3, 12])
def test_a_label_of_another_class(config, root, tmp_path, label):
  path = write_list(root, "validation")
  path.write_text(f"bus/000.png {label}\n")
  with pytest.raises(UserError, match=f"{path} line 1: label {label} is not that of class 'bus': mend the line"):
    load(config, root, tmp_path / "cache")


def test_a_listed_image_is_absent(config, root, tmp_path):
  path = write_list(root, "train")
  (root / "train" / "car" / "001.png").unlink()
  with pytest.raises(UserError, match=f"{path} line 14 names {root}/train/car/001.png, which does not exist: "
                                      "fetch the file or take the line out, or set config.data.on_error=skip"):
    load(config, root, tmp_path / "cache")
  dataset = load(config, root, tmp_path / "cache", on_error="skip")
  assert dataset.splits["synthetic"]["test"] == 47
  assert [name for name, _ in dataset.left_out["synthetic"]] == ["train/car/001.png"]


def test_a_missing_set_or_class(config, root, tmp_path):
  (root / "train" / "knife").rename(tmp_path / "knife")
  with pytest.raises(UserError, match="class 'knife' is missing from domain 'synthetic' .*add .*/train/knife or"):
    load(config, root, tmp_path / "cache")
  (root / "validation").rename(root / "test")
  with pytest.raises(UserError, match=f"there is no folder {root}/validation: config.data.dir must be the folder"):
    load(config, root, tmp_path / "cache")


def test_augmentation_is_of_the_centre(config):
  assert config("visda2017").augment == "visda"
  image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8))
  centre = np.asarray(transforms.centre(image, 28))
  np.testing.assert_array_equal(centre, np.asarray(image.resize((32, 32), Image.Resampling.BILINEAR))[2:30, 2:30])
  visda = augment.find("visda")
  np.testing.assert_array_equal(np.asarray(visda.on_host(image, 28, np.random.default_rng(0))), centre)
  assert visda.flip and not visda.colors
