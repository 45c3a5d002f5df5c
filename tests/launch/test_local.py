"""The launcher: what it makes of its processes' ends and of signals; then real training by two processes."""

import importlib.util
import json
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
from helpers import environment

from dgjax import config, plan
from dgjax.experiment import Experiment
from dgjax.preemption import Preempted

REPOSITORY = pathlib.Path(__file__).parents[2]
LAUNCHER = REPOSITORY / "launch" / "local.py"

spec = importlib.util.spec_from_file_location("launch_local", LAUNCHER)
local = importlib.util.module_from_spec(spec)
spec.loader.exec_module(local)


# ---- the launcher alone, with small programs in the place of training

RUN = """
import sys
sys.path.insert(0, {folder!r})
import local
local.GRACE_AFTER_FAILURE = 0.3
programs = {programs!r}
group = local.Group([[sys.executable, "-c", program] for program in programs],
                    [dict(INDEX=str(index)) for index in range(len(programs))])
sys.exit(group.wait())
"""
# Says that it is up, and stops with 75 when it is asked to. It sleeps in pieces: a signal that comes just before a
# sleep begins is handled when it ends.
STOPPABLE = ("import signal, sys, time\n"
             "signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))\n"
             "print('up', flush=True)\n"
             "for _ in range(600): time.sleep(0.1)")
STUBBORN = ("import signal, time\n"
            "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
            "print('up', flush=True)\n"
            "for _ in range(600): time.sleep(0.1)")


def launch(*programs):
  text = RUN.format(folder=str(LAUNCHER.parent), programs=programs)
  return subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_lines_are_marked_and_success_is_0():
  one = "import os, sys; print('out', os.environ['INDEX']); print('err', os.environ['INDEX'], file=sys.stderr)"
  process = launch(one, one + "; sys.stdout.write('no newline')")
  out, err = process.communicate(timeout=60)
  assert process.returncode == 0
  assert sorted(out.splitlines()) == ["[0] out 0", "[1] no newline", "[1] out 1"]
  assert sorted(err.splitlines()) == ["[0] err 0", "[1] err 1"]


@pytest.mark.parametrize("end, status", [
    ("sys.exit(3)", 3), ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 137)])
def test_one_failure_ends_all(end, status):
  process = launch(STUBBORN, f"import sys; {end}", STUBBORN)
  begin = time.monotonic()
  process.communicate(timeout=60)
  assert process.returncode == status and time.monotonic() - begin < 15


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_all(number):
  process = launch(STOPPABLE, STOPPABLE)
  assert sorted([process.stdout.readline(), process.stdout.readline()]) == ["[0] up\n", "[1] up\n"]
  process.send_signal(number)
  process.communicate(timeout=60)
  assert process.returncode == 75


def test_a_second_interrupt_ends_all():
  process = launch(STUBBORN)
  assert process.stdout.readline() == "[0] up\n"
  begin, sent = time.monotonic(), 0
  while process.poll() is None and time.monotonic() - begin < 45:  # two that come at once are one
    process.send_signal(signal.SIGINT)
    sent += 1
    time.sleep(0.2)
  process.communicate(timeout=60)
  assert process.returncode == 137 and sent > 1


@pytest.mark.skipif(sys.platform != "linux", reason="asks the Linux kernel")
def test_processes_do_not_outlive_the_launcher():
  process = launch(STUBBORN)
  assert process.stdout.readline() == "[0] up\n"
  [child] = psutil.Process(process.pid).children()
  process.kill()
  process.communicate(timeout=60)
  child.wait(timeout=10)


def test_each_process_gets_its_settings(monkeypatch):
  monkeypatch.setenv("SOMETHING", "kept")
  monkeypatch.delenv("JAX_LOCAL_DEVICE_IDS", raising=False)
  settings = local.environment(1, 4, 1234)
  expected = {"JAX_COORDINATOR_ADDRESS": "127.0.0.1:1234", "JAX_NUM_PROCESSES": "4", "JAX_PROCESS_ID": "1",
              "JAX_LOCAL_DEVICE_IDS": "1", "SOMETHING": "kept"}
  assert expected.items() <= settings.items()
  monkeypatch.setenv("JAX_LOCAL_DEVICE_IDS", "0,1")
  assert local.environment(1, 4, 1234)["JAX_LOCAL_DEVICE_IDS"] == "0,1"


# ---- training

STEPS, EVERY = 20, 8
OVERRIDES = ["--config.target=plain", f"--config.steps={STEPS}", "--config.batch_size=16",
             f"--config.eval_every={EVERY}", "--config.data.image_size=16", "--config.log_every=4"]


def start(workdir, *overrides):
  """Two processes of one simulated device each."""
  return subprocess.Popen(
      [sys.executable, LAUNCHER, "--processes=2", "--", "--config=configs/dmg_digits.py", f"--workdir={workdir}",
       *OVERRIDES, *overrides],
      cwd=REPOSITORY, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for(condition, process, seconds=300):
  """Waits until something is true of a run under way."""
  deadline = time.monotonic() + seconds
  while not condition():
    assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
    time.sleep(0.02)


def one_process(workdir, *overrides):
  """The same run in this process, on two of its devices."""
  settings = config.load("configs/dmg_digits.py", [*OVERRIDES, "--config.devices=2", *overrides])
  return plan.train(settings, workdir)[0]


def steps_of(workdir):
  """Metrics of each training step, by step; each must be there once."""
  lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
  lines = [line for line in lines if "train/loss" in line]
  assert len({line["step"] for line in lines}) == len(lines)
  return {line["step"]: line for line in lines}


def assert_close(ours, theirs):
  """The metrics of the same steps to 1e-4."""
  for step, line in ours.items():
    assert line == pytest.approx(theirs[step], abs=1e-4), f"step {step}"


def test_two_processes_are_one(tmp_path, monkeypatch, caplog):
  monkeypatch.chdir(REPOSITORY)
  both, alone, moved = (tmp_path / name for name in ("both", "alone", "moved"))

  # One of two is killed after a checkpoint: the other does not wait for it for ever.
  process = start(both)
  wait_for((both / "checkpoints" / str(EVERY)).exists, process)
  workers = psutil.Process(process.pid).children()
  workers[1].kill()
  output, _ = process.communicate(timeout=300)
  assert process.returncode == 137, output
  assert not psutil.pid_exists(workers[0].pid) and not (both / "results.json").exists()
  shutil.copytree(both, moved)

  process = start(both)
  output, _ = process.communicate(timeout=300)
  assert process.returncode == 0, output
  assert "resumed from step" in output

  expected = one_process(alone)
  ours = steps_of(both)
  assert list(ours) == list(range(1, STEPS + 1))
  assert any("overlap" in name or "iou" in name for name in ours[1])
  assert_close(ours, steps_of(alone))
  # Each image counted once, though the batches are ragged.
  results = json.loads((both / "results.json").read_text())
  for key in ("selection", "accuracy", "mask_matrix", "step", "report"):
    assert results[key] == json.loads(json.dumps(expected[key])), key
  assert results["devices"] == 2
  with np.load(both / "masks.npz") as a, np.load(alone / "masks.npz") as b:
    for name in b:
      if b[name].dtype.kind == "f":
        np.testing.assert_allclose(a[name], b[name], atol=1e-4)
  # One process writes.
  assert len(list(both.glob("events.*"))) == 2 and (both / "figures").is_dir()
  assert not list(both.rglob("*.partial"))

  def stop(*_):
    raise Preempted

  # One process may go on with what two began, and says that the numbers will differ.
  monkeypatch.setattr(Experiment, "evaluates", stop)  # at the top of the loop: nothing is trained
  with pytest.raises(Preempted), caplog.at_level("WARNING", "dgjax"):
    one_process(moved)
  assert "processes: 2 -> 1" in caplog.text


def test_pmap_and_a_signal(tmp_path, monkeypatch):
  monkeypatch.chdir(REPOSITORY)
  both, alone = tmp_path / "both", tmp_path / "alone"
  # The longer, so that the signal comes before the end.
  more = ["--config.parallel=pmap", "--config.steps=2000"]
  process = start(both, *more)
  wait_for(lambda: (both / "metrics.jsonl").exists() and len(steps_of(both)) >= 4, process)
  process.terminate()
  output, _ = process.communicate(timeout=300)
  assert process.returncode == 75, output
  ours = steps_of(both)
  saved = max(int(path.name) for path in (both / "checkpoints").iterdir())
  assert list(ours) == list(range(1, saved + 1)) and saved < 2000
  assert f"stopped and saved at step {saved}" in output

  one_process(alone, "--config.parallel=pmap", f"--config.steps={EVERY}")
  theirs = steps_of(alone)
  assert_close({step: ours[step] for step in ours.keys() & theirs.keys()}, theirs)
