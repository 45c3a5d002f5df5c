import json
import pathlib
import subprocess
import sys

import jax
import pytest
from helpers import environment
from run_folders import write

from dgjax import config, main, plan
from dgjax.analysis.recorded import read_runs
from dgjax.analysis.tabulating import build
from dgjax.errors import UserError

ROOT = pathlib.Path(__file__).parents[1]


def run(*arguments):
  return subprocess.run([sys.executable, "-m", "dgjax.main", *arguments], cwd=ROOT, text=True, capture_output=True,
                        check=False, env=environment())


def test_leave_one_domain_out(tmp_path):
  """The whole command: every target in turn, a table, figures; what is finished is not run again."""
  arguments = [f"--workdir={tmp_path}", "--config=configs/dmg_digits.py", "--config.steps=4",
               "--config.batch_size", "16"]
  first = run(*arguments)
  assert first.returncode == 0, first.stderr
  for target in ("plain", "inverted", "colour", "turned"):
    assert (tmp_path / target / "results.json").exists()
    assert (tmp_path / target / "figures" / "masks.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / target / "figures" / "masks.pdf").read_bytes().startswith(b"%PDF")
    assert f"{target} unseen" in first.stdout
  assert f"{tmp_path}, in a folder for each of 4 runs: results.json, figures/*.png and *.pdf, log.txt" in first.stdout
  assert "source_val" in first.stdout and "IoU" in first.stdout
  again = run(*arguments)
  assert again.stdout == first.stdout
  assert [line.rpartition("/")[2] for line in again.stderr.splitlines()] == [
      f"{name} is finished" for name in ("plain", "inverted", "colour", "turned")]


@pytest.mark.parametrize("name,found", [
    ("digits_mp", ("coloured", "grey")), ("fonts", ("unseen",))])
def test_all_targets_are_those_that_can_be_one(name, found):
  settings = config.load(str(ROOT / "configs" / "dmg_digits.py"), [f"--config.data.name={name}"])
  if name == "fonts":
    settings.data.characters = "AB"
  assert plan.transfers(settings) == [("", target, target) for target in found]
  settings.target = "one"
  assert plan.transfers(settings) == [("", "one", "")]


def test_each_source_alone_with_each_target():
  settings = config.load("digits:dann", ["--config.sources=each"])
  names = ("plain", "inverted", "colour", "turned")
  found = plan.transfers(settings)
  assert len(found) == 12 and {(run.sources, run.target) for run in found} == {
    (a, b) for a in names for b in names if a != b}
  assert found[0] == ("inverted", "plain", "inverted-to-plain") and len({run.folder for run in found}) == 12
  settings.target = "colour"
  assert [run.sources for run in plan.transfers(settings)] == ["plain", "inverted", "turned"]
  settings.sources = "plain,turned"
  assert plan.transfers(settings) == [("plain,turned", "colour", "")]


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
  def line(overrides, changes):
    command = plan.command_line("configs/dmg_pacs.py:small", overrides)
    return command(plan.Planned(config.load("dmg_pacs"), pathlib.Path("/runs/a"), changes))

  start = "python -m dgjax.main --config=configs/dmg_pacs.py:small "
  assert line(["--config.target=all", "--config.data.dir=my images"], {"target": "photo"}) == (
    f"{start}'--config.data.dir=my images' --config.target=photo --workdir=/runs/a")
  assert line(["--config.sources=each", "--config.seeds=2", "--config.sweep.steps=1,2"],
              {"sources": "sketch", "target": "photo", "steps": "2", "seed": "1"}) == (
    f"{start}--config.sources=sketch --config.target=photo --config.steps=2 --config.seed=1 --workdir=/runs/a")


def test_help_tells_the_settings_of_a_config_as_overridden(capsys):
  with pytest.raises(SystemExit) as ended:
    main.parse(["main", "--config=digits:dann", "--help", "--config.steps", "9"])
  assert ended.value.code == 0
  shown = capsys.readouterr().out
  assert "--config.steps=9 " in shown and "--config.algorithm.ramp.slope=" in shown and "NAME is one of" in shown


def test_an_unexpected_error_says_where_its_traceback_is(tmp_path, monkeypatch, capsys):
  def fail(*_):
    raise ValueError("two\nlines")

  monkeypatch.setattr(plan, "_train", fail)
  monkeypatch.setattr(sys, "argv", ["main", "--config=digits", "--config.target=plain", f"--workdir={tmp_path}"])
  monkeypatch.setattr(main.console, "quiet", lambda: None)  # it takes over the process's own terminal
  monkeypatch.setattr(main.console, "show", lambda level: None)
  cache = jax.config.jax_compilation_cache_dir
  with pytest.raises(SystemExit) as ended:
    main.run()
  jax.config.update("jax_compilation_cache_dir", cache)
  assert ended.value.code == 1
  assert capsys.readouterr().err == f"error: ValueError: two lines (traceback in {tmp_path}/log.txt)\n"
  assert "Traceback" in (tmp_path / "log.txt").read_text()


def test_what_finished_is_shown_before_the_failures(tmp_path, monkeypatch, capsys):
  write(tmp_path / "sketch")
  results = {tmp_path / "sketch": json.loads((tmp_path / "sketch" / "results.json").read_text()), tmp_path / "x": None}

  def fail(*_, **__):
    raise plan.RunsFailed(results)

  monkeypatch.setattr(plan, "train", fail)
  monkeypatch.setattr(main, "set_up", lambda settings: None)
  monkeypatch.setattr(main.console, "quiet", lambda: None)
  monkeypatch.setattr(sys, "argv", ["main", "--config=digits", f"--workdir={tmp_path}"])
  with pytest.raises(SystemExit) as ended:
    main.run()
  out, err = capsys.readouterr()
  assert ended.value.code == 1 and "dmg on pacs, seed 0" in out
  assert err == f"error: 1 of 2 runs failed: {tmp_path}/x: see failure.json\n"
