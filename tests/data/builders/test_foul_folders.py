"""Folders as people have them, the same kinds of fault in every data set that is read from files."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from dgjax import data
from dgjax.data import files
from dgjax.data.builders import fonts
from dgjax.errors import UserError

NFC, NFD = "caf\u00e9", "cafe\u0301"
CLASSES = {"office31": [f"c{i:02d}" for i in range(31)], "visda2017": [f"c{i:02d}" for i in range(12)]}
DOMAINS = {"office31": ("amazon", "dslr", "webcam"), "visda2017": ("train", "validation")}
# data set -> a folder of examples below its root, the suffix of a readable one, that of a foreign one
PLACES = {"folder": ("ink/cat", ".png", ".heic"), "handwriting": ("ink/cat", ".png", ".HEIC"),
          "office31": ("amazon/c03", ".png", ".cr2"), "visda2017": ("train/c03", ".png", ".svg"),
          "speech_commands": ("go", ".wav", ".mp3"), "noise": ("_background_noise_", ".wav", ".flac")}


@pytest.fixture(scope="module")
def roots(tmp_path_factory, draw, listed, commands):
  """A sound root of each data set; tests copy it."""
  made = {}
  for name in ("folder", "handwriting", "office31", "visda2017", "pacs", "speech_commands", "fonts"):
    root = tmp_path_factory.mktemp("sound") / "DATA" / name
    if name == "pacs":
      listed(root)
    elif name == "speech_commands":
      commands(root)
    elif name == "fonts":
      (root / "more").mkdir(parents=True)
      for place in ("cmr10.ttf", "cmb10.ttf", "more/DejaVuSans.ttf"):
        shutil.copy(fonts.bundled() / os.path.basename(place), root / place)
    else:
      draw(root, lambda domain, label: 2, DOMAINS.get(name, ("clay", "ink", "wool")), CLASSES.get(name, ("cat", "dog")))
    made[name] = root
  return made


@pytest.fixture(autouse=True)
def _said():
  files.say_once.cache_clear()


@pytest.fixture
def copy(roots, tmp_path):
  def make(name):
    return shutil.copytree(roots[name].parent, tmp_path / "DATA") / name
  return make


@pytest.fixture
def layout(config):
  def make(name, root, **keys):
    keys = {"characters": "0123456789"} | keys if name == "fonts" else keys
    return data.find(name).builder(config(name, dir=str(root), **keys))
  return make


def examples(layout):
  stores = dict.fromkeys(map(layout.store, layout.domains))
  return [(store, e.name, e.label, e.splits) for store in stores for e in layout.examples(store)]


@pytest.mark.parametrize("name", ["folder", "handwriting", "office31", "visda2017", "pacs", "speech_commands", "fonts"])
def test_litter_is_nobodys(copy, layout, name):
  root = copy(name)
  before = layout(name, root)
  wanted = before.domains, before.classes, examples(before)
  for folder in [root, *(path for path in root.rglob("*") if path.is_dir())]:
    some = [path for path in folder.iterdir() if path.is_file()]
    for path in some[:1]:
      shutil.copy(path, folder / f"._{path.name}")
      for litter in ("__MACOSX", "@eaDir", ".cache"):
        (folder / litter).mkdir()
        shutil.copy(path, folder / litter)
        (folder / litter / "cat").mkdir()
        shutil.copy(path, folder / litter / "cat")
    (folder / ".Trashes").mkdir()
    for litter in (".DS_Store", "Thumbs.db", "desktop.ini", "._cat", "._x.ttf"):
      (folder / litter).write_bytes(b"\0\5\x16\7")
  after = layout(name, root)
  assert (after.domains, after.classes, examples(after)) == wanted and not after.left_out


def spoil(path, kind):
  if kind == "broken link":
    path.symlink_to("/nowhere/at/all")
  elif kind == "loop of links":
    path.symlink_to(path)
  elif kind == "pipe":
    os.mkfifo(path)
  elif kind == "device":
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("name", PLACES)
@pytest.mark.parametrize("kind", ["broken link", "loop of links", "pipe", "device", "format that is not read here"])
def test_what_cannot_be_used_is_named_or_listed(copy, layout, name, kind):
  place, readable, foreign = PLACES[name]
  name = "speech_commands" if name == "noise" else name
  root = copy(name)
  wanted = examples(layout(name, root))
  path = root / place / f"0000000f_nohash_9{foreign if kind.startswith('format') else readable}"
  if kind.startswith("format"):
    path.write_bytes(b"some")
  else:
    spoil(path, kind)
  with pytest.raises(UserError, match=rf"cannot read \w+ {path} \(a {kind}.*\): replace or remove the file, or"):
    examples(layout(name, root))
  skipping = layout(name, root, on_error="skip")
  assert examples(skipping) == wanted
  (left_out, reason), = (one for found in skipping.left_out.values() for one in found)
  assert left_out == path.relative_to(root).as_posix() and kind in reason


@pytest.mark.parametrize("kind", ["broken link", "loop of links", "pipe", "device", "no font"])
def test_fonts_that_cannot_be_used(copy, layout, kind):
  root = copy("fonts")
  wanted = examples(layout("fonts", root))
  path = root / "more" / "Odd.otf"
  if kind == "no font":
    path.write_bytes(b"no font at all")
  else:
    spoil(path, kind)
  with pytest.raises(UserError, match=f"cannot read font {path} .*: replace or remove the file, or set config"):
    layout("fonts", root)
  skipping = layout("fonts", root, on_error="skip")
  assert examples(skipping) == wanted and [name for name, _ in skipping.left_out["fonts"]] == ["more/Odd.otf"]


@pytest.mark.parametrize("name", ["folder", "handwriting", "office31", "visda2017", "speech_commands"])
def test_what_is_not_looked_at_is_counted_and_said(copy, layout, caplog, name):
  root = copy(name)
  place, readable, _ = PLACES[name]
  wanted = examples(layout(name, root))
  (root / place / "deeper" / "still").mkdir(parents=True)
  for one in ("deeper/a", "deeper/still/b"):
    (root / place / f"{one}{readable}").write_bytes(b"")
  for one in ("notes.txt", "noname", "x.xml"):
    (root / place / one).write_bytes(b"")
  found = layout(name, root)
  assert examples(found) == wanted and not found.left_out
  said = [record.message for record in caplog.records if "Not looked at" in record.message]
  assert len(said) == 1 and f"{root} for {name}/" in said[0] and ": 5 (" in said[0] and ".xml: 1" in said[0]


@pytest.mark.parametrize("name", ["handwriting", "speech_commands"])
def test_what_may_have_been_a_group_is_named(copy, layout, caplog, name):
  root = copy(name)
  wanted = examples(layout(name, root))
  (root / "gone").symlink_to("/nowhere")
  (root / f"beside{PLACES[name][1]}").write_bytes(b"")
  with pytest.raises(UserError, match=f"{root}/gone is a broken link to /nowhere: mend or remove it, or set"):
    layout(name, root)
  skipping = layout(name, root, on_error="skip")
  assert examples(skipping) == wanted and [[one] for one, in skipping.left_out.values()] == [
      [("gone", f"{root}/gone is a broken link to /nowhere")]]
  assert f": 1 ({PLACES[name][1]}: 1), the first: beside" in caplog.text


def test_images_beside_the_folders_are_counted_and_said(copy, layout, caplog):
  root = copy("folder")
  for place in ("a.png", "ink/b.png", "ink/c.png"):
    shutil.copy(root / "ink" / "cat" / "000.png", root / place)
  examples(layout("folder", root))
  assert [record.message.partition("for folder/")[2] for record in caplog.records] == [
    "the root: 1 (.png: 1), the first: a.png", "ink: 2 (.png: 2), the first: ink/b.png"]


@pytest.mark.parametrize("suffix", [".jfif", ".JPE", ".avif", ".jp2", ".dib", ".pnm"])
def test_images_that_pillow_reads_are_read(copy, layout, suffix):
  forms = {".jfif": "JPEG", ".JPE": "JPEG", ".avif": "AVIF", ".jp2": "JPEG2000", ".dib": "DIB", ".pnm": "PPM"}
  root = copy("folder")
  Image.new("RGB", (9, 9)).save(root / "ink" / "cat" / f"x{suffix}", forms[suffix])
  for name in ("folder", "handwriting"):
    assert f"ink/cat/x{suffix}" in [example[1] for example in examples(layout(name, root))]


def test_domains_and_classes_that_are_no_folders(copy, layout):
  root = copy("folder")
  (root / "gone").symlink_to("/nowhere")
  with pytest.raises(UserError, match=f"{root}/gone is a broken link to /nowhere: mend or remove it, or set"):
    layout("folder", root)
  assert layout("folder", root, on_error="skip").domains == ("clay", "ink", "wool")
  (root / "gone").unlink()
  shutil.rmtree(root / "ink" / "cat")
  (root / "ink" / "cat").symlink_to(root)
  with pytest.raises(UserError, match=f"{root}/ink/cat is a link to a folder that it lies in: mend or remove it"):
    layout("folder", root)
  assert layout("folder", root, on_error="skip").classes == ("dog",)


def test_normal_forms_are_one_name(copy, layout):
  root = copy("folder")
  for domain, form in (("clay", NFC), ("ink", NFD), ("wool", NFD)):
    (root / domain / "cat").rename(root / domain / form)
  (root / "clay").rename(root / NFD)
  found = layout("folder", root)
  assert found.classes == (NFC, "dog") and found.domains == (NFC, "ink", "wool")
  assert {name for store, name, _, _ in examples(found) if store != "wool"} >= {f"{NFD}/{NFC}/000.png",
                                                                               f"ink/{NFD}/000.png"}
  shutil.copytree(root / "ink" / NFD, root / "ink" / NFC)
  with pytest.raises(UserError, match=r"holds 'cafe\\u0301' and 'caf\\xe9', which differ in nothing but Unicode's"):
    layout("folder", root)


@pytest.mark.parametrize(
  "name", ["folder", "handwriting", "office31", "visda2017", "pacs", "speech_commands", "mnist_mp"])
@pytest.mark.parametrize("levels", [-2, -1, 1])
def test_another_level_names_the_right_one(copy, layout, little_mnist, tmp_path, name, levels):
  if name == "mnist_mp":
    root = shutil.copytree(little_mnist, tmp_path / "DATA" / name)
    (root / "raw").mkdir()
  else:
    root = copy(name)
  inner = sorted(path for path in root.iterdir() if path.is_dir() and path.name != "splits")[0]
  wrong = {-2: root.parents[1], -1: root.parent, 1: inner}[levels]
  if name == "pacs" and levels == 1:
    assert layout(name, wrong).root == root  # lists beside it
    return
  with pytest.raises(UserError, match=rf"config\.data\.dir must be the folder that holds .*; {root} is such a folder: "
                                      rf"use config\.data\.dir={root}( to|;|$)"):
    layout(name, wrong)


def test_home_and_other_odd_paths(copy, layout, monkeypatch):
  root = copy("folder")
  monkeypatch.setenv("HOME", str(root.parent))
  assert layout("folder", "~/folder").root == root
  (root / "loop").symlink_to(root / "loop")
  for path, message in (("~nobody_at_all/x", "is no path that can be used"), (str(root / "loop"), "loop"),
                        (str(root / ("x" * 300)), "no path that can be used"), ("a\0b", "no path that can be used"),
                        (str(root / "ink" / "cat" / "000.png"), "is a file: point it at the folder")):
    with pytest.raises(UserError, match=f"config.data.dir.*{message}.*ROOT/DOMAIN/CLASS"):
      layout("folder", path)


def test_names_that_are_not_utf8(config, copy, tmp_path):
  root = copy("folder")
  odd = os.fsdecode(b"caf\xe9")
  for domain in ("clay", "ink", "wool"):
    (root / domain / "cat").rename(root / domain / odd)
  (root / "ink" / odd / "000.png").rename(root / "ink" / odd / f"{odd}.png")
  (root / "wool").rename(root / odd)
  loaded = data.load(config("folder", dir=str(root), cache_dir=str(tmp_path / "cache"), val_fraction=0.5), 0)
  assert loaded.domains == (r"caf\xe9", "clay", "ink") and loaded.classes == (r"caf\xe9", "dog")
  assert sum(loaded.splits[r"caf\xe9"].values()) == 4
  (root / "ink" / odd / f"{odd}.png").write_bytes(b"")
  with pytest.raises(UserError, match="cannot read image"):
    data.load(config("folder", dir=str(root), cache_dir=str(tmp_path / "cache")), 0)


@pytest.mark.parametrize("write", [
  lambda text: b"\xef\xbb\xbf" + text.encode(), lambda text: text.replace("\n", "\r\n").encode(),
  lambda text: text.replace(" ", "\t").encode(), lambda text: text.replace("/", "\\").encode(),
  lambda text: ("\n\n" + text.replace("\n", "  \n")).encode()])
def test_lists_in_the_forms_people_have(copy, layout, write):
  root = copy("pacs")
  wanted = examples(layout("pacs", root))
  for path in (root / "splits").iterdir():
    path.write_bytes(write(path.read_text()))
  assert examples(layout("pacs", root)) == wanted


def test_lists_that_cannot_be_used(copy, layout, caplog):
  root = copy("pacs")
  path = root / "splits" / "ink_crossval_kfold.txt"
  content = path.read_text()
  for spoilt, message in ((lambda: path.write_bytes(content.encode("utf-16")), f"{path} is UTF-16: save it as UTF-8"),
                          (lambda: os.mkfifo(path), rf"cannot read {path} \(a pipe, not a file\): replace the file"),
                          (lambda: path.symlink_to("/nowhere"), rf"cannot read {path} \(a broken link to /nowhere\)")):
    path.unlink()
    spoilt()
    with pytest.raises(UserError, match=f"{message}.*config.data.on_error=skip"):
      layout("pacs", root)
    assert layout("pacs", root, on_error="skip").domains == ("clay", "wool")
    assert "Left out domain ink" in caplog.records[-1].message
  path.unlink()
  path.write_text(f"\n{content}three words 9 x\n")
  with pytest.raises(UserError, match=f"{path} line 6: expected `path label`.*got 'three words 9 x': mend the line"):
    layout("pacs", root)
  skipping = layout("pacs", root, on_error="skip")
  assert len(skipping.examples("ink")) == 12 and skipping.left_out["ink"][0][0] == f"{path} line 6"


@pytest.mark.parametrize("kind", ["broken link", "loop of links", "pipe", "device"])
def test_listed_files_that_cannot_be_used(copy, layout, kind):
  root = copy("pacs")
  path = root / "ink" / "dog" / "001.png"
  path.unlink()
  spoil(path, kind)
  with pytest.raises(UserError, match=rf"line \d+ names {path}, which cannot be read \(a {kind}.*\): fetch the file"):
    examples(layout("pacs", root))
  skipping = layout("pacs", root, on_error="skip")
  assert len(examples(skipping)) == 35 and skipping.left_out["ink"][0][0] == "ink/dog/001.png"


@pytest.mark.parametrize("lists", ["splits", "splits_mst", "."])
@pytest.mark.parametrize("images", ["images", "PACS", "."])
def test_dassls_and_other_layouts_are_recognised(copy, layout, lists, images):
  root = copy("pacs")
  wanted = examples(layout("pacs", root))
  for domain in ("clay", "ink", "wool"):
    (root / images).mkdir(exist_ok=True)
    (root / domain).rename(root / images / domain)
  if lists != "splits":
    (root / lists).mkdir(exist_ok=True)
    for path in list((root / "splits").iterdir()):
      path.rename(root / lists / path.name)
    (root / "splits").rmdir()
  found = layout("pacs", root)
  assert examples(found) == wanted and found.root == (root / images).resolve()
  if images != ".":
    assert examples(layout("pacs", root / images)) == wanted  # one level too deep


def test_photographs_that_cannot_be_used(copy, layout, little_mnist, tmp_path):
  photographs = tmp_path / "photographs"
  photographs.mkdir()
  Image.fromarray(np.full((40, 50, 3), 200, np.uint8)).save(photographs / "sound.png")
  for place in ("._sound.png", "Thumbs.db"):
    (photographs / place).write_bytes(b"")
  keys = {"domains": "mnist,mnist_m", "photographs": str(photographs)}
  made = layout("digit_five", little_mnist, **keys)
  wanted = made.read(made.examples("mnist_m")[3])
  (photographs / "broken.jpg").symlink_to("/nowhere")
  with pytest.raises(UserError, match=f"cannot read photograph {photographs}/broken.jpg .*: replace or remove"):
    layout("digit_five", little_mnist, **keys)
  (photographs / "damaged.jpg").write_bytes(b"no photograph")
  Image.new("RGB", (9, 9)).save(photographs / "small.png")
  skipping = layout("digit_five", little_mnist, on_error="skip", **keys)
  assert skipping.read(skipping.examples("mnist_m")[3]) == wanted
  assert [os.path.basename(name) for name, _ in skipping.left_out["mnist_m"]] == ["broken.jpg", "damaged.jpg",
                                                                                "small.png"]
  assert skipping.where(skipping.examples("mnist_m")[0]._replace(name=str(photographs / "small.png"))).endswith("l.png")


@pytest.mark.parametrize("name", ["train_32x32.mat", "usps_28x28.mat", "zip.train", "mnist_m_train_labels.txt"])
def test_published_files_that_are_broken_links(layout, tmp_path, name):
  (tmp_path / name).symlink_to("/nowhere")
  with pytest.raises(UserError, match=rf"cannot read {tmp_path}/{name} \(a broken link to /nowhere\)"):
    layout("digit_five", tmp_path)
