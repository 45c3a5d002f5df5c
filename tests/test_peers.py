"""What a process makes of the signs of life and of the last words of others, with a store in memory."""

import subprocess
import sys
import threading

import pytest

from dgjax import peers
from dgjax.peers import Peers


class Store:
  """As the client of jax.distributed; `served` says whether process 0 is there."""

  def __init__(self):
    self.values, self.served = {}, True

  def key_value_set(self, key, value, allow_overwrite=False):
    if not self.served:
      raise RuntimeError("UNAVAILABLE")
    self.values[key] = value

  def key_value_try_get(self, key):
    return self.values[key]

  def key_value_dir_get(self, key):
    if not self.served:
      raise RuntimeError("UNAVAILABLE")
    return [(name, value) for name, value in self.values.items() if name.startswith(key)]


@pytest.fixture
def ended(monkeypatch):
  """What the watch ends its process with; the watch stops there."""
  found = []

  def end(self, message, status=1):
    found.append((status, message))
    self._stopped.set()

  monkeypatch.setattr(Peers, "_end", end)
  monkeypatch.setattr(peers, "BEAT", 0.01)
  monkeypatch.setattr(peers, "SILENT", 0.1)
  return found


def watch(store, index):
  one = Peers(store, index, 3)
  thread = threading.Thread(target=one._watch)
  thread.start()
  thread.join(20)
  assert not thread.is_alive()


def test_the_words_of_one_that_failed_end_the_others(ended):
  store = Store()
  Peers(store, 2, 3).fail("no room", known=True)
  watch(store, 1)
  [(status, message)] = ended
  assert status == 1 and message.startswith("process 2 of 3 (number ") and message.endswith(" failed: no room")


def test_the_words_of_another_are_passed_on_as_they_are():
  store = Store()
  assert Peers(store, 2, 3).fail("process 0 of 3 failed: no room", known=True) == "process 0 of 3 failed: no room"
  assert store.values["dgjax/failed/000002"] == "process 0 of 3 failed: no room"


def test_one_that_parts_is_not_missed_and_a_crowd_beats_slowly():
  store = Store()
  one = Peers(store, 1, 3)
  one.stop()
  assert store.values == {"dgjax/alive/1": "done"}
  store.values.clear()
  one.stop()
  assert not store.values and Peers(store, 0, 4 * peers.CROWD)._beat == 4 * one._beat == 4 * peers.BEAT


def test_one_that_is_silent_is_named_to_all(ended):
  store = Store()
  store.values |= {"dgjax/alive/1": "7 process 1 of 3", "dgjax/alive/2": "done"}
  watch(store, 0)
  assert ended[0] == (1, "process 1 of 3 has not answered for 0 s: it hangs, or its host is gone")
  assert store.values["dgjax/failed/000000"] == ended[0][1]


def test_without_process_0_there_is_no_store(ended):
  store = Store()
  store.served = False
  watch(store, 1)
  assert ended == [(1, "process 0, which all others need, is gone")]


def test_a_stop_before_the_first_step_ends_all_at_once(ended):
  store = Store()
  store.values[peers._NOTICE] = "2026"
  watch(store, 1)
  [(status, message)] = ended
  assert status == 75 and "stopped by SIGTERM" in message
  Peers(store, 2, 3).began()  # from here on the loop saves first
  assert store.values["dgjax/began"]
  ended.clear()
  store.values["dgjax/failed/000002"] = "process 2 of 3 failed: no room"  # which ends the watch, as the stop does not
  watch(store, 1)
  assert ended == [(1, "process 2 of 3 failed: no room")]


@pytest.mark.parametrize("others, cause", [
    ({"dgjax/alive/0": "5 process 0 of 3"}, "process 0 of 3 is gone"),
    ({"dgjax/alive/0": "done"}, "Gloo: connection reset"),
    ({"dgjax/alive/1": "5 process 1 of 3"}, "Gloo: connection reset"),  # itself, busy with failing
    ({"dgjax/alive/0": "5 process 0 of 3", "dgjax/failed/000000": "process 0 of 3 failed: no room"},
     "process 0 of 3 failed: no room")])
def test_a_library_s_error_is_traced_to_the_process_that_caused_it(ended, others, cause):
  store = Store()
  store.values |= others
  assert Peers(store, 1, 3).fail("Gloo: connection reset", known=False) == cause


@pytest.mark.parametrize("index, cause", [(1, "process 0, which all others need, is gone"), (0, "Gloo: reset")])
def test_a_store_that_is_gone_is_process_0_s_fault_for_all_others(ended, index, cause):
  store = Store()
  store.served = False
  assert Peers(store, index, 3).fail("Gloo: reset", known=False) == cause


def test_the_end_is_told_once_and_a_stop_is_no_error(monkeypatch, capsys):
  statuses = []
  monkeypatch.setattr(peers.os, "_exit", statuses.append)
  one = Peers(Store(), 1, 3)
  one._end("no \x1b room")
  one._end("again")  # as the main thread, or the first, is about to end the process
  Peers(Store(), 1, 3)._end("stopped by SIGTERM", 75)
  assert one._stopped.is_set() and statuses == [1, 75]
  assert capsys.readouterr().err == "error: no \\x1b room\nstopped by SIGTERM\n"


@pytest.mark.parametrize("text, line", [
    ("E1 The following tasks are unhealthy (stopped sending heartbeats):\n3\n", "process 3 of 1 has stopped answering"),
    ("F1126 client.h:80] Terminating process because the JAX distributed service detected fatal errors.", "process 0"),
    ("noise\nterminate called after throwing 'x'\n", "a library ended the process: terminate called after"),
    ("E1127 01:34:27.24    1221 manager.cc:148] Failed to satisfy suballocation request for 797",
     "a library ended the process: Failed to satisfy suballocation"),
    ("", "it does not say why")])
def test_a_library_s_last_words_become_one_line(text, line):
  assert line in peers.explain(text)


PROGRAM = """
import ctypes, os, sys
sys.path.insert(0, {root!r})
from dgjax import libraries
libraries.quiet(lambda text: f"told: {{text.splitlines()[-1]}}")
os.write(1, b"from a library\\n"); os.write(2, b"a log line\\nlast words\\n")
print("ours"); print("ours, too", file=sys.stderr)
{end}
"""


@pytest.mark.parametrize("end, status, told", [
    ("", 0, ""), ("sys.stdout.flush(); ctypes.CDLL(None).abort()", 1, "error: told: last words\n")])
def test_libraries_do_not_write_to_the_terminal(end, status, told, request):
  text = PROGRAM.format(root=str(request.config.rootpath), end=end)
  done = subprocess.run([sys.executable, "-S", "-c", text], capture_output=True, text=True, check=False)
  assert (done.returncode, done.stdout, done.stderr) == (status, "ours\n", "ours, too\n" + told)
