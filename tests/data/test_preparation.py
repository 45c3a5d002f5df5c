import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from dgjax import data
from dgjax.data import preparation, records
from dgjax.data.builders import folder
from dgjax.errors import UserError

DOMAINS = ("clay", "ink", "wool")


@pytest.fixture
def root(tmp_path, draw):
  return draw(tmp_path / "root")


@pytest.fixture
def cache(tmp_path):
  return tmp_path / "cache"


@pytest.fixture
def load(config, root, cache):
  def make(**keys):
    return data.load(config("folder", **({"dir": str(root), "cache_dir": str(cache)} | keys)), 0)
  return make


@pytest.fixture
def reads(monkeypatch):
  """Counts the images that are read from their original files."""
  names = []
  read = folder.Folder.read

  def counted(self, example):
    names.append(example.name)
    return read(self, example)
  monkeypatch.setattr(folder.Folder, "read", counted)
  return names


def prepared(cache):
  return sorted(path.parent.name.rsplit("-", 1)[0] for path in contents(cache))


def contents(cache):
  return [path for path in cache.glob("folder/*/*") if preparation.CONTENT.fullmatch(path.name)]


def pixels(dataset):
  return {domain: [example["image"].tolist() for example in dataset.open(domain, "train")] for domain in DOMAINS}


def test_encoded_bytes_are_copied_as_they_are(load, root):
  image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8))
  image.save(root / "ink" / "cat" / "zebra.jpg", quality=60)  # lossy: encoding it again would show
  dataset = load(val_fraction=0.0, test_fraction=0.0)
  source = dataset.open("ink", "train")
  assert source._records[6] == (root / "ink" / "cat" / "zebra.jpg").read_bytes()
  np.testing.assert_array_equal(source[6]["image"], np.asarray(Image.open(root / "ink" / "cat" / "zebra.jpg")))


def test_prepared_once(load, reads):
  load()
  assert len(reads) == 36
  load()
  load(val_fraction=0.3, split_seed=4)
  assert len(reads) == 36


def test_tfds_is_not_imported_by_other_data_sets():
  program = "import sys, dgjax.data; assert not {'tensorflow', 'tensorflow_datasets', 'grain'} & set(sys.modules)"
  subprocess.run([sys.executable, "-c", program], check=True)


def test_a_domain_s_name_may_be_as_long_as_names_can_be(load, draw, tmp_path):
  dataset = load(dir=str(draw(tmp_path / "long", domains=("x" * 255, "y"))))
  assert dataset.domains == ("x" * 255, "y") and dataset.open("x" * 255, "train")[0]["label"] == 0


@pytest.mark.parametrize("change", ["add", "remove", "edit", "touch"])
def test_a_changed_folder_is_prepared_anew(load, root, reads, change):
  before = load(val_fraction=0.0, test_fraction=0.0)
  path = root / "ink" / "dog" / "002.png"
  if change == "add":
    shutil.copy(path, root / "ink" / "dog" / "new.png")
  elif change == "remove":
    path.unlink()
  elif change == "edit":
    Image.new("RGB", (50, 40), (250, 0, 250)).save(path)
  else:
    os.utime(path, ns=(1, 1))
  del reads[:]
  after = load(val_fraction=0.0, test_fraction=0.0)
  assert {name.split("/")[0] for name in reads} == {"ink"}  # the other domains are as they were
  count = {"add": 13, "remove": 11}.get(change, 12)
  assert after.splits["ink"]["train"] == len(after.open("ink", "train")) == count
  shapes = {example["image"].shape[:2] for example in after.open("ink", "train")}
  assert ((40, 50) in shapes) == (change == "edit")
  assert len(before.open("ink", "train")) == 12  # what was open stays readable


@pytest.mark.parametrize("copy", [shutil.copy2, shutil.copyfile])  # keeps times of writing, or does not
def test_data_that_only_moved_are_not_copied_again(load, root, cache, reads, tmp_path, copy):
  before = load(val_fraction=0.0, test_fraction=0.0)
  written = {path: path.stat().st_mtime_ns for path in cache.rglob("*.array_record")}
  shutil.copytree(root, tmp_path / "other", copy_function=copy)
  shutil.rmtree(root)
  after = load(val_fraction=0.0, test_fraction=0.0, dir=str(tmp_path / "other"))
  assert {path: path.stat().st_mtime_ns for path in cache.rglob("*.array_record")} == written
  assert after.digests == before.digests and pixels(after) == pixels(before)
  del reads[:]
  load(dir=str(tmp_path / "other"))
  assert not reads  # compared once


def test_another_image_behind_the_same_name_size_and_times(load, root, cache, tmp_path, reads):
  path = root / "ink" / "cat" / "flat.bmp"
  Image.new("RGB", (9, 9), (1, 2, 3)).save(path)
  before = load(val_fraction=0.0, test_fraction=0.0)
  other = tmp_path / "other" / path.relative_to(root)
  shutil.copytree(root, tmp_path / "other")
  Image.new("RGB", (9, 9), (4, 5, 6)).save(other)
  os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
  after = load(val_fraction=0.0, test_fraction=0.0, dir=str(tmp_path / "other"))
  assert after.open("ink", "train")[6]["image"][0, 0].tolist() == [4, 5, 6]
  assert {domain for domain in DOMAINS if before.digests[domain] != after.digests[domain]} == {"ink"}
  assert prepared(cache) == ["clay", "ink", "ink", "wool"]
  del reads[:]
  for dataset, place in ((before, root), (after, tmp_path / "other")):  # each has its own, from now on
    again = load(val_fraction=0.0, test_fraction=0.0, dir=str(place))
    assert again.digests == dataset.digests and pixels(again) == pixels(dataset)
  assert not reads


@pytest.mark.parametrize("change", ["add", "remove", "edit", "rename", "touch", "split"])
def test_digests(load, root, change):
  before = load()
  path, seed = root / "ink" / "dog" / "002.png", {}
  if change == "add":
    shutil.copy(path, path.with_name("new.png"))
  elif change == "remove":
    path.unlink()
  elif change == "edit":
    path.write_bytes(path.read_bytes() + b"\0")  # looks the same
  elif change == "rename":
    for domain in DOMAINS:
      (root / domain / "dog").rename(root / domain / "hound")
  elif change == "touch":
    os.utime(path, ns=(1, 1))
  else:
    seed = {"split_seed": 1}
  after = load(**seed)
  changed = {domain for domain in DOMAINS if before.digests[domain] != after.digests[domain]}
  assert changed == {"touch": set(), "rename": set(DOMAINS), "split": set(DOMAINS)}.get(change, {"ink"})


@pytest.mark.parametrize("damage,reason", [
  (b"", "not an image"), (b"this is text", "not an image"), ("cut", "truncated"), ("dangling", "No such file")])
def test_unreadable_image(load, root, cache, damage, reason):
  path = root / "ink" / "cat" / "003.png"
  if damage == "cut":
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG")
    path = path.with_suffix(".jpg")
    path.write_bytes(stream.getvalue()[:-2000])
  elif damage == "dangling":
    path = path.with_name("link.png")
    path.write_bytes(b"x")
  else:
    path.write_bytes(damage)
  if damage == "dangling":  # gone between being listed and being read
    def load(inner=load, **keys):
      read = folder.Folder.read
      with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folder.Folder, "read", lambda self, example: (
          path.with_name("absent").read_bytes() if example.name.endswith("link.png") else read(self, example)))
        return inner(**keys)
  with pytest.raises(UserError, match=f"cannot read image {path} .*{reason}.*: replace or remove the file, "
                                      "or set config.data.on_error=skip to leave it out") as error:
    load()
  assert "\n" not in str(error.value)
  assert prepared(cache) == ["clay"]  # what came before is kept, and nothing half-written is left
  assert not list(cache.rglob("incomplete-*"))
  dataset = load(on_error="skip")
  assert [name for name, _ in dataset.left_out["ink"]] == [str(path.relative_to(root))]
  assert sum(dataset.splits["ink"].values()) == (11 if path.name == "003.png" else 12)
  report = json.loads(next(cache.glob("folder/ink-*/*/left_out.json")).read_text())
  assert report[0][0] == str(path.relative_to(root)) and reason in report[0][1]
  with pytest.raises(UserError, match=f"cannot read image {path}"):
    load()  # prepared meanwhile, but who does not ask to skip is told


def test_labels_stay_with_their_images_when_some_are_left_out(load, root):
  for name in ("cat/000.png", "cat/005.png", "dog/000.png"):
    (root / "ink" / name).write_bytes(b"")
  dataset = load(on_error="skip", val_fraction=0.0, test_fraction=0.0)
  for example in dataset.open("ink", "train"):
    assert example["label"] == int(example["image"][0, 0, 0]) // 6 % 2
  assert dataset.splits["ink"]["train"] == 9


def test_skipping_is_counted_in_the_log(load, root, monkeypatch):
  messages = []
  monkeypatch.setattr(preparation.log, "warning", lambda text, *values: messages.append(text % values))
  for name in ("cat/000.png", "dog/000.png"):
    (root / "ink" / name).write_bytes(b"")
  load(on_error="skip")
  assert len(messages) == 1 and "Left out 2 of domain ink" in messages[0] and "left_out.json" in messages[0]


def test_memory_does_not_grow_with_the_images(load, root):
  pixels = np.random.default_rng(0).integers(0, 256, (250, 400, 3), dtype=np.uint8)
  for i in range(60):
    Image.fromarray(pixels).save(root / "ink" / "cat" / f"big{i:03d}.bmp")  # 300 kB each, 18 MB together
  tracemalloc.start()
  try:
    dataset = load(threads=2)
    _, peak = tracemalloc.get_traced_memory()
    assert peak < 8e6
    for example in dataset.open("ink", "train"):
      assert example["image"].ndim == 3
    current, _ = tracemalloc.get_traced_memory()
    assert current < 4e6
  finally:
    tracemalloc.stop()


def test_small_records_are_kept_in_memory(load, root, digits):
  stored = digits.open("plain", "train")._records
  assert stored[3] is stored[3] and digits.open("plain", "test")._records is stored
  pixels = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
  Image.fromarray(pixels).save(root / "ink" / "cat" / "large.png")
  stored = load().open("ink", "train")._records
  assert stored[3] is not stored[3]


def test_map_ahead():
  started = []

  def function(item):
    started.append(item)
    return item * item
  mapped = preparation._map_ahead(function, range(100), 3)
  assert next(mapped) == (0, 0)
  assert len(started) <= 7
  assert list(mapped) == [(i, i * i) for i in range(1, 100)]


def test_no_image_of_a_domain_can_be_read(load, root):
  for path in (root / "ink").rglob("*.png"):
    path.write_bytes(b"")
  with pytest.raises(UserError, match="domain 'ink' of data set 'folder' has no image that can be read"):
    load(on_error="skip")


def full_error(kind):
  if kind == "system":
    return OSError(errno.ENOSPC, "No space left on device")
  return RuntimeError("write() failed: No space left on device; writing /x.array_record; at byte 1048576")


@pytest.mark.parametrize("kind", ["system", "array_record"])
def test_full_disk(load, cache, monkeypatch, kind):
  write = records.Writer.write

  def full(self, record):
    if "/ink-" in str(self._folder):
      raise full_error(kind)
    write(self, record)
  with monkeypatch.context() as patch:
    patch.setattr(records.Writer, "write", full)
    with pytest.raises(UserError, match=rf"the disk is full while preparing data in {cache}/folder/ink-\w+: free some "
                                        "space there or set config.data.cache_dir to a larger disk.*domains are kept"):
      load()
  assert prepared(cache) == ["clay"] and not list(cache.rglob("incomplete-*"))
  assert load().splits["ink"]["train"] == 6


def test_disk_known_to_be_too_small(load, cache, monkeypatch):
  monkeypatch.setattr(preparation.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(1, 1, 10))
  with pytest.raises(UserError, match="the disk is full"):
    load()
  assert not prepared(cache)


def test_cache_that_cannot_be_written(load, tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(UserError, match=r"cannot write prepared data to .*config\.data\.cache_dir"):
    load(cache_dir=str(tmp_path / "file"))


def test_cache_dir_defaults(config, monkeypatch, tmp_path):
  monkeypatch.setenv("DGJAX_CACHE", str(tmp_path / "env"))
  assert preparation.cache_dir(config("digits", cache_dir="")) == tmp_path / "env"
  assert preparation.cache_dir(config("digits", cache_dir=str(tmp_path))) == tmp_path
  monkeypatch.delenv("DGJAX_CACHE")
  monkeypatch.setenv("HOME", str(tmp_path))
  assert preparation.cache_dir(config("digits", cache_dir="")) == tmp_path / ".cache" / "dgjax"


def test_killed_while_preparing(load, root, cache):
  program = textwrap.dedent(f"""
    import time
    from ml_collections import ConfigDict
    from dgjax import data
    from dgjax.data.builders import folder
    read = folder.Folder.read
    def slow(self, example):
      if example.name == "ink/dog/003.png":
        print("reading", flush=True)
        time.sleep(60)
      return read(self, example)
    folder.Folder.read = slow
    data.load(ConfigDict(data.defaults("folder") | {{"dir": {str(root)!r}, "cache_dir": {str(cache)!r}}}), 0)
    """)
  process = subprocess.Popen(
    [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
  assert process.stdout.readline() == "reading\n"
  process.send_signal(signal.SIGKILL)
  process.wait()
  process.stdout.close()
  assert prepared(cache) == ["clay"]
  assert list(cache.rglob("incomplete-*"))  # half-written, and never read:
  dataset = load()
  assert prepared(cache) == list(DOMAINS) and not list(cache.rglob("incomplete-*"))
  assert len(list(dataset.open("ink", "train"))) == 6


def test_a_second_one_waits_and_reuses(load, reads, monkeypatch):
  counted = folder.Folder.read
  monkeypatch.setattr(folder.Folder, "read", lambda self, example: (time.sleep(0.01), counted(self, example))[1])
  results, threads = [], []
  for _ in range(3):
    threads.append(threading.Thread(target=lambda: results.append(load().splits)))
    threads[-1].start()
  for thread in threads:
    thread.join()
  assert len(results) == 3 and results[0] == results[1] == results[2]
  assert len(reads) == 36


@pytest.mark.parametrize("held", [0, records.HELD_STORE_BYTES])
def test_many_shards(load, monkeypatch, cache, held):
  monkeypatch.setattr(records, "SHARD_BYTES", 300)
  monkeypatch.setattr(records, "HELD_STORE_BYTES", held)
  dataset = load(val_fraction=0.0, test_fraction=0.0)
  assert len(list(cache.glob("folder/ink-*/*/*.array_record"))) > 2
  colours = [int(example["image"][0, 0, 0]) for example in dataset.open("ink", "train")]
  assert colours == list(range(12, 24))


def test_odd_names(config, tmp_path, draw):
  root = draw(tmp_path / "root", domains=("a b", "ü-ñ"), classes=("x, y", "z\tw"))
  with open(os.fsencode(root / "a b" / "x, y") + b"/\xff.png", "wb") as file:
    Image.new("RGB", (4, 4)).save(file, "PNG")
  (root / "a b" / "x, y" / "new\nline.png").write_bytes(b"")
  dataset = data.load(config("folder", dir=str(root), cache_dir=str(tmp_path / "c"), on_error="skip"), 0)
  assert dataset.domains == ("a b", "ü-ñ") and dataset.classes == ("x, y", "z\tw")
  assert sum(dataset.splits["a b"].values()) == 13
  assert [name for name, _ in dataset.left_out["a b"]] == ["a b/x, y/new\nline.png"]


def flip(path):
  """Changes one bit: of the first image, or where there is none of the last byte."""
  content = bytearray(path.read_bytes())
  content[content.find(b"IHDR")] ^= 1
  path.write_bytes(content)


DAMAGE = {
  "records-00000.array_record": [flip, lambda path: path.write_bytes(path.read_bytes()[:100]), os.remove],
  "left_out.json": [os.remove, lambda path: path.write_text(""),
                    lambda path: path.write_text('[["ink/cat/000.png", "made up"]]')],
  "sha256.npy": [os.remove, lambda path: path.write_bytes(path.read_bytes()[:-9]), flip],
  "../seen.json": [os.remove, lambda path: path.write_text(""), lambda path: path.write_text("[1]")]}


@pytest.mark.parametrize("name,number,held", [
  *((name, i, records.HELD_STORE_BYTES) for name in DAMAGE for i in range(3)), ("records-00000.array_record", 0, 0)])
def test_damage_is_mended(load, cache, monkeypatch, caplog, name, number, held):
  monkeypatch.setattr(records, "HELD_STORE_BYTES", held)
  before = load(val_fraction=0.0, test_fraction=0.0)
  expected = pixels(before)
  (folder,) = [path for path in contents(cache) if path.parent.name.startswith("ink-")]
  DAMAGE[name][number](folder / name)
  for start in range(3):
    caplog.clear()
    after = load(val_fraction=0.0, test_fraction=0.0)
    assert pixels(after) == expected and after.digests == before.digests
    told = "damaged" in caplog.text
    flipped = name.startswith("records") and number == 0  # found out while reading, and remade at the next start
    assert told == (start < (2 if flipped else 1) and "seen" not in name)
  assert prepared(cache) == list(DOMAINS) and not list(cache.rglob("damaged"))


@pytest.mark.parametrize("change", [os.remove, lambda path: Image.new("RGB", (5, 5)).save(path)])
def test_a_damaged_record_whose_source_is_gone_is_named(load, root, cache, change):
  load()
  path = next(cache.glob("folder/ink-*/*/records-00000.array_record"))
  flip(path)
  source = load(val_fraction=0.0, test_fraction=0.0).open("ink", "train")
  change(root / "ink" / "cat" / "000.png")
  with pytest.raises(UserError, match=f"record 0 of the prepared data in {path.parent} cannot be read .*gone or has "
                                      "changed: run again to prepare the data anew") as error:
    source[0]
  assert "\n" not in str(error.value)
  assert source[1]["image"].shape == (11, 12, 3)


@pytest.mark.parametrize("held", [0, records.HELD_STORE_BYTES])
def test_a_file_that_is_cut_while_it_is_read(load, cache, monkeypatch, held):
  monkeypatch.setattr(records, "HELD_STORE_BYTES", held)
  expected = pixels(load(val_fraction=0.0, test_fraction=0.0))
  dataset = load(val_fraction=0.0, test_fraction=0.0)
  for path in cache.rglob("*.array_record"):
    os.truncate(path, 0)
  assert pixels(dataset) == expected


def test_a_cache_that_can_only_be_read(load, cache, monkeypatch):
  expected = pixels(load())

  def refuse(*arguments, **keys):
    raise PermissionError(errno.EACCES, "Permission denied")
  for name in ("write_text", "replace", "touch", "mkdir"):
    monkeypatch.setattr(preparation.Path, name, refuse)
  monkeypatch.setattr(preparation.os, "utime", refuse)
  assert pixels(load()) == expected
  for path in cache.glob("folder/*/seen.json"):
    path.unlink()
  assert pixels(load()) == expected
