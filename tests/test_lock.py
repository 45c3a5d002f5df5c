import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from dgjax import lock
from dgjax.errors import UserError
from dgjax.lock import FolderLock

# Holds a lock until its input ends; without flock where asked.
CHILD = """
import pathlib, sys
from dgjax import lock
if "lease" in sys.argv:
  lock._flock = lambda file: None
with lock.FolderLock(pathlib.Path(sys.argv[1])):
  print("held", flush=True)
  sys.stdin.read()
"""


@pytest.fixture
def quick(monkeypatch):
  for name, seconds in {"BEAT": 0.05, "STALE": 0.5, "SETTLE": 0.05}.items():
    monkeypatch.setattr(lock, name, seconds)


@pytest.fixture(params=["flock", "lease"])
def kind(request, monkeypatch, quick):
  """With the system's locks, and on a file system that has none."""
  if request.param == "lease":
    def refuse(*_):
      raise OSError(errno.ENOLCK, "No locks available")
    monkeypatch.setattr(lock.fcntl, "flock", refuse)
  elif lock.fcntl is None:
    pytest.skip("no fcntl")
  return request.param


def refused(folder):
  with pytest.raises(UserError) as caught, FolderLock(folder):
    pass
  return str(caught.value)


def test_a_second_start_is_refused_by_name_and_the_folder_free_afterwards(tmp_path, kind):
  with FolderLock(tmp_path) as held:
    time.sleep(2 * lock.STALE)  # renewed meanwhile
    message = refused(tmp_path)
    assert f"{tmp_path} is in use by process {os.getpid()} on host {os.uname().nodename} since 20" in message
    held.check()
  assert list(tmp_path.iterdir()) == []
  with FolderLock(tmp_path):
    pass


def test_the_lock_of_a_killed_process_is_not_in_the_way(tmp_path, kind):
  child = subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path), kind], stdin=subprocess.PIPE,
                           stdout=subprocess.PIPE, text=True)
  assert child.stdout.readline() == "held\n"
  assert f"process {child.pid} " in refused(tmp_path)
  os.kill(child.pid, signal.SIGKILL)
  os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, though its parent has not asked for its status
  begin = time.monotonic()
  with FolderLock(tmp_path):
    assert time.monotonic() - begin < lock.STALE
  child.communicate()


def elsewhere(folder, **changes):
  """Leaves the lock of a process on another machine."""
  with FolderLock(folder) as held:
    holder = {**held._holder, "host": "other", "process": 123, "since": "2026-01-02 12:03", "machine": "m", "id": "x"}
  (folder / lock.NAME).write_text(json.dumps({**holder, "beat": 0, **changes}))
  return folder / lock.NAME


def test_a_process_of_another_machine_is_watched(tmp_path, kind, caplog):
  path = elsewhere(tmp_path)
  ended = threading.Event()

  def work():
    beat = 0
    while not ended.wait(lock.BEAT):
      beat += 1
      path.write_text(path.read_text().replace(f'"beat": {beat - 1}', f'"beat": {beat}'))

  worker = threading.Thread(target=work)
  worker.start()
  try:
    assert "is in use by process 123 on host other since 2026-01-02 12:03" in refused(tmp_path)
  finally:
    ended.set()
    worker.join()
  begin = time.monotonic()
  with FolderLock(tmp_path):  # it has died
    assert lock.STALE <= time.monotonic() - begin < 4 * lock.STALE
  assert "waiting up to" in caplog.text


def test_a_process_with_the_number_of_a_dead_one_is_not_taken_for_it(tmp_path, monkeypatch, quick):
  monkeypatch.setattr(lock, "_flock", lambda _: None)
  holder = FolderLock(tmp_path)._holder
  elsewhere(tmp_path, machine=holder["machine"], process=os.getpid(), started="1")
  with FolderLock(tmp_path):
    pass
  elsewhere(tmp_path, machine=holder["machine"], process=os.getpid())
  assert "in use" in refused(tmp_path)


def test_what_stood_still_notices_that_it_lost_the_folder(tmp_path, quick):
  with FolderLock(tmp_path) as held:
    path = tmp_path / lock.NAME
    path.write_text(path.read_text().replace(held._holder["id"], "x"))
    with pytest.raises(UserError, match="was taken over by process"):
      held.check()
  assert path.exists()  # it is another's


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}"])
def test_a_lock_without_a_name_is_left_over(tmp_path, kind, content):
  (tmp_path / lock.NAME).write_bytes(content)
  with FolderLock(tmp_path):
    pass


def test_of_many_starts_at_once_one_works(tmp_path, kind):
  (tmp_path / lock.NAME).write_bytes(b"")
  held, told, ready, done = [], [], threading.Barrier(4), threading.Event()

  def start():
    ready.wait()
    try:
      with FolderLock(tmp_path):
        held.append(1)
        done.wait(10)
    except UserError as error:
      told.append(str(error))
      if len(told) == 3:
        done.set()

  threads = [threading.Thread(target=start) for _ in range(4)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert len(held) == 1 and len(told) == 3


def test_a_folder_that_cannot_be_locked_is_one_line(tmp_path):
  (tmp_path / "file").write_text("")
  assert "cannot lock" in refused(tmp_path / "file") and "Not a directory" in refused(tmp_path / "file")
  assert "No such file or directory" in refused(tmp_path / "absent")


def test_fcntl_is_not_needed(tmp_path, monkeypatch, quick):
  monkeypatch.setattr(lock, "fcntl", None)
  with FolderLock(tmp_path):
    assert "in use" in refused(tmp_path)
