import os
import shutil

import numpy as np
import pytest

from dgjax import data
from dgjax.data.dataset import SPLITS
from dgjax.errors import UserError

DOMAINS, CLASSES = ("clay", "ink", "wool"), ("cat", "dog")


@pytest.fixture
def root(tmp_path, draw):
  return draw(tmp_path / "root", lambda domain, name: 10)


def load(config, root, cache, seed=0, **keys):
  return data.load(config("folder", dir=str(root), cache_dir=str(cache), **keys), seed)


def names(dataset, domain, split):
  return [tuple(int(v) for v in example["image"][0, 0]) for example in dataset.open(domain, split)]


def test_domains_classes_and_splits_are_found(config, root, tmp_path):
  dataset = load(config, root, tmp_path / "cache")
  assert (dataset.domains, dataset.classes) == (DOMAINS, CLASSES)
  assert dataset.splits == {domain: {"train": 14, "val": 2, "test": 4} for domain in DOMAINS}
  assert dataset.source_test and dataset.channels == 3 and len(dataset.mean) == len(dataset.std) == 3
  seen = []
  for domain in DOMAINS:
    for split in SPLITS:
      seen += names(dataset, domain, split)
      labels = [example["label"] for example in dataset.open(domain, split)]
      assert labels == sorted(labels) and np.bincount(labels).tolist() == [len(labels) // 2] * 2
  assert len(seen) == len(set(seen)) == 60


def test_splits_are_drawn_from_the_seed_and_written_down(config, root, tmp_path):
  cache = tmp_path / "cache"
  first, again, other = (load(config, root, cache, seed) for seed in (0, 0, 1))
  assert names(first, "ink", "test") == names(again, "ink", "test") != names(other, "ink", "test")
  fixed = load(config, root, cache, 5, split_seed=1)
  assert names(fixed, "ink", "test") == names(other, "ink", "test")
  written = sorted(p.name for p in cache.glob("folder/ink-*/*/splits/*"))
  assert written == ["seed0-val0.1-test0.2", "seed1-val0.1-test0.2"]
  lists = {p.stem: p.read_text().splitlines() for p in cache.glob("folder/ink-*/*/splits/seed0*/*.txt")}
  assert {name: len(lines) for name, lines in lists.items()} == {"train": 14, "val": 2, "test": 4}
  files = [line.split("\t") for lines in lists.values() for line in lines]
  assert {tuple(os.path.split(name)) for name, _ in files} == {
    (f"ink/{label}", f"{i:03d}.png") for label in CLASSES for i in range(10)}
  assert all(name.split("/")[1] == label for name, label in files)
  # one copy of the images serves every split
  assert len(list(cache.glob("folder/ink-*"))) == 1


def test_small_classes_keep_something_to_train_on(config, draw, tmp_path):
  dataset = load(config, draw(tmp_path / "root", lambda domain, name: 1 if name == "cat" else 2), tmp_path / "cache")
  assert dataset.splits["ink"] == {"train": 2, "val": 1, "test": 0}


def test_other_files_and_hidden_ones_are_not_images(config, root, tmp_path):
  (root / "ink" / "cat" / "notes.txt").write_text("no image")
  (root / "ink" / "cat" / ".hidden.png").write_text("no image")
  (root / "ink" / ".cache").mkdir()
  (root / ".git" / "objects").mkdir(parents=True)
  (root / "splits").mkdir()
  (root / "splits" / "list.txt").write_text("no image")
  dataset = load(config, root, tmp_path / "cache")
  assert dataset.domains == DOMAINS and dataset.splits["ink"] == dataset.splits["wool"]


def test_missing_class(config, root, tmp_path):
  shutil.rmtree(root / "wool" / "dog")
  with pytest.raises(UserError, match=r"class 'dog' is missing from domain 'wool' \(1 classes there, 2 in 'clay'\): "
                                      rf"add {root}/wool/dog .*config.data.on_error=skip"):
    load(config, root, tmp_path / "cache")
  dataset = load(config, root, tmp_path / "cache", on_error="skip")
  assert dataset.classes == ("cat",) and dataset.domains == DOMAINS
  assert [name for name, _ in dataset.left_out["clay"]] == ["clay/dog"] and not dataset.left_out["wool"]


def test_empty_class_folder(config, root, tmp_path):
  for path in (root / "clay" / "cat").iterdir():
    path.unlink()
  with pytest.raises(UserError, match=f"class folder {root}/clay/cat holds no images: .*on_error=skip"):
    load(config, root, tmp_path / "cache")
  dataset = load(config, root, tmp_path / "cache", on_error="skip")
  assert dataset.classes == ("dog",)
  assert {example["label"] for example in dataset.open("ink", "train")} == {0}


def test_images_without_class_folders(config, root, tmp_path):
  (root / "extra").mkdir()
  shutil.copy(root / "ink" / "cat" / "000.png", root / "extra")
  with pytest.raises(UserError, match=f"domain folder {root}/extra holds images but no class folders"):
    load(config, root, tmp_path / "cache")
  assert load(config, root, tmp_path / "cache", on_error="skip").domains == DOMAINS


def test_nothing_in_common_or_nothing_at_all(config, draw, tmp_path):
  with pytest.raises(UserError, match="holds no domain"):
    load(config, tmp_path, tmp_path / "cache")
  draw(tmp_path / "root", domains=("ink",), classes=("cat",))
  draw(tmp_path / "root", domains=("wool",), classes=("dog",))
  with pytest.raises(UserError, match="no class has images in every domain"):
    load(config, tmp_path / "root", tmp_path / "cache", on_error="skip")


def test_real_images(config, pacs96):
  dataset = data.load(config("folder", dir=pacs96), 0)  # its folder of lists is no domain
  assert dataset.domains == ("art_painting", "cartoon", "photo", "sketch")
  assert sum(sum(splits.values()) for splits in dataset.splits.values()) == 9991
