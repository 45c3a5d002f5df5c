import os
import socket
import unicodedata

import pytest

from dgjax.data import files
from dgjax.errors import UserError

LITTER = ("._a.png", ".DS_Store", ".hidden", "__MACOSX", "Thumbs.db", "thumbs.db", "@eaDir", "desktop.ini", "Icon\r")
NFC, NFD = "caf\u00e9", "cafe\u0301"


@pytest.fixture
def odd(tmp_path):
  """A folder with a file, a folder, links to both, and all that is neither."""
  root = tmp_path / "odd"
  (root / "folder").mkdir(parents=True)
  (root / "a.png").write_bytes(b"a")
  (root / "linked.png").symlink_to(root / "a.png")
  (root / "other").symlink_to(root / "folder")
  (root / "broken.png").symlink_to("/nowhere/at/all.png")
  (root / "one.png").symlink_to(root / "two.png")
  (root / "two.png").symlink_to(root / "one.png")
  (root / "self").symlink_to(root)
  (root / "folder" / "up").symlink_to("..")
  (root / "null.png").symlink_to("/dev/null")
  os.mkfifo(root / "pipe.png")
  return root


FAULTS = {"broken.png": "a broken link to /nowhere/at/all.png", "null.png": "a device, not a file",
          "one.png": "a loop of links", "pipe.png": "a pipe, not a file", "two.png": "a loop of links",
          "self": "a link to a folder that it lies in"}


def test_listing(odd):
  found = files.listing(odd)
  assert [entry.name for entry in found.files] == ["a.png", "linked.png"]
  assert found.folders == ("folder", "other") == tuple(files.folders(odd))
  assert dict(found.faults) == FAULTS
  assert files.has_images(odd) and not files.has_images(odd / "folder")
  with pytest.raises(UserError, match=f"cannot look into folder {odd}/absent"):
    files.listing(odd / "absent")


def test_a_walk_ends_and_opens_nothing(odd):
  walked = {path.relative_to(odd).as_posix(): reason for path, reason in files.walk(odd)}
  assert walked == {"a.png": "", "linked.png": "", "folder/up": FAULTS["self"], **FAULTS}


def test_contents_of_regular_files_only(odd):
  assert files.contents(odd / "linked.png") == b"a"
  for name in ("broken.png", "null.png", "one.png", "pipe.png", "folder"):
    with pytest.raises(OSError, match=FAULTS.get(name, "a folder, not a file")):
      files.contents(odd / name)
  with pytest.raises(FileNotFoundError):
    files.contents(odd / "absent")
  assert files.absence(odd / "absent") == "does not exist" and not files.absence(odd / "a.png")
  assert files.absence(odd / "pipe.png") == "cannot be read (a pipe, not a file)"
  assert files.regular(odd / "folder") is None is files.regular(odd / "absent")
  with pytest.raises(UserError, match=f"cannot read {odd}/pipe.png"):
    files.regular(odd / "pipe.png")


def test_sockets_are_no_files(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)  # a socket's path must be short
  with socket.socket(socket.AF_UNIX) as listener:
    listener.bind("s.png")
    assert files.fault(tmp_path / "s.png") == "a socket, not a file"


@pytest.mark.parametrize("name", LITTER)
def test_litter_is_not_seen(tmp_path, name):
  for place in (tmp_path / "as_file" / name, tmp_path / "as_folder" / name / "x.png"):
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(b"")
  for place in ("as_file", "as_folder"):
    assert files.listing(tmp_path / place) == ((), (), ()) and not list(files.walk(tmp_path / place))
  assert not files.is_litter("photo") and not files.is_litter("_background_noise_")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_in_the_encodings_people_have(tmp_path, encoding, end):
  text = end.join([f"{NFC}/a b.png 1", "", "  c.png\t2  ", "\x0cd.png 3"])
  (tmp_path / "list.txt").write_bytes(text.encode(encoding))
  found = list(files.lines(tmp_path / "list.txt"))
  assert found == [(1, f"{NFC}/a b.png 1"), (3, "c.png\t2"), (4, "d.png 3")]
  assert [files.split_label(line) for _, line in found] == [(f"{NFC}/a b.png", "1"), ("c.png", "2"), ("d.png", "3")]
  assert files.split_label("alone") == ("", "")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_other_encodings_are_refused_by_name(tmp_path, encoding):
  path = tmp_path / "list.txt"
  path.write_bytes("photo/dog/1.png 1\n".encode(encoding))
  with pytest.raises(UserError, match=f"{path} is UTF-16.*: save it as UTF-8"):
    list(files.lines(path))
  path.write_bytes(b"\x89PNG\r\n\x1a\n \0 some other file, of bytes")
  with pytest.raises(UserError, match=f"{path} is no text: save it as UTF-8"):
    list(files.lines(path))


def test_a_name_that_is_not_utf8_finds_its_file(tmp_path):
  name = b"caf\xe9.png"
  with open(os.path.join(os.fsencode(tmp_path), name), "wb"):
    pass
  (tmp_path / "list.txt").write_bytes(name + b" 1\n")
  (_, line), = files.lines(tmp_path / "list.txt")
  assert files.spelt(tmp_path, files.split_label(line)[0]) == os.fsdecode(name)


def test_spellings_of_a_path(tmp_path):
  for name in ("a\\b.png", f"{NFD}/x.png", "c/d.png"):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"")
  assert files.spelt(tmp_path, "a\\b.png") == "a\\b.png" and files.spelt(tmp_path, "c\\d.png") == "c/d.png"
  assert files.spelt(tmp_path, f"{NFC}\\x.png") == f"{NFD}/x.png" and files.spelt(tmp_path, "absent") is None


def test_names_that_differ_in_the_normal_form_alone(tmp_path):
  assert files.by_normal_name(tmp_path, [NFD, "b"]) == {NFC: NFD, "b": "b"}
  assert unicodedata.normalize("NFC", NFD) == NFC
  with pytest.raises(UserError, match=r"holds 'cafe\\u0301' and 'caf\\xe9', which differ in nothing but"):
    files.by_normal_name(tmp_path, [NFD, NFC])


def test_the_folder_below_that_fits(tmp_path):
  (tmp_path / "a" / "b" / "c").mkdir(parents=True)
  (tmp_path / "a" / "z").mkdir()
  assert files.below(tmp_path, lambda place: (place / "b").is_dir()) == tmp_path / "a"
  assert files.below(tmp_path, lambda place: (place / "c").is_dir()) == tmp_path / "a" / "b"
  assert files.below(tmp_path, lambda place: place.name == "c") is None  # three levels


def test_files_are_counted_by_suffix():
  assert files.counted(["x/a.txt", "b.TXT", "c"]) == "3 (.txt: 2, no suffix: 1), the first: x/a.txt"


def test_a_notice_is_said_once(caplog):
  files.say_once.cache_clear()
  for _ in range(2):
    files.say_once("100% of it")
  assert [record.message for record in caplog.records] == ["100% of it"]
