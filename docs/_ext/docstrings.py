"""Docstrings, which are plain text, as reStructuredText: what would be mark-up there is escaped."""

import re

CODE = re.compile(r"(`[^`\n]+`)")
MARKUP = re.compile(r"([*|\\]|(?<=\w)_(?!\w))")
ITEM = re.compile(r"^(\s*)- ")
NAMES = re.compile(r"^( +(?:\w+, )*\w+,)\n +((?:\w+, )*\w+: )", re.MULTILINE)  # of several arguments, on two lines


def escape(line: str) -> str:
  """One line: `code` becomes a literal, and characters that mean something elsewhere are escaped."""
  parts = CODE.split(line)
  return "".join(f"`{part}`" if i % 2 else MARKUP.sub(r"\\\1", part) for i, part in enumerate(parts))


def process(app, what, name, obj, options, lines: list[str]) -> None:
  """Rewrites a docstring in place; blank lines part lists and examples from the paragraphs around them."""
  written: list[str] = []
  item = None  # the indentation of the list's item that a line belongs to
  for line in NAMES.sub(r"\1 \2", "\n".join(lines)).split("\n"):
    starts, indent = ITEM.match(line), len(line) - len(line.lstrip())
    example = line.lstrip().startswith((">>>", "..."))
    parted = not written or not written[-1].strip()
    if not parted and ((starts and item is None) or (not starts and item is not None and indent <= item)
                       or (example and not written[-1].lstrip().startswith((">>>", "...")))):
      written.append("")
    item = indent if starts else None if not line.strip() or (item is not None and indent <= item) else item
    written.append(line if example else escape(line))
  lines[:] = written


def setup(app):
  """Connects the rewriting before napoleon's, which reads sections."""
  app.connect("autodoc-process-docstring", process, priority=100)
  return {"parallel_read_safe": True, "parallel_write_safe": True}
