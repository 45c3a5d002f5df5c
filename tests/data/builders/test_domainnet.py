import pytest

from dgjax import data
from dgjax.data.builders import base


@pytest.fixture
def root(tmp_path, draw):
  root = draw(tmp_path / "root", lambda domain, name: 9)
  for domain in ("clay", "ink", "wool"):
    for split, numbers in (("train", range(6)), ("test", range(6, 9))):
      lines = [f"{domain}/{name}/{i:03d}.png {label}\n" for label, name in enumerate(("cat", "dog")) for i in numbers]
      (root / f"{domain}_{split}.txt").write_text("".join(lines))
  return root


def load(config, root, cache, seed=0, **keys):
  return data.load(config("domainnet", dir=str(root), cache_dir=str(cache), **keys), seed)


def test_official_lists_and_drawn_validation(config, root, tmp_path):
  cache = tmp_path / "cache"
  dataset = load(config, root, cache)
  assert dataset.domains == ("clay", "ink", "wool") and dataset.classes == ("cat", "dog") and dataset.source_test
  assert dataset.splits["ink"] == {"train": 10, "val": 2, "test": 6}
  parts = {split: set(dataset.open("ink", split).indices.tolist()) for split in ("train", "val", "test")}
  assert len(set.union(*parts.values())) == 18
  assert all(example["image"][0, 0, 0] % 9 >= 6 for example in dataset.open("ink", "test"))
  other = load(config, root, cache, 1)
  assert set(other.open("ink", "test").indices) == parts["test"]
  assert set(other.open("ink", "val").indices) != parts["val"]
  assert len(list(cache.glob("domainnet/ink-*"))) == 1
  assert len(list(cache.glob("domainnet/ink-*/*/splits/official-seed*-val0.1/val.txt"))) == 2


def test_all_of_the_train_lists_and_the_centre_are_drts(config, root, tmp_path):
  dataset = load(config, root, tmp_path / "cache", val_fraction=0.0, centre_crop=True)
  assert dataset.splits["ink"] == {"train": 12, "val": 0, "test": 6}
  assert dataset.centre_crop and dataset.keep_aspect
  assert not load(config, root, tmp_path / "cache").centre_crop


@pytest.mark.parametrize("total,train,val", [
  (33525, 30172, 3353), (36023, 32420, 3603), (50416, 45374, 5042), (120906, 108815, 12091), (48212, 43390, 4822)])
def test_counts_of_the_paper(total, train, val):
  # Source: DMG, released code, per domain
  split = base.draw_split(total, {"val": 0.1}, 0, "domain")
  assert (len(split["train"]), len(split["val"])) == (train, val)
