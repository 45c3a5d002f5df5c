import json
import os
import pathlib
import subprocess
import sys

import pytest

from dgjax import config, main
from dgjax.analysis.results import build, read_runs
from dgjax.errors import UserError

ROOT = pathlib.Path(__file__).parents[1]


def run(*arguments):
  return subprocess.run([sys.executable, "-m", "dgjax.main", *arguments], cwd=ROOT, text=True, capture_output=True,
                        check=False, env={**os.environ, "XLA_FLAGS": ""})


def test_leave_one_domain_out(tmp_path):
  """The whole command: every target in turn, a table, figures; what is finished is not run again."""
  arguments = [f"--workdir={tmp_path}", "--config=configs/dmg_digits.py", "--config.steps=4",
               "--config.batch_size", "16"]
  first = run(*arguments)
  assert first.returncode == 0, first.stderr
  for target in ("plain", "inverted", "colour", "turned"):
    assert (tmp_path / target / "results.json").exists()
    assert (tmp_path / target / "figures" / "masks.png").read_bytes().startswith(b"\x89PNG")
    assert f"{target} unseen" in first.stdout
  assert "source_val" in first.stdout and "IoU" in first.stdout
  again = run(*arguments)
  assert again.stdout == first.stdout and "is finished" in again.stderr


@pytest.mark.parametrize("name,found", [
    ("digits_mp", ("coloured", "grey")), ("fonts", ("unseen",))])
def test_all_targets_are_those_that_can_be_one(name, found):
  settings = config.load(str(ROOT / "configs" / "dmg_digits.py"), [f"--config.data.name={name}"])
  if name == "fonts":
    settings.data.characters = "AB"
  assert main.transfers(settings) == [("", target, target) for target in found]
  settings.target = "one"
  assert main.transfers(settings) == [("", "one", "")]


def test_each_source_alone_with_each_target():
  settings = config.load("digits:dann", ["--config.sources=each"])
  names = ("plain", "inverted", "colour", "turned")
  found = main.transfers(settings)
  assert len(found) == 12 and {(run.sources, run.target) for run in found} == {
    (a, b) for a in names for b in names if a != b}
  assert found[0] == ("inverted", "plain", "inverted-to-plain") and len({run.folder for run in found}) == 12
  settings.target = "colour"
  assert [run.sources for run in main.transfers(settings)] == ["plain", "inverted", "turned"]
  settings.sources = "plain,turned"
  assert main.transfers(settings) == [("plain,turned", "colour", "")]


def test_a_source_each_runs_and_the_summary_names_both(tmp_path):
  """A run of each, what is finished is not run again, and a table with a column each."""
  arguments = [f"--workdir={tmp_path}", "--config=digits:aggregate", "--config.steps=2",
               "--config.batch_size=16", "--config.sources=each", "--config.target=plain"]
  first = run(*arguments)
  assert first.returncode == 0, first.stderr
  for source in ("inverted", "colour", "turned"):
    results = json.loads((tmp_path / f"{source}-to-plain" / "results.json").read_text())
    assert results["sources"] == [source] and results["target"] == "plain"
    assert f"--config.sources={source} --config.target=plain" in results["command"]
    assert f"{source}->plain" in first.stdout
  assert run(*arguments).stdout == first.stdout
  (table,) = build(read_runs(tmp_path)[0])
  assert table.columns == ("colour->plain", "inverted->plain", "turned->plain")
  assert table.mean_label == "mean of 3 of 12"


def test_an_error_is_one_line_and_status_1(tmp_path):
  result = run("--config=configs/dmg_pacs.py", f"--config.data.dir={tmp_path}/absent", f"--workdir={tmp_path}/run")
  assert result.returncode == 1 and result.stdout == ""
  assert result.stderr.count("\n") == 1 and f"{tmp_path}/absent" in result.stderr
  result = run("--config=configs/dmg_pacs.py", f"--config.data.dir={tmp_path}/absent", "--verbosity=1")
  assert result.returncode == 1 and "Traceback" in result.stderr


def test_listing_names_everything_with_its_paper():
  lines = main.listing().splitlines()
  assert any(line.split()[:2] == ["algorithm", "dmg"] and "ECCV 2020" in line for line in lines)
  assert any(line.split()[:2] == ["network", "resnet50"] for line in lines)
  assert any(line.split()[:2] == ["dataset", "pacs"] for line in lines)


def test_arguments_that_are_not_known(monkeypatch):
  with pytest.raises(UserError, match="workdri"):
    main.parse(["main", "--workdri=x"])
  with pytest.raises(UserError, match="no argument 'configs/dmg_pacs.py'"):
    main.parse(["main", "configs/dmg_pacs.py"])


def test_the_command_of_a_run_can_be_pasted():
  def line(transfer, *overrides):
    return main.command_line("configs/dmg_pacs.py:small", ["--config.target=all", *overrides], pathlib.Path("runs/a"),
                             transfer)

  assert line(main.Transfer("", "photo", "photo"), "--config.data.dir=my images") == (
    "python -m dgjax.main --config=configs/dmg_pacs.py:small '--config.data.dir=my images' --config.target=photo "
    "--workdir=runs/a")
  assert line(main.Transfer("", "photo", ""), "--config.sources=") == (
    "python -m dgjax.main --config=configs/dmg_pacs.py:small --config.sources= --config.target=photo --workdir=runs/a")
  assert line(main.Transfer("sketch", "photo", "sketch-to-photo"), "--config.sources=each").endswith(
    "dmg_pacs.py:small --config.sources=sketch --config.target=photo --workdir=runs/a")
