import pathlib

import pytest

from dgjax.errors import UserError
from dgjax.files import read_json, write_atomically


def test_what_is_written_is_read(tmp_path):
  write_atomically(tmp_path / "a.json", {"x": [1, 2.5, None], "ü": "∑"})
  assert read_json(tmp_path / "a.json", "a test", {"x": list}) == {"x": [1, 2.5, None], "ü": "∑"}
  assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("content,told", [
    (b"", "it is empty"), (b" \n", "it is empty"), (b'{"x": 1,\n"y', "line 2 is no JSON"), (b"\xff{", "it is no JSON"),
    (b"[1]", "it holds no object but list"), (b'{"x": 1}', "it has no 'y'"),
    (b'{"x": "1"}', "its 'x' is of the type str"), (b'{"x": 1, "y": {"a": 3}}', "its 'y/a' is of the type int"),
    (b'{"x": 1, "y": {"a": {}, "b": {"z": []}}}', "its 'y/b/z' is of the type list"),
    (b"[" * 100_000, "it is no JSON")])
def test_a_damaged_file_is_named(tmp_path, content, told):
  path = tmp_path / "config.json"
  path.write_bytes(content)
  with pytest.raises(UserError) as error:
    read_json(path, "the settings of the run", {"x": int, "y": {"*": {"z": (int, type(None))}}})
  message = str(error.value)
  assert message.startswith(f"{path}, the settings of the run, is damaged ({told})") and "\n" not in message


def test_a_file_that_cannot_be_read_or_written_is_named(tmp_path):
  with pytest.raises(UserError, match="cannot read .*config.json, the settings .No such file"):
    read_json(tmp_path / "config.json", "the settings")
  with pytest.raises(UserError, match="cannot read .*the settings .Is a directory"):
    read_json(tmp_path, "the settings")
  with pytest.raises(UserError, match="cannot write .*absent/a.json .No such file"):
    write_atomically(tmp_path / "absent" / "a.json", {})
  with pytest.raises(UserError, match="is no name of a file"):
    write_atomically(pathlib.Path(), {})


@pytest.mark.skipif(not pathlib.Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_leaves_the_old_contents(tmp_path):
  path = tmp_path / "a.json"
  write_atomically(path, {"x": 1})
  (tmp_path / "a.json.partial").symlink_to("/dev/full")
  with pytest.raises(UserError, match="cannot write .*a.json .No space left on device"):
    write_atomically(path, {"x": 2})
  assert read_json(path, "a test") == {"x": 1}
