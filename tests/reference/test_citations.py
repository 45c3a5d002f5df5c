"""BibTeX: everything has its entries, and they are of the papers that the descriptions name."""

import json
import re

import pytest

from dgjax import commands, config
from dgjax.algorithms import ALGORITHMS
from dgjax.data import DATASETS
from dgjax.models import NETWORKS
from dgjax.reference import citations

TABLES = {"algorithm": (citations.METHODS, ALGORITHMS), "dataset": (citations.DATASETS, DATASETS),
          "network": (citations.NETWORKS, NETWORKS)}


@pytest.mark.parametrize("kind", TABLES)
def test_everything_has_its_entries(kind):
  known, registered = TABLES[kind]
  assert known.keys() == registered.keys()
  assert {key for keys in known.values() for key in keys} <= citations.ENTRIES.keys()


def test_every_entry_is_used_and_whole():
  added = [keys for _, _, keys in citations.OPTIONS]
  tables = [keys for known, _ in TABLES.values() for keys in known.values()]
  assert {key for keys in (*tables, *added) for key in keys} | {"dgjax"} == citations.ENTRIES.keys()
  for key, entry in citations.ENTRIES.items():
    assert {"title", "author", "year"} <= entry.fields.keys() and (key == "dgjax" or entry.fields["year"] in key), key
    text = entry.bibtex(key)
    assert text.startswith(f"@{entry.kind}{{{key},\n") and text.count("{") == text.count("}"), key


@pytest.mark.parametrize("kind,name", [(kind, name) for kind, (known, _) in TABLES.items() for name in known])
def test_entries_are_of_the_papers_that_descriptions_name(kind, name):
  known, registered = TABLES[kind]
  entries = [citations.ENTRIES[key].fields for key in known[name]]
  for author, year in re.findall(r"(\w+) (?:et al\.|and \w+),[^()]*?(\d{4})", registered[name][1]):
    assert any(author in entry["author"] and abs(int(entry["year"]) - int(year)) <= 1 for entry in entries), author


def test_a_run_is_cited_with_what_its_settings_add(tmp_path, capsys):
  for number, overrides in enumerate(([], ["--config.algorithm.base=mstn"])):
    folder = tmp_path / f"seed={number}"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config.load("digits:wemnet,subspace", overrides).to_dict()))
  assert commands.main(["cite", str(tmp_path)]) == 0
  printed = capsys.readouterr().out
  assert re.findall(r"^@\w+\{(\w+),", printed, re.MULTILINE) == [
      "lee2023wemnet", "li2021drt", "xie2018mstn", "alpaydin1998digits", "dgjax"]
  assert "% network smallnet: nothing is known to cite\n" in printed

  assert commands.main(["cite", str(tmp_path / "none")]) == 1
  assert "none is no folder of a run" in capsys.readouterr().err
