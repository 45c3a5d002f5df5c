import numpy as np
import pytest

from dgjax import data
from dgjax.data import pipeline
from dgjax.errors import UserError

DOMAINS, CLASSES = ("clay", "ink", "wool"), ("cat", "dog")


@pytest.fixture
def root(tmp_path, listed):
  return listed(tmp_path / "root")


def load(config, root, cache, **keys):
  return data.load(config("pacs", dir=str(root), cache_dir=str(cache), **keys), 0)


def test_official_splits(config, root, tmp_path):
  dataset = load(config, root, tmp_path / "cache")
  assert (dataset.domains, dataset.classes) == (DOMAINS, CLASSES)
  assert dataset.splits == {domain: {"train": 8, "val": 4, "test": 12} for domain in DOMAINS}
  assert not dataset.source_test
  parts = {split: set(dataset.open("ink", split).indices.tolist()) for split in ("train", "val", "test")}
  assert parts["train"] | parts["val"] == parts["test"] and not parts["train"] & parts["val"]
  for example in dataset.open("ink", "val"):
    number = int(example["image"][0, 0, 0])
    assert number % 6 in (0, 3) and example["label"] == number // 6 % 2
  assert [p.name for p in (tmp_path / "cache").glob("pacs/ink-*/*/splits/*")] == ["official"]


def test_lists_in_the_root(config, root, tmp_path):
  for path in (root / "splits").iterdir():
    path.rename(root / path.name)
  (root / "splits").rmdir()
  assert load(config, root, tmp_path / "cache").splits["wool"] == {"train": 8, "val": 4, "test": 12}


def test_no_lists(config, tmp_path, draw):
  with pytest.raises(UserError, match=r"no list file DOMAIN_train_kfold\.txt in .*config\.data\.name=folder"):
    load(config, draw(tmp_path / "root"), tmp_path / "cache")


def test_list_of_one_split_is_absent(config, root, tmp_path):
  (root / "splits" / "ink_crossval_kfold.txt").unlink()
  with pytest.raises(UserError, match=f"there is no list file {root}/splits/ink_crossval_kfold.txt"):
    load(config, root, tmp_path / "cache")


@pytest.mark.parametrize("line", ["ink/cat/000.png", "ink/cat/000.png cat", "ink/cat/000.png 0", "3"])
def test_bad_line(config, root, tmp_path, line):
  with open(root / "splits" / "ink_train_kfold.txt", "a") as file:
    file.write(line + "\n")
  with pytest.raises(UserError, match=r"ink_train_kfold.txt line 9: expected `path label` with labels from 1"):
    load(config, root, tmp_path / "cache")


def test_label_of_two_classes(config, root, tmp_path):
  with open(root / "splits" / "wool_train_kfold.txt", "a") as file:
    file.write("wool/dog/000.png 1\n")
  with pytest.raises(UserError, match=r"wool_train_kfold.txt line 9: label 1 is class 'dog' here but 'cat' before"):
    load(config, root, tmp_path / "cache")


def test_absent_image(config, root, tmp_path):
  (root / "ink" / "dog" / "001.png").unlink()
  with pytest.raises(UserError, match=rf"ink_train_kfold.txt line \d+ names {root}/ink/dog/001.png, which does not "
                                      "exist: fetch the file or take the line out, or set config.data.on_error=skip"):
    load(config, root, tmp_path / "cache")
  dataset = load(config, root, tmp_path / "cache", on_error="skip")
  assert dataset.splits["ink"] == {"train": 7, "val": 4, "test": 11}
  assert [name for name, _ in dataset.left_out["ink"]] == ["ink/dog/001.png"]


def test_repeated_line(config, root, tmp_path):
  path = root / "splits" / "ink_train_kfold.txt"
  path.write_text(path.read_text() + path.read_text().splitlines()[0] + "\n")
  with pytest.raises(UserError, match=f"{path} line 9 repeats ink/cat/001.png"):
    load(config, root, tmp_path / "cache")
  assert load(config, root, tmp_path / "cache", on_error="skip").splits["ink"]["train"] == 8


def test_class_missing_from_lists(config, root, tmp_path):
  for path in (root / "splits").glob("wool_*"):
    path.write_text("".join(line for line in path.read_text().splitlines(True) if "cat" not in line))
  with pytest.raises(UserError, match=r"class 'cat', label 1, is missing from the lists of domain 'wool' \(1 class"):
    load(config, root, tmp_path / "cache")
  dataset = load(config, root, tmp_path / "cache", on_error="skip")
  assert dataset.classes == ("dog",)
  assert {example["label"] for domain in DOMAINS for example in dataset.open(domain, "test")} == {0}


def test_dir_is_not_where_the_paths_start(config, root, tmp_path):
  (root / "ink").rename(root / "moved")
  with pytest.raises(UserError, match=r"name no image that exists in .*: config\.data\.dir must be the folder"):
    load(config, root, tmp_path / "cache", on_error="skip")


def test_real_images(config, pacs96):
  dataset = data.load(config("pacs", dir=pacs96), 0)
  assert dataset.domains == ("art_painting", "cartoon", "photo", "sketch")
  assert dataset.classes == ("dog", "elephant", "giraffe", "guitar", "horse", "house", "person")
  assert {domain: tuple(splits.values()) for domain, splits in dataset.splits.items()} == {
    "art_painting": (1840, 208, 2048), "cartoon": (2107, 237, 2344), "photo": (1499, 171, 1670),
    "sketch": (3531, 398, 3929)}
  assert sum(splits["test"] for splits in dataset.splits.values()) == 9991
  batch = next(pipeline.train(dataset, dataset.domains[:3], batch_size=8, seed=0, image_size=96).iterator())
  assert batch["image"].shape == (8, 96, 96, 3) and batch["image"].std() > 20
  seen = [batch for batch in pipeline.evaluate(dataset, "photo", "val", batch_size=64, image_size=96)]
  assert sum(batch["mask"].sum() for batch in seen) == 171
  assert np.unique(np.concatenate([b["label"][b["mask"]] for b in seen])).tolist() == list(range(7))
