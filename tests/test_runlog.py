import logging
import pathlib

import pytest

from dgjax import runlog
from dgjax.errors import UserError

log = logging.getLogger("dgjax")


def test_what_a_run_says_is_appended_with_its_time(tmp_path):
  for word in ("first", "second"):
    with runlog.attach(tmp_path):
      log.info("%s start of %s", word, "\x1b[31mred.png")
  log.warning("not of a run")
  first, second = (tmp_path / "log.txt").read_text().splitlines()
  assert first.endswith(r" INFO first start of \x1b[31mred.png") and first[:2] == "20" and "second" in second
  assert log.level == logging.NOTSET and not log.handlers


def test_the_level_of_a_program_is_respected(tmp_path, monkeypatch):
  monkeypatch.setattr(log, "level", logging.WARNING)
  log.manager._clear_cache()
  with runlog.attach(tmp_path):
    log.info("quiet")
  assert (tmp_path / "log.txt").read_text() == ""
  monkeypatch.undo()
  log.manager._clear_cache()


def test_a_log_that_cannot_be_written_keeps_no_run_from_going_on(tmp_path, caplog):
  (tmp_path / "log.txt").mkdir()
  with runlog.attach(tmp_path):
    log.warning("on")
  assert "no log: cannot write" in caplog.messages[0] and caplog.messages[1] == "on"
  assert runlog.keep_traceback(tmp_path, ValueError("x")) is None
  assert runlog.keep_traceback(tmp_path / "absent", ValueError("x")) is None


@pytest.mark.skipif(not pathlib.Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_ends_the_log_and_is_said_once(tmp_path, caplog, capfd):
  (tmp_path / "log.txt").symlink_to("/dev/full")
  with runlog.attach(tmp_path):
    log.info("one")
    log.info("two")
  assert sorted(caplog.messages) == [f"no more log: cannot write {tmp_path}/log.txt", "one", "two"]
  assert runlog.keep_traceback(tmp_path, ValueError("x")) is None
  assert not capfd.readouterr().err


class Nasty(Exception):
  def __str__(self):
    raise RuntimeError


def test_a_traceback_is_kept_whole(tmp_path):
  with runlog.attach(tmp_path):
    log.info("before")
  try:
    try:
      {}["\x1b[2J"]
    except KeyError as error:
      raise UserError("line") from error
  except UserError as error:
    assert runlog.keep_traceback(tmp_path, error) == tmp_path / "log.txt"
  text = (tmp_path / "log.txt").read_text()
  assert "before" in text and "KeyError" in text and "test_runlog.py" in text and text.endswith("UserError: line\n")
  assert "\x1b" not in text
  assert runlog.keep_traceback(tmp_path, Nasty()) is not None  # Python shows that it has no text
