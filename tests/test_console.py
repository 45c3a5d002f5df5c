"""What every command does alike: one line for an error, and no library on the terminal."""

import os
import pathlib
import subprocess
import sys

import pytest

from dgjax import console
from dgjax.errors import UserError

ROOT = pathlib.Path(__file__).parents[1]


@pytest.mark.parametrize("error, told", [
    (UserError("mend\nthis"), "mend this"),
    (ValueError("two\nlines"), "ValueError: two lines (--verbosity=1 shows where)"),
    (FileNotFoundError(2, "No such file or directory"), "the folder that the command was started in is gone: change"),
    (NotADirectoryError(20, "Not a directory", "/a/b"), "cannot use /a/b (Not a directory): see that it is"),
    (MemoryError(), "there is no memory left (MemoryError): lower config.batch_size or config.eval_batch_size, or "),
    (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8589934592 bytes."),
     "there is no memory left (RuntimeError: RESOURCE_EXHAUSTED: Out of memory allocating 8589934592 bytes.): lower"),
    (ImportError("libjax_common.so: failed to map segment from shared object"), "there is no memory left (ImportError"),
    (OSError(24, "Too many open files", "/tmp/x"), "too many files are open (OSError: [Errno 24] Too many open files: "
     "'/tmp/x'): allow more (ulimit -n 4096)"),
    (RuntimeError("Failed to satisfy suballocation request for 797"), "there is no memory"),
    (RuntimeError("can't start new thread"), "no thread or process could be started (RuntimeError: can't start new"),
    (BlockingIOError(11, "Resource temporarily unavailable"), "no thread or process could be started (Blocking")])
def test_an_error_is_one_line_with_the_way_out(error, told, capsys):
  def command(arguments):
    raise error

  assert console.run(command, []) == 1
  out, err = capsys.readouterr()
  assert not out and err.startswith(f"error: {told}") and err.count("\n") == 1
  with pytest.raises(type(error)):
    console.run(command, [console.VERBOSE])


# A command whose libraries warn, log, write, and leave a thread and a finaliser behind that fail
NOISY = """
import logging, os, sys, threading, warnings
from dgjax import console

class Loop:
  def __del__(self):
    raise RuntimeError("Event loop is closed")

def fail():
  raise ValueError("in a thread")

def command(arguments):
  warnings.warn("a library's warning")
  with warnings.catch_warnings():
    warnings.simplefilter("always")
    warnings.warn("a warning with a filter of its own")
  logging.getLogger("jax").error("a library's log line")
  logging.getLogger("absl").error("another's")
  os.write(2, b"written by C++")
  thread = threading.Thread(target=fail)
  thread.start()
  thread.join()
  Loop()
  logging.getLogger("dgjax").warning("ours \\x1b[31m")
  print("a name \\x1b[31m \\udcff \\xe9")

sys.exit(console.run(command))
"""


@pytest.mark.parametrize("options, quiet", [([], True), ([console.VERBOSE], False)])
def test_libraries_do_not_reach_the_terminal(options, quiet):
  done = subprocess.run([sys.executable, "-c", NOISY, *options], capture_output=True, text=True, check=False, cwd=ROOT,
                        env={**os.environ, "PYTHONIOENCODING": "ascii" if quiet else "utf-8:backslashreplace"})
  assert done.returncode == 0
  if quiet:
    assert done.stderr[9:] == "ours \\x1b[31m\n" and done.stdout == "a name \\x1b[31m \\udcff \\xe9\n"
  else:
    assert "a library's warning" in done.stderr and "in a thread" in done.stderr


def test_an_error_while_the_program_is_imported_is_one_line():
  program = "from dgjax import console\nconsole.tell_early()\nraise MemoryError"
  for options in ((), (console.VERBOSE,)):
    done = subprocess.run([sys.executable, "-c", program, *options], capture_output=True, text=True, check=False,
                          cwd=ROOT)
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback") if options else done.stderr.count("\n") == 1
