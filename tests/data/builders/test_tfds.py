import io
import itertools
import json
import shutil
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from dgjax import data
from dgjax.data import pipeline
from dgjax.errors import UserError


def pixels(number, channels):
  return np.random.default_rng(number).integers(0, 256, (8, 8, channels) if channels == 3 else (8, 8), dtype=np.uint8)


def write(root, name, splits, classes=("a", "b"), channels=3, version="1.0.0", image=True):
  """Writes a data set in TFDS's form; image i of a split of n is pixels(1000 n + i), of class i mod 2."""
  features = {"class": tfds.features.ClassLabel(names=classes)}
  if image:
    features["picture"] = tfds.features.Image(shape=(None, None, channels), encoding_format="png")
  folder = root / name / version
  folder.mkdir(parents=True)
  identity = tfds.core.DatasetIdentity(name=name, version=version, data_dir=str(folder), module_name="")
  info = tfds.core.DatasetInfo(builder=identity, features=tfds.features.FeaturesDict(features))
  writer = tfds.core.SequentialWriter(info, max_examples_per_shard=25, file_format="array_record")
  writer.initialize_splits(list(splits))
  for split, count in splits.items():
    examples = []
    for i in range(count):
      stream = io.BytesIO()
      Image.fromarray(pixels(1000 * count + i, channels)).save(stream, "PNG")
      stream.seek(0)
      examples.append({"class": i % 2, **({"picture": stream} if image else {})})
    writer.add_examples({split: examples})
  writer.close_all()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
  root = tmp_path_factory.mktemp("tfds")
  write(root, "grey", {"train": 30, "test": 10}, channels=1)
  write(root, "whole", {"train": 30, "validation": 6, "test": 8, "extra": 5}, classes=("b", "a"))
  write(root, "lone", {"train": 40}, version="1.2.0")
  write(root, "lone", {"train": 20}, version="1.10.0")
  write(root, "other", {"train": 4}, classes=("a", "c"))
  write(root, "numbers", {"train": 2}, image=False)
  return root


@pytest.fixture
def load(config, root, tmp_path):
  def make(domains, **keys):
    keys = {"dir": str(root), "cache_dir": str(tmp_path / "c"), "domains": domains} | keys
    return data.load(config("tfds", **keys), 0)
  return make


def test_domains_splits_and_labels(load):
  dataset = load("grey, whole,lone:1.2.0")
  assert dataset.domains == ("grey", "whole", "lone") and dataset.classes == ("a", "b")
  assert dataset.splits == {
    "grey": {"train": 26, "val": 4, "test": 10}, "whole": {"train": 30, "val": 6, "test": 8},
    "lone": {"train": 28, "val": 4, "test": 8}}
  for domain, channels, n in (("grey", 1, 30), ("whole", 3, 30)):
    for part, count in (("train", n), ("test", dataset.splits[domain]["test"])):
      known = {pixels(1000 * count + i, channels).tobytes(): i % 2 for i in range(count)}
      for example in dataset.open(domain, part):
        image = example["image"][..., :channels].tobytes()
        assert example["image"].shape == (8, 8, 3)
        assert dataset.classes[example["label"]] == {"grey": "ab", "whole": "ba"}[domain][known[image]]
  drawn = [dataset.open("lone", split).indices.tolist() for split in ("train", "val", "test")]
  assert sorted(itertools.chain(*drawn)) == list(range(40))
  assert "tensorflow" not in sys.modules
  stream = pipeline.train(dataset, ["grey", "lone"], batch_size=8, seed=0, image_size=32, augment="none")
  batch = next(stream.iterator())
  assert batch["image"].shape == (8, 32, 32, 3)


def test_the_newest_version_and_labels_that_are_noted(load, tmp_path, monkeypatch):
  first = load("lone")
  assert sum(first.splits["lone"].values()) == 20  # 1.10.0 comes after 1.2.0
  (note,) = (tmp_path / "c" / "tfds" / "labels").iterdir()
  for damage in (None, b"", note.read_bytes()[:-3]):
    if damage is not None:
      note.write_bytes(damage)
    with monkeypatch.context() as patch:
      if damage is None:
        patch.setattr(data.builders.tfds.Tfds, "_source", None)  # nothing is read
      assert load("lone").digests == first.digests


@pytest.mark.parametrize("domains,message", [
  ("", "config.data.domains must name the data sets to use, of those prepared in .*: grey, lone, .*, whole"),
  ("gray", r"no data set 'gray' is prepared in .* \(did you mean 'grey'\?\)"),
  ("lone:1.3.0", r"'lone' is not prepared in version '1.3.0' in .* \(did you mean '1.2.0'\?\)"),
  ("lone:1.2.0,lone", "config.data.domains names 'lone' twice"),
  ("grey,other", r"the classes of 'other' .* are not those of 'grey': 'b' is in one of them only \(2 classes, and 2\)"),
  ("numbers", r"'numbers' .* has 0 features that are an image, and must have one \(class\)")])
def test_what_cannot_be_used(load, domains, message):
  with pytest.raises(UserError, match=message):
    load(domains)


def test_another_file_format_and_damaged_files(load, root, tmp_path):
  shutil.copytree(root / "grey", tmp_path / "own" / "grey")
  path = tmp_path / "own" / "grey" / "1.0.0" / "dataset_info.json"
  info = json.loads(path.read_text())
  path.write_text(json.dumps(info | {"fileFormat": "tfrecord"}))
  with pytest.raises(UserError, match=r"not in ArrayRecord files: prepare it with tfds.builder\('grey', file_format="):
    load("grey", dir=str(tmp_path / "own"))
  path.write_text("")
  with pytest.raises(UserError, match="cannot open the data set in .*/grey/1.0.0 .*: prepare it anew"):
    load("grey", dir=str(tmp_path / "own"))
