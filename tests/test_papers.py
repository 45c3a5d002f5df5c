"""docs/papers.md against the library: every file that it names is there, and every published table has its row."""

import pathlib
import re

import pytest

from dgjax import config, reference

ROOT = pathlib.Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "papers.md").read_text()
SECTIONS = {text.partition(" ")[0].lower(): text for text in TEXT.split("\n## ")[1:]}


def rows(paper):
  """The cells of each row of a paper's section."""
  lines = [line for line in SECTIONS[paper].splitlines() if line.startswith("| ")]
  return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


def braces(text):
  """`a{b,c}` as `ab` and `ac`, as a shell has it."""
  match = re.search(r"\{([^{}]*)\}", text)
  if not match:
    return [text]
  return [one for part in match[1].split(",") for one in braces(text[:match.start()] + part + text[match.end():])]


def configs():
  """Every config that a command names, with its arguments."""
  found = re.findall(r"(?:configs/|RUN/)([\w]+\.py(?::[\w.,={}]+)?)", TEXT)
  return sorted({name for text in found for name in braces(text)})


@pytest.mark.parametrize("paper", reference.PAPERS)
def test_every_published_table_has_a_row(paper):
  text = SECTIONS[paper]
  assert {len(row) for row in rows(paper)} == {5}
  for number in reference.PAPERS[paper].TABLES:
    printed = number.split("-")[0]
    named = f"{paper}:{number}" in text or any(re.match(rf"Table {printed}\b", row[0]) for row in rows(paper))
    assert named, number
  for number in re.findall(rf"{paper}:([\w-]+)", text):
    reference.find_table(paper, number)


@pytest.mark.parametrize("paper", SECTIONS)
def test_every_row_says_how_it_stands(paper):
  for what, _, command, status, numbers in rows(paper):
    assert re.match("here|ready|drawing", status), what
    assert (command.startswith("none")) == (status == "drawing"), what
    assert numbers or not status.startswith("here") or "ANALYSE" in command or "Table 9" in command, what


def test_every_config_and_command_is_there():
  for name in configs():
    config.load(str(ROOT / "configs" / name))
  for name in re.findall(r"ANALYSE\.(\w+)", TEXT):
    assert (ROOT / "dgjax" / "analysis" / f"{name}.py").is_file(), name
