"""Docstrings, which are plain text, as reStructuredText: what would be mark-up there is escaped."""

import re

CODE = re.compile(r"(`[^`\n]+`)")
MARKUP = re.compile(r"([*|\\]|(?<=\w)_(?!\w))")
ITEM = re.compile(r"^(\s*)- ")
KEYED = re.compile(r"^( +)(\w+): ")  # of a mapping that is returned, a key and what is under it
NAMES = re.compile(r"^( +(?:\w+, )*\w+,)\n +((?:\w+, )*\w+: )", re.MULTILINE)  # of several arguments, on two lines


def escape(line: str) -> str:
  """One line: `code` becomes a literal, and characters that mean something elsewhere are escaped."""
  parts = CODE.split(line)
  return "".join(f"`{part}`" if i % 2 else MARKUP.sub(r"\\\1", part) for i, part in enumerate(parts))


def list_keys(lines: list[str]) -> list[str]:
  """Makes a list of the keys that "Returns:" describes, a line or more for each."""
  if "Returns:" not in lines:
    return lines
  start = lines.index("Returns:") + 1
  end = next((i for i in range(start, len(lines)) if not lines[i].strip()), len(lines))
  keyed = [i for i in range(start, end) if (found := KEYED.match(lines[i])) and len(found[1]) == 2]
  if len(keyed) < 3:
    return lines
  return [KEYED.sub(r"\1- `\2`: ", line) if i in keyed else line for i, line in enumerate(lines)]


def process(app, what, name, obj, options, lines: list[str]) -> None:
  """Rewrites a docstring in place; blank lines part lists and examples from the paragraphs around them."""
  written: list[str] = []
  item = None  # the indentation of the list's item that a line belongs to
  for line in list_keys(NAMES.sub(r"\1 \2", "\n".join(lines)).split("\n")):
    starts, indent = ITEM.match(line), len(line) - len(line.lstrip())
    example = line.lstrip().startswith((">>>", "..."))
    parted = not written or not written[-1].strip()
    if not parted and ((starts and item is None) or (not starts and item is not None and indent <= item)
                       or (example and not written[-1].lstrip().startswith((">>>", "...")))):
      written.append("")
    item = indent if starts else None if not line.strip() or (item is not None and indent <= item) else item
    written.append(line if example else escape(line))
  if what in ("attribute", "data", "property"):
    written[:0] = ["..", ""]  # an empty comment, lest napoleon take the words before a colon for a type
  lines[:] = written


def setup(app):
  """Connects the rewriting before napoleon's, which reads sections."""
  app.connect("autodoc-process-docstring", process, priority=100)
  return {"parallel_read_safe": True, "parallel_write_safe": True}
