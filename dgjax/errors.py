"""Errors that a user can mend. Their message is one line that names what is wrong and the way out."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
  """Bad input. The command prints its message as one line on stderr and exits with status 1."""


def printable(text: str) -> str:
  """Makes a text safe to show on a terminal, for messages that name files or quote what is in them.

  Args:
    text: any text. It may hold names of files that are not UTF-8, as Python decodes them.

  Returns:
    The text with lines and tabs as they are, and every other character that is not printable (terminal escapes, marks
    that reorder text, bytes that are no text) written as Python writes it in a literal: `\\x1b`.
  """
  return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def nearest(name: str, known: Iterable[str]) -> str:
  """Says which known name `name` is closest to, or lists them all.

  Args:
    name: what the user wrote.
    known: the names that would have been right.

  Returns:
    A fragment to append to a message: ` (did you mean 'x'?)`, or ` (known: a, b, c)` when nothing is close.
  """
  known = sorted(known)
  close = difflib.get_close_matches(name, known, n=1)
  return f" (did you mean {close[0]!r}?)" if close else f" (known: {', '.join(known)})"
