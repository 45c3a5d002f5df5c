"""A run that was killed at any point and started again gives the numbers of one that never was."""

import json
import os
import pathlib
import signal
import subprocess
import sys

import orbax.checkpoint as ocp
import pytest
from helpers import same

from dgjax.recorder import read_lines

ROOT = pathlib.Path(__file__).parents[1]
STEPS = 40

# Runs the command, and sends itself a signal at a point: at a training step, while a checkpoint is being written, when
# it is complete, or in the middle of an evaluation.
CHILD = """
import os, signal, sys
if cores := os.environ.get("CORES"):
  os.sched_setaffinity(0, map(int, cores.split(",")))
from dgjax import main, training
from dgjax.group import Group

point, step, number = sys.argv.pop(1).split(":")
step, number = int(step), int(number)
stop = lambda: signal.raise_signal(number)  # to this thread: another would let this one go on for a while

if point == "step":
  original = training.Recorder.train
  def record(self, at, metrics):
    original(self, at, metrics)
    if at == step:
      stop()
  training.Recorder.train = record
elif point in ("save", "commit"):
  original = training.Checkpoints.save
  def save(self, at, *args, **kwargs):
    original(self, at, *args, **kwargs)
    if at == step:
      if point == "commit":
        self.wait()
      stop()
  training.Checkpoints.save = save
elif point == "evaluation":
  original = Group.evaluate
  def evaluate(self, *args):
    stop()
    return original(self, *args)
  Group.evaluate = evaluate
main.run()
"""


def run(workdir, point="none:0:0", steps=STEPS, **variables):
  arguments = ["--config=configs/dmg_digits.py", f"--workdir={workdir}", "--config.target=plain",
               f"--config.steps={steps}", "--config.eval_every=10", "--config.log_every=4", "--config.batch_size=16"]
  environment = {**os.environ, "XLA_FLAGS": "", "JAX_COMPILATION_CACHE_DIR": f"{os.environ['DGJAX_CACHE']}/resume-xla"}
  return subprocess.run([sys.executable, "-c", CHILD, point, *arguments], cwd=ROOT, env=environment | variables,
                        text=True, capture_output=True, check=False)


def final_state(workdir):
  with ocp.CheckpointManager(workdir / "checkpoints") as manager:
    return manager.restore(STEPS, args=ocp.args.Composite(state=ocp.args.StandardRestore()))["state"]


def record(workdir):
  """The lines of metrics.jsonl but for those of time."""
  return [line for line in read_lines(workdir / "metrics.jsonl") if not any(key.startswith("time/") for key in line)]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("whole")
  result = run(workdir)
  assert result.returncode == 0, result.stderr
  return workdir


@pytest.mark.filterwarnings("ignore::UserWarning")  # orbax: restoring without a target's shardings
def test_killed_and_resumed_is_bit_identical(uninterrupted, tmp_path):
  kill, terminate = signal.SIGKILL.value, signal.SIGTERM.value
  for point, status in [(f"step:7:{kill}", -kill), (f"step:13:{kill}", -kill), (f"save:20:{kill}", -kill),
                        (f"step:23:{terminate}", 75), (f"evaluation:0:{terminate}", 75), (f"commit:30:{kill}", -kill)]:
    result = run(tmp_path, point)
    assert result.returncode == status, (point, result.stderr)
  assert run(tmp_path).returncode == 0
  assert [line["step"] for line in record(tmp_path) if "train/loss" in line] == list(range(1, STEPS + 1))
  assert record(tmp_path) == record(uninterrupted)
  assert same(final_state(tmp_path), final_state(uninterrupted))
  ours, theirs = (json.loads((folder / "results.json").read_text()) for folder in (tmp_path, uninterrupted))
  for key in ("selection", "accuracy", "mask_matrix", "overlap", "report"):
    assert ours[key] == theirs[key]


def test_a_stopped_run_says_so_and_saves_at_once(tmp_path):
  result = run(tmp_path, f"step:3:{signal.SIGINT.value}")
  assert result.returncode == 75
  assert "stopped and saved at step 4" in result.stderr  # the third step's metrics are fetched after the fourth
  assert (tmp_path / "checkpoints" / "4").is_dir()


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_bits_depend_on_the_number_of_threads_alone_and_it_can_be_set(tmp_path):
  """One thread and two may agree: how XLA divides a sum of this size differs between machines."""
  one, two, *_ = sorted(os.sched_getaffinity(0))
  runs = {"one core": {"CORES": f"{one}"}, "two cores": {"CORES": f"{one},{two}"},
          "two threads on one": {"CORES": f"{one}", "NPROC": "2"},
          "one thread on two": {"CORES": f"{one},{two}", "NPROC": "1"}}
  records = {}
  for name, settings in runs.items():
    result = run(tmp_path / name, steps=10, **settings)
    assert result.returncode == 0, result.stderr
    records[name] = record(tmp_path / name)
    assert json.loads((tmp_path / name / "results.json").read_text())["threads"] == (2 if "two" in name[:3] else 1)
  assert records["two threads on one"] == records["two cores"]
  assert records["one thread on two"] == records["one core"]
