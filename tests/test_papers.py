"""docs/papers.md against the library: every file that it names is there, and every published table has its row."""

import importlib
import pathlib
import re

import pytest

from dgjax import config, reference
from dgjax.commands import main as dgjax_main
from dgjax.errors import UserError

ROOT = pathlib.Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "papers.md").read_text()
SECTIONS_TEXT = TEXT[TEXT.index("\n## "):]
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


SHORT = {"DIR": "--config.data.dir=FOLDER", "W": "--config.model.weights=FILE.safetensors"}


def commands():
  """Every whole command on the page, as words, its short forms written out."""
  spans = re.findall(r"`((?:RUN/|TABLE |ANALYSE\.|dgjax )[^`]+)`", SECTIONS_TEXT)
  return [[one for word in span.split() for one in braces(SHORT.get(word, word))] for span in dict.fromkeys(spans)]


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


def test_every_config_and_script_is_there():
  for name in {name for text in re.findall(r"`configs/(\w+\.py(?::[\w.,={}]+)?)", TEXT) for name in braces(text)}:
    config.load(str(ROOT / "configs" / name))
  for name in re.findall(r"benchmarks/\w+\.\w+", TEXT):
    assert (ROOT / name).is_file(), name


@pytest.mark.parametrize("words", commands(), ids=lambda words: " ".join(words)[:60])
def test_every_command_can_be_given(words, tmp_path, capsys, monkeypatch):
  """Its configs, keys and options are there; without runs and data no more can be asked."""
  monkeypatch.chdir(ROOT)
  overrides = [word for word in words if word.startswith("--config.")]
  if words[0].startswith("RUN/"):
    configs = [word.replace("RUN", "configs", 1) for word in words if word.startswith("RUN/")]
    others = set(words) - set(overrides) - {word.replace("configs", "RUN", 1) for word in configs}
    assert all(word.startswith("--workdir=") for word in others)
  elif words[0] == "TABLE":
    cut = words.index("--")
    configs = [word for word in words[1:cut] if not word.startswith("--")]
    assert set(words[cut + 1:]) == set(overrides)
    assert dgjax_main(["table", *words[1:cut], f"--workdir={tmp_path}", "--print", *words[cut:]]) == 0
  else:
    configs, folder = [], r"RUNS?\b|DIR1"  # which is what is wrong, and no option before it
    if words[0] == "dgjax":
      assert dgjax_main(words[1:]) == 1 and re.search(folder, capsys.readouterr().err)
    else:
      with pytest.raises(UserError, match=folder):
        importlib.import_module(words[0].replace("ANALYSE", "dgjax.analysis")).main(words[1:])
  for name in configs:
    config.check(config.load(name, overrides))
