"""The log file of a run, in its folder: its log lines, and the traceback of an unexpected error."""

import contextlib
import logging
import pathlib
import sys
import time
import traceback
from collections.abc import Iterator

import jax

from dgjax.console import Formatter
from dgjax.errors import printable

NAME = "log.txt"

log = logging.getLogger("dgjax")


class _File(logging.FileHandler):
  """Appends to a file until that fails, and then says so once. The run goes on without it."""

  def handleError(self, record: logging.LogRecord) -> None:
    """Closes the log file if it cannot be written. Other errors are left to the caller."""
    if not isinstance(sys.exc_info()[1], OSError):
      super().handleError(record)
      return
    log.removeHandler(self)
    with contextlib.suppress(OSError):
      self.close()
    log.warning("no more log: cannot write %s", self.baseFilename)


@contextlib.contextmanager
def attach(folder: pathlib.Path) -> Iterator[None]:
  """Appends dgjax's log, from level INFO on, to `folder/log.txt` on process 0.

  If the program has set no level for the logger "dgjax", the level is INFO meanwhile, and handlers of the program see
  these records, too. If the file cannot be written, a warning says so and nothing else happens.
  """
  if jax.process_index() != 0:
    yield
    return
  try:
    handler = _File(folder / NAME, encoding="utf-8", errors="backslashreplace")
  except OSError as error:
    log.warning("no log: cannot write %s (%s)", folder / NAME, error.strerror)
    yield
    return
  handler.setFormatter(Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S"))
  level = log.level
  log.addHandler(handler)
  if level == logging.NOTSET:
    log.setLevel(logging.INFO)
  try:
    yield
  finally:
    log.setLevel(level)
    log.removeHandler(handler)
    with contextlib.suppress(OSError):
      handler.close()


def keep_traceback(folder: pathlib.Path, error: BaseException) -> pathlib.Path | None:
  """Appends the full traceback of an unexpected error to `folder/log.txt`. Any process may call this.

  Args:
    folder: of the run.
    error: as caught.

  Returns:
    The file, or None if it cannot be written. It raises nothing, because the error itself is to be reported.
  """
  path = folder / NAME
  try:
    lines = "".join(traceback.format_exception(error))
    with path.open("a", encoding="utf-8", errors="backslashreplace") as file:
      file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} process {jax.process_index()} ended with\n{printable(lines)}")
  except Exception:  # even making the message of an error can fail
    return None
  return path
