import numpy as np
import pytest
from PIL import Image

from dgjax import data
from dgjax.data.builders import handwriting
from dgjax.errors import UserError


def greys(dataset, domain, split):
  source = dataset.open(domain, split)
  return [int(source[i]["image"][0, 0, 0]) for i in range(len(source))]


def test_writers_are_seen_or_unseen(writers):
  assert writers.domains == ("seen", "unseen") and writers.sources == ("seen",) and writers.targets == ("unseen",)
  assert writers.classes == ("a", "b") and writers.channels == 1 and writers.mean == writers.std == (128 / 255,)
  assert not writers.source_test and len(writers.groups) == 5
  assert writers.splits == {"seen": {"train": 30, "val": 6, "test": 0}, "unseen": {"train": 0, "val": 0, "test": 12}}
  found = {split: set(greys(writers, domain, split)) for domain, split in
           (("seen", "train"), ("seen", "val"), ("unseen", "test"))}
  assert len(set.union(*found.values())) == 48
  of = {split: {(grey - 20) % 24 // 3 for grey in values} for split, values in found.items()}
  assert [len(of[split]) for split in ("train", "val", "test")] == [5, 1, 2] and len(set.union(*of.values())) == 8
  assert tuple(f"w{i}" for i in sorted(of["train"])) == writers.groups


def test_group_numbers_and_labels_belong_to_the_image(writers):
  source = writers.open("seen", "train")
  assert source.groups.dtype == np.int32 and set(source.groups) == set(range(5))
  for i in range(len(source)):
    grey, example = int(source[i]["image"][0, 0, 0]) - 20, source[i]
    assert writers.groups[source.groups[i]] == f"w{grey % 24 // 3}" and example["label"] == grey // 24
  assert (writers.open("seen", "val").groups == -1).all() and (writers.open("unseen", "test").groups == -1).all()


def test_one_copy_of_the_records_and_readable_splits(config, tmp_path):
  root = tmp_path / "root"
  for writer in "xyz":
    (root / writer / "a").mkdir(parents=True)
    Image.new("L", (4, 4)).save(root / writer / "a" / "0.png")
  dataset = data.load(config("handwriting", dir=str(root), cache_dir=str(tmp_path / "cache")), 0)
  assert [dataset.splits["seen"]["train"], dataset.splits["seen"]["val"], dataset.splits["unseen"]["test"]] == [1, 1, 1]
  assert len(list((tmp_path / "cache").glob("handwriting/*"))) == 1
  written = sorted(path.name for path in (tmp_path / "cache").glob("handwriting/writers-*/*/splits/*"))
  assert written == ["seen-seed0-val0.15-test0.25", "unseen-seed0-val0.15-test0.25"]


def test_seeds_draw_the_writers(config, tmp_path):
  (tmp_path / "w" / "a").mkdir(parents=True)
  Image.new("L", (4, 4)).save(tmp_path / "w" / "a" / "0.png")
  layout = handwriting.Handwriting(config("handwriting", dir=str(tmp_path)))
  names = [f"usr_{i:02d}" for i in range(74)]
  first, again, other = (layout.assign(names, seed) for seed in (0, 0, 1))
  assert first == again != other
  assert {split: len(chosen) for split, chosen in first.items()} == {"train": 45, "val": 11, "test": 18}


def test_lipitks_names(config, tmp_path):
  for writer in range(3):
    folder = tmp_path / "root" / f"usr_{writer}"
    folder.mkdir(parents=True)
    for name in ("000t01.tiff", "000t02.tiff", "017t01.TIFF", *(["110t01.tiff"] if writer else [])):
      Image.new("L", (5, 5), 9).save(folder / name, "TIFF")
  dataset = data.load(config("handwriting", dir=str(tmp_path / "root")), 0)
  assert dataset.classes == ("000", "017", "110")  # not every writer wrote every character
  assert sum(sum(splits.values()) for splits in dataset.splits.values()) == 11


def test_wrong_folders(config, tmp_path):
  root = tmp_path / "root"
  load = lambda **keys: data.load(config("handwriting", dir=str(root), **keys), 0)  # noqa: E731
  root.mkdir()
  with pytest.raises(UserError, match=f"no image in {root}: config.data.dir must be"):
    load()
  for writer in "pqrs":
    (root / writer).mkdir()
    Image.new("L", (5, 5)).save(root / writer / "01t1.png")
  Image.new("L", (5, 5)).save(root / "q" / "odd.png")
  with pytest.raises(UserError, match=f"{root}/q/odd.png is in no character's folder and its name.*on_error=skip"):
    load()
  assert [name for name, _ in load(on_error="skip").left_out["writers"]] == ["q/odd.png"]
  (root / "q" / "odd.png").unlink()
  (root / "strokes").mkdir()
  (root / "strokes" / "000t01.txt").write_text(".PEN_DOWN")
  with pytest.raises(UserError, match=f"{root}/strokes holds no images but .txt files, and pen strokes are not read"):
    load()
  assert load(on_error="skip").splits["seen"]["train"] == 2
  for name in "rs":
    (root / name / "01t1.png").unlink()
  with pytest.raises(UserError, match="split by writers and has 2 of them: it needs 3 at least"):
    load(on_error="skip")
