"""The scripts for a machine with a GPU: each part at the smallest size, so that they work when there is one."""

import os
import pathlib
import re
import subprocess
import types

import pytest
from helpers import tiny_network

from dgjax import config, models, plan
from dgjax.analysis import figures, sweep, tables
from dgjax.errors import UserError

ROOT = pathlib.Path(__file__).parents[2]
LOSS = r"-?\d\.\d{7}"
TIMES = r"32 px, batch 4, bfloat16: +[\d.]+ ms a step \([\d.]+-[\d.]+\), +\d+ images/s; the first took \d+ s"
LINES = {
    "device": [r"JAX: cpu, \d+ cores; python .*, jax \d.*"],
    "numbers": [rf"aggregate: loss {LOSS}, on the CPU {LOSS}; parameters after a step differ by 0\.0e\+00 at most"],
    "resume": [r"Aggregate: 2 steps, then on to 4, are 4 in one go, bit for bit"],
    "steps": [rf"Aggregate: {TIMES}", r"max-pooling .*: forward and gradient [\d.]+ ms in our form, [\d.]+ ms in lax's",
              rf"MCD: {TIMES}"],
    "input": [r"JPEG files of 227 px: see above"],
    "groups": [r"digits:aggregate: see above"],
}


@pytest.fixture
def gpu(script):
  return script("gpu")


@pytest.fixture
def smallest(gpu, monkeypatch):
  """Sizes for tests, with the tiny network under smallnet's name, and no figures."""
  monkeypatch.setitem(models.NETWORKS, "smallnet", (lambda classes, **_: tiny_network(classes=classes), ""))
  monkeypatch.setattr(figures, "save_all", lambda *_: None)
  return gpu.SMALL._replace(
      methods=("aggregate",), lengths=(2, 2, 4),
      resumed=(("Aggregate", ("--config.algorithm.name=aggregate", "--config.batch_size=16")),),
      networks=(("Aggregate", "dmg_pacs:aggregate"), ("MCD", "drt_pacs:static")),
      groups=(("digits:aggregate", "plain"),), grouping=(*gpu.SMALL.grouping, "--how", "map"),
      input=(*gpu.SMALL.input, "--images=16", "--batch_size=8", "--image_size=32"))


def test_all_parts_are_tried_and_all_configs_are_there(gpu):
  assert {*LINES, "torch"} == set(gpu.PARTS)  # PyTorch's: test_against_torch.py
  sizes = gpu.Sizes()
  for name in (*(f"digits:{method}" for method in sizes.methods), *(name for _, name in sizes.networks),
               *(name for name, _ in sizes.groups)):
    config.check(config.load(name))
  for _, overrides in sizes.resumed:
    config.check(config.load("dmg_digits", overrides))


@pytest.mark.parametrize("part", LINES)
def test_a_part(gpu, smallest, part, capsys):
  assert gpu.measure(part, smallest)
  said = capsys.readouterr().out
  lines = [line for line in said.splitlines() if line.startswith(f"{part}: ")]
  for line, expected in zip(lines, LINES[part], strict=True):
    assert re.fullmatch(f"{part}: {expected}", line)
  if part == "input":
    assert re.search(r"^pipeline, \d+ cores, by the clock +[\d.]+ +\d+$", said, re.MULTILINE)
  if part == "groups":
    assert [line.split()[:3] for line in said.splitlines()[-3:-1]] == [["1", "runs,", "map"], ["2", "runs,", "map"]]


def test_a_failure_costs_one_line(gpu, smallest, monkeypatch, capsys):
  def rows(sizes, images):
    yield "one", lambda: 1 / 0
    yield "two", lambda: "fine"
    raise ImportError("no such\nthing")
  monkeypatch.setitem(gpu.PARTS, "numbers", gpu.Part(rows, 1))
  assert not gpu.measure("numbers", smallest)
  assert capsys.readouterr().out.splitlines() == [
      "numbers: one: FAILED: ZeroDivisionError: division by zero", "numbers: two: fine",
      "numbers: FAILED: ImportError: no such thing"]


def test_other_numbers_are_wrong(gpu, smallest, monkeypatch, capsys):
  monkeypatch.setattr(gpu, "LOSS", -1.0)
  assert not gpu.measure("numbers", smallest)
  assert capsys.readouterr().out.startswith("numbers: aggregate: WRONG: loss ")


def test_a_part_that_takes_too_long_is_cut_off(gpu, capsys):
  assert gpu.main(["numbers", "resume", "--small", "--limit=0.2"]) == 1
  lines = capsys.readouterr().out.splitlines()
  assert [line.partition(" after ")[0] for line in lines] == ["numbers: cut off", "resume: cut off"]


@pytest.mark.parametrize("name, runs", [("gpu_tables", 2 * 5 + 4 * 5 + 7 * 5 + 6 * 5), ("rcl_readings", 10 * 6)])
def test_what_trains_for_tables_is_planned(name, runs, tmp_path):
  """The commands are written down in place of Python, and planned here; one target stands for all."""
  (tmp_path / "mnist").mkdir()
  (tmp_path / "bin").mkdir()
  python = tmp_path / "bin" / "python3"
  python.write_text(f'#!/bin/sh\nIFS="\t"\necho "$*" >> {tmp_path}/commands\n')
  python.chmod(0o755)
  variables = os.environ | {"PATH": f"{python.parent}:{os.environ['PATH']}", "RUNS": "runs"}
  subprocess.run(["bash", str(ROOT / "benchmarks" / f"{name}.sh"), "mnist", "out"], check=True, cwd=tmp_path,
                 env=variables, capture_output=True)
  planned, one = 0, types.SimpleNamespace(domains=("a",), targets=None)
  for command in (tmp_path / "commands").read_text().splitlines():
    module, *arguments = command.split("\t")[1:]
    if module == "dgjax.main":
      overrides, (path, folder) = config.split_arguments(arguments)
      settings = config.load(path.removeprefix("--config="), overrides)
      assert settings.data.get("dir", "") in ("", str(tmp_path / "mnist"))
      assert folder.startswith(f"--workdir={tmp_path}/runs/")
      planned += sum(map(len, plan.plan(settings, tmp_path, one)))
    else:
      with pytest.raises(UserError, match="no (folder|finished run)"):
        {"dgjax.analysis.tables": tables, "dgjax.analysis.sweep": sweep}[module].main(arguments)
  assert planned == runs
