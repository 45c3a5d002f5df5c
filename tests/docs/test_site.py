"""The site's pages against the library: every method has one, and every command, link and example on them works."""

import json
import pathlib
import re

import pytest

import dgjax
from dgjax import config
from dgjax.algorithms import ALGORITHMS
from dgjax.commands import COMMANDS

ROOT = pathlib.Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.glob("*.md"), *DOCS.glob("methods/*.md"), *DOCS.glob("api/*.md")])
GUIDES = [page for page in PAGES if page.stem not in ("results", "performance", "papers", "decisions", "reliability")]
SECTIONS = ["Equations", "Settings", "Metrics", "Paper and released code", "Configs", "Published numbers",
            "Measured here"]
PLACEHOLDER = re.compile(r"[A-Z0-9,]+|\w*NAME\w*")


def commands():
  """Every command of the guides that names a config: the page, the config and the `--config.KEY=VALUE` arguments."""
  found = []
  for page in GUIDES:
    for line in re.findall(r"(?:dgjax (?:train|search|table)|dgjax\.main|launch/\S+) [^`\n]*", page.read_text()):
      words = line.partition(" #")[0].split()
      names = [word.removeprefix("--config=") for word in words if word.startswith("--config=")]
      if line.startswith(("dgjax search", "dgjax table")):
        names += [word for word in words[2:] if re.fullmatch(r"[a-z_0-9]+(:[\w,=.]+)", word)]
      settings = [word for word in words if word.startswith("--config.")]
      found += [(page.name, name, settings) for name in names
                if not PLACEHOLDER.fullmatch(name.partition(":")[0]) and not name.startswith("runs/")]
  return found


@pytest.mark.parametrize("name", ["drt", *sorted(ALGORITHMS)])
def test_every_method_has_a_page(name):
  page = (DOCS / "methods" / f"{name}.md").read_text()
  assert [section for section in SECTIONS if f"\n## {section}\n" not in page] == []
  assert "**A healthy run.**" in page
  for directive in re.findall(r"\{method-(?!results)\w+\} (\w+)", page):
    assert directive == name
  assert f"\n{name}\n" in (DOCS / "methods" / "index.md").read_text()


def test_commands_of_the_guides_name_configs_and_settings_that_are_there(monkeypatch, tmp_path):
  for path in [ROOT / "configs", *(DOCS / "examples").glob("*.py")]:  # a folder where the reader has saved the examples
    (tmp_path / path.name).symlink_to(path)
  monkeypatch.chdir(tmp_path)
  found = commands()
  assert len(found) > 25
  for page, name, settings in found:
    try:
      loaded = config.load(name, [word for word in settings if not PLACEHOLDER.fullmatch(word.partition("=")[2])])
    except dgjax.UserError as error:
      pytest.fail(f"{page}, {name} {settings}: {error}")
    known = config.flatten(loaded)
    keys = {word.partition("=")[0].removeprefix("--config.").removeprefix("sweep.") for word in settings}
    assert keys <= known.keys(), (page, name)


def test_commands_are_words_of_the_command():
  for page in GUIDES:
    found = re.findall(r"^```bash\n(.*?)^```|`(dgjax [^`\n]+)`", page.read_text(), re.MULTILINE | re.DOTALL)
    code = "\n".join(block or span for block, span in found)
    for word in re.findall(r"^dgjax ([a-z]+)\b", code, re.MULTILINE):
      assert word in COMMANDS, (page.name, word)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_between_files_hold(page):
  text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
  for target in re.findall(r"\]\(([^)#\s]+)", text):
    assert target.startswith("https://") or (page.parent / target).exists(), target
  for target in re.findall(r"^```\{literalinclude\} (\S+)", page.read_text(), re.MULTILINE):
    assert (page.parent / target).exists(), target


@pytest.mark.parametrize("notebook", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_links_of_notebooks_hold_where_they_lie_and_on_the_site(notebook):
  cells = json.loads(notebook.read_text())["cells"]
  text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
  for target in re.findall(r"\]\(([^)#\s]+)", text):
    assert target.startswith("https://") or (notebook.parent / target).exists(), f"{target}: write ../docs/PAGE.md"


def test_readme_is_short_and_has_the_two_commands():
  lines = (ROOT / "README.md").read_text().splitlines()
  assert len(lines) < 120
  assert sum(bool(re.match("python3 -m venv .*pytest", line)) for line in lines) == 1
  assert any(re.match("python3 -m venv .*dgjax.main --config=configs/dmg_digits.py", line) for line in lines)


def test_examples_of_a_method_a_network_and_a_data_set(tmp_path):
  examples = DOCS / "examples"
  chosen = dgjax.load_config("digits:aggregate", {
      "algorithm.name": f"{examples}/irm.py:IRM", "model.name": f"{examples}/thinnet.py:thinnet",
      "data.name": f"{examples}/stripes.py:Stripes", "target": "blue", "steps": 2, "batch_size": 8})
  results = dgjax.train(chosen, workdir=tmp_path / "run")
  assert results["sources"] == ["red", "green"] and results["step"] == 2
  lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
  assert "train/penalty" in lines[0]

