import os
import re
import shutil
import time

import pytest
from PIL import Image

from dgjax import data
from dgjax.data import cache, preparation
from dgjax.errors import UserError


@pytest.fixture
def root(tmp_path, draw):
  return draw(tmp_path / "root", domains=("clay", "ink"))


@pytest.fixture
def load(config, root, tmp_path):
  return lambda **keys: data.load(config("folder", **({"dir": str(root), "cache_dir": str(tmp_path / "c")} | keys)), 0)


def reasons(folder):
  return sorted((entry.store, entry.unused) for entry in cache.entries(folder))


def test_what_is_in_use(load, tmp_path):
  assert cache.entries(tmp_path / "c") == []
  load()
  found = cache.entries(tmp_path / "c")
  assert [(entry.dataset, entry.store) for entry in found] == [("folder", "clay"), ("folder", "ink")]
  assert reasons(tmp_path / "c") == [("clay", ""), ("ink", "")]
  for entry in found:
    assert entry.size == sum(path.stat().st_size for path in entry.path.rglob("*") if path.is_file())
    assert abs(entry.used - time.time()) < 60
  assert not cache.prunable(found)


def test_what_is_of_no_more_use_goes(load, root, tmp_path):
  load()
  for note in (tmp_path / "c").glob("folder/*/seen.json"):
    os.utime(note, (1, 1))
  Image.new("RGB", (4, 4)).save(root / "ink" / "cat" / "new.png")
  current = load()
  assert reasons(tmp_path / "c") == [("clay", ""), ("ink", ""), ("ink", "replaced by a newer one")]
  (old,) = cache.prunable(cache.entries(tmp_path / "c"))
  assert cache.delete([old]) == old.size and not old.path.parent.exists()
  assert current.open("ink", "train")[0] and load().digests == current.digests

  Image.new("RGB", (4, 4), "red").save(root / "ink" / "cat" / "new.png")  # as many bytes, as other content
  os.utime(root / "ink" / "cat" / "new.png", (5, 5))
  load()
  shutil.move(root, tmp_path / "elsewhere")
  half = tmp_path / "c" / "folder" / os.listdir(tmp_path / "c" / "folder")[0] / f"{preparation.INCOMPLETE}123"
  half.mkdir()
  assert {reason for _, reason in reasons(tmp_path / "c")} >= {"its source is gone", cache.REASONS[3]}
  cache.delete(cache.prunable(cache.entries(tmp_path / "c")))
  assert not os.listdir(tmp_path / "c" / "folder")


def test_older_formats(load, tmp_path):
  old = tmp_path / "c" / "folder" / "ink-0123456789ab"
  (old / "records" / "1.0.0").mkdir(parents=True)
  (old / ".lock").touch()
  assert reasons(tmp_path / "c") == [("ink", "an older format")]
  load()
  assert reasons(tmp_path / "c") == [("clay", ""), ("ink", ""), ("ink", "an older format")]
  cache.delete(cache.prunable(cache.entries(tmp_path / "c")))
  assert reasons(tmp_path / "c") == [("clay", ""), ("ink", "")]


def test_by_age(load, tmp_path):
  load()
  note = next((tmp_path / "c").glob("folder/ink-*/seen.json"))
  os.utime(note, (time.time() - 10 * cache.DAY,) * 2)
  found = cache.entries(tmp_path / "c")
  assert [entry.store for entry in cache.prunable(found, days=7)] == ["ink"]
  assert not cache.prunable(found, days=11)
  load()  # opened again
  assert not cache.prunable(cache.entries(tmp_path / "c"), days=7)


def test_what_is_being_prepared_stays(load, tmp_path):
  load()
  (entry, _) = cache.entries(tmp_path / "c")
  with preparation._lock(entry.path.parent / ".lock"):
    assert cache.delete([entry]) == 0
  assert entry.path.exists()


def test_table(load, tmp_path):
  load()
  shutil.rmtree(tmp_path / "root")
  head, first, _, total = cache.table(cache.entries(tmp_path / "c")).splitlines()
  assert head.split() == ["size", "last", "used", "data", "set", "domain", "folder"]
  assert first.split()[1:6] == ["MB", "0", "d", "folder", "clay"] and "unused: its source is gone" in first
  assert re.fullmatch(r"(0\.\d MB) in all, \1 of it unused", total)
  assert cache.table([]).splitlines()[-1] == "0.0 MB in all, 0.0 MB of it unused"


def test_describe_and_prune(load, root, tmp_path, monkeypatch):
  load()
  (tmp_path / "c" / "xla").mkdir()
  (tmp_path / "c" / "xla" / "program").write_bytes(bytes(2_000_000))
  monkeypatch.setenv("DGJAX_CACHE", str(tmp_path / "c"))
  lines = cache.describe().splitlines()
  assert lines[0] == str(tmp_path / "c") and lines[-1].startswith("2.0 MB of compiled programs") and len(lines) == 6
  assert cache.prune() == "nothing to delete"
  shutil.rmtree(root)
  assert re.search(r"0\.\d MB freed$", cache.prune()) and not cache.entries(tmp_path / "c")
  assert cache.describe(str(tmp_path / "absent")).endswith("absent/xla")


def test_what_cannot_be_deleted_is_named(load, tmp_path, monkeypatch):
  load()
  (entry, _) = cache.entries(tmp_path / "c")

  def refuse(path):
    raise PermissionError(13, "Permission denied")
  monkeypatch.setattr(cache.shutil, "rmtree", refuse)
  with pytest.raises(UserError, match=f"cannot delete {entry.path} .Permission denied.: delete it by hand"):
    cache.delete([entry])
