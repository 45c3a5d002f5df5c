"""What all commands share: libraries are kept off the terminal, and an error becomes one line and an exit status.

Nothing heavy is imported here, so that an error during the import of JAX is reported in the same way.
"""

import errno
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from dgjax import libraries, peers
from dgjax.errors import UserError, printable

VERBOSE = "--verbosity=1"
# Resources that can run out: patterns of error texts, numbers of the system's errors, and the way out.
_LACKS = (
    (r"start new thread|pthread_create|system_error|Resource temporarily unavailable", (errno.EAGAIN,),
     "no thread or process could be started ({}): allow more of them (ulimit -u) and more memory (ulimit -v), or set "
     "NPROC and config.data.threads lower"),
    (r"Too many open files", (errno.EMFILE, errno.ENFILE),
     "too many files are open ({}): allow more (ulimit -n 4096), and start the same command again"),
    (r"MemoryError|RESOURCE_EXHAUSTED|[Oo]ut of memory|bad_alloc|suballocation|Cannot allocate memory|"
     r"failed to map segment",
     (errno.ENOMEM,),
     "there is no memory left ({}): lower config.batch_size or config.eval_batch_size, or allow the process more "
     "(ulimit -v, the limit of the job or container)"))


class Formatter(logging.Formatter):
  """Formats records with their time, and without terminal escapes."""

  def format(self, record: logging.LogRecord) -> str:
    """The line, or lines, of a record."""
    return printable(super().format(record))


def run(command: Callable[[Sequence[str]], int | None], argv: Sequence[str] | None = None) -> int:
  """Runs a command. An error becomes one line on stderr, or is raised under --verbosity=1.

  Args:
    command: a function of the arguments that returns the exit status, None for 0.
    argv: the arguments. None: those of the process. The process is then the command's own, and becomes `quiet`.

  Returns:
    The exit status: the command's; 1 after an error; 130 after Ctrl-C.
  """
  arguments = [*(sys.argv[1:] if argv is None else argv)]
  verbose = VERBOSE in arguments
  if verbose:
    arguments.remove(VERBOSE)
  elif argv is None:
    quiet()
  try:
    status = command(arguments) or 0
    sys.stdout.flush()
    return status
  except KeyboardInterrupt:
    return 130
  except BrokenPipeError:  # the reader of the output has seen enough, as in `dgjax list | head`
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
  except Exception as error:
    if verbose:
      raise
    return fail(error)


def is_verbose() -> bool:
  """Whether the user asked for tracebacks and for the logs of libraries."""
  from absl import logging as absl_logging
  return absl_logging.get_verbosity() >= absl_logging.DEBUG


def quiet() -> None:
  """Lets only dgjax write to the terminal. It is for a command, whose process is its own.

  Warnings and log lines of libraries are dropped. Output of compiled libraries and tracebacks of threads are kept for
  the line that says why a library ended the process.
  """
  from absl import logging as absl_logging
  absl_logging.use_absl_handler()  # added now, because absl's `app.run` would add it later
  logging.getLogger().handlers = [logging.NullHandler()]
  warnings.simplefilter("ignore")  # such as JAX's of a cache that cannot be written
  logging.captureWarnings(True)  # warnings that a library lets through by its own filters
  libraries.quiet(lambda text: with_way_out(peers.explain(text)))
  show(logging.WARNING)


def show(level: int) -> None:
  """Shows dgjax's log on stderr, from a level on."""
  handler = logging.StreamHandler()
  handler.setFormatter(Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
  logger = logging.getLogger("dgjax")
  logger.handlers, logger.propagate = [handler], False
  logger.setLevel(level)


def fail(error: BaseException) -> int:
  """Reports an error in one line on stderr. Other processes of the run are told, but not waited for.

  Returns:
    The exit status, 1.
  """
  if isinstance(error, UserError):
    line = str(error)
  elif isinstance(error, FileNotFoundError) and not error.filename:  # of os.getcwd()
    line = "the folder that the command was started in is gone: change to another"
  else:
    where = getattr(error, "__notes__", [f"{VERBOSE} shows where"])[-1]
    said = f"{type(error).__name__}: {error}"
    line = with_way_out(said, getattr(error, "errno", None))
    if line == said and isinstance(error, OSError) and error.filename:
      line = f"cannot use {error.filename} ({error.strerror}): see that it is there and may be used, or name another"
    line = f"{line} ({where})"
  line = " ".join(line.split())
  parallel = sys.modules.get("dgjax.parallel")  # otherwise there are no other processes
  if parallel:
    line = parallel.failed(error, line)
  print(f"error: {printable(line)}", file=sys.stderr, flush=True)
  if parallel:
    parallel.leave_others(1)
  return 1


def with_way_out(text: str, number: int | None = None) -> str:
  """The text of an unexpected error. If memory, threads or files ran out, it includes what to do.

  Args:
    text: the error's text.
    number: the system's number of the error, if it has one.
  """
  for pattern, numbers, line in _LACKS:
    if number in numbers or re.search(pattern, text):
      return line.format(" ".join(text.split()).rstrip(": ")[:200])
  return text


def tell_early() -> None:
  """Makes any error from here on, even in an import, one line unless --verbosity=1 is given."""
  def hook(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    if VERBOSE in sys.argv or not issubclass(kind, Exception):
      sys.__excepthook__(kind, error, trace)
    else:
      fail(error)

  sys.excepthook = hook
