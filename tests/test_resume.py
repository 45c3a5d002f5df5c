"""A run that was killed at any point and started again gives the numbers of one that never was."""

import contextlib
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

# Imports all that trains, once; each line of input is then a process of its own, forked from here before JAX has made
# a device. It runs the command and sends itself a signal at a point: at a training step, while a checkpoint is being
# written, when it is complete, or in the middle of an evaluation. Its exit status, or minus its signal, is the answer.
STARTER = """
import json, os, signal, sys
from dgjax import main, plan, training
from dgjax.analysis import figures
from dgjax.group import Group

def install(point, step, number):
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

for line in sys.stdin:
  order = json.loads(line)
  child = os.fork()
  if not child:
    output = os.open(order["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ.update(order["environment"])
    if order["cores"]:
      os.sched_setaffinity(0, order["cores"])
    point, step, number = order["point"].split(":")
    install(point, int(step), int(number))
    sys.argv[1:] = order["arguments"]
    main.run()
    sys.exit(0)
  print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@contextlib.contextmanager
def started(folder):
  """A function that runs the command in a process of its own; it returns the exit status and what was said."""
  environment = {**os.environ, "XLA_FLAGS": "", "JAX_COMPILATION_CACHE_DIR": f"{os.environ['DGJAX_CACHE']}/resume-xla"}
  output = folder / "output.txt"
  starter = subprocess.Popen([sys.executable, "-c", STARTER], cwd=ROOT, env=environment, text=True,
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE)

  def run(workdir, point="none:0:0", steps=STEPS, cores=(), **variables):
    arguments = ["--config=configs/dmg_digits.py", f"--workdir={workdir}", "--config.target=plain",
                 f"--config.steps={steps}", "--config.eval_every=10", "--config.log_every=4", "--config.batch_size=16"]
    print(json.dumps({"point": point, "arguments": arguments, "environment": variables, "cores": cores,
                      "output": str(output)}), file=starter.stdin, flush=True)
    return int(starter.stdout.readline()), output.read_text()

  with starter:
    yield run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  with started(tmp_path_factory.mktemp("output")) as run:
    yield run


def final_state(workdir):
  with ocp.CheckpointManager(workdir / "checkpoints") as manager:
    return manager.restore(STEPS, args=ocp.args.Composite(state=ocp.args.StandardRestore()))["state"]


def record(workdir):
  """The lines of metrics.jsonl but for those of time."""
  return [line for line in read_lines(workdir / "metrics.jsonl") if not any(key.startswith("time/") for key in line)]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
  """Its own starter, and so another seed of Python's hashes than the resumed run's: no order of a set may matter."""
  workdir = tmp_path_factory.mktemp("whole")
  with started(tmp_path_factory.mktemp("output")) as run:
    status, output = run(workdir)
  assert status == 0, output
  return workdir


@pytest.mark.filterwarnings("ignore::UserWarning")  # orbax: restoring without a target's shardings
def test_killed_and_resumed_is_bit_identical(run, uninterrupted, tmp_path):
  kill, terminate = signal.SIGKILL.value, signal.SIGTERM.value
  for point, expected in [
      (f"step:7:{kill}", -kill), (f"step:13:{kill}", -kill), (f"save:20:{kill}", -kill), (f"step:23:{terminate}", 75),
      (f"evaluation:0:{terminate}", 75), (f"commit:30:{kill}", -kill)]:
    status, output = run(tmp_path, point)
    assert status == expected, (point, output)
  status, output = run(tmp_path)
  assert status == 0, output
  assert [line["step"] for line in record(tmp_path) if "train/loss" in line] == list(range(1, STEPS + 1))
  assert record(tmp_path) == record(uninterrupted)
  assert same(final_state(tmp_path), final_state(uninterrupted))
  ours, theirs = (json.loads((folder / "results.json").read_text()) for folder in (tmp_path, uninterrupted))
  for key in ("selection", "accuracy", "mask_matrix", "overlap", "report"):
    assert ours[key] == theirs[key]


def test_a_stopped_run_says_so_and_saves_at_once(run, tmp_path):
  status, output = run(tmp_path, f"step:3:{signal.SIGINT.value}")
  assert status == 75
  assert "stopped and saved at step 4" in output  # the third step's metrics are fetched after the fourth
  assert (tmp_path / "checkpoints" / "4").is_dir()


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_bits_depend_on_the_number_of_threads_alone_and_it_can_be_set(run, tmp_path):
  """One thread and two may agree: how XLA divides a sum of this size differs between machines."""
  one, two, *_ = sorted(os.sched_getaffinity(0))
  runs = {"one core": {"cores": [one]}, "two cores": {"cores": [one, two]},
          "two threads on one": {"cores": [one], "NPROC": "2"},
          "one thread on two": {"cores": [one, two], "NPROC": "1"}}
  records = {}
  for name, settings in runs.items():
    status, output = run(tmp_path / name, steps=10, **settings)
    assert status == 0, output
    records[name] = record(tmp_path / name)
    assert json.loads((tmp_path / name / "results.json").read_text())["threads"] == (2 if "two" in name[:3] else 1)
  assert records["two threads on one"] == records["two cores"]
  assert records["one thread on two"] == records["one core"]
