"""A table in one command: the plan, the queue with small programs in the place of training, then real runs."""
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import time
import types

import pytest

from dgjax.errors import UserError

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "launch"))
try:
  import table
finally:
  sys.path.remove(str(ROOT / "launch"))

QUEUE = """
import pathlib, sys
sys.path.insert(0, {folder!r})
import table
runs = [table.Run(str(i), pathlib.Path({work!r}) / str(i), [sys.executable, "-c", program, str(i)])
        for i, program in enumerate({programs!r})]
print(table.Queue(runs, table.places(1) * {jobs}).work())
"""
# Leaves a mark when it starts and one when it ends.
MARKED = ("import pathlib, sys, time\n"
          "print('start', flush=True); time.sleep(0.4); print('end', flush=True)")
STOPPABLE = ("import signal, sys, time\n"
             "signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))\n"
             "print('up', flush=True)\n"
             "for _ in range(600): time.sleep(0.1)")
STUBBORN = STOPPABLE.replace("lambda *_: sys.exit(75)", "signal.SIG_IGN")


def queue(tmp_path, *programs, jobs=1):
  text = QUEUE.format(folder=str(ROOT / "launch"), work=str(tmp_path), programs=programs, jobs=jobs)
  return subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          cwd=ROOT)


def wait_for(path, word):
  for _ in range(600):
    if path.exists() and word in path.read_text():
      return
    time.sleep(0.1)
  raise AssertionError(f"no {word} in {path}")


def test_the_plan_goes_seed_by_seed(tmp_path):
  configs = [str(ROOT / "configs" / name) for name in ("dmg_digits.py", "rcl_mnist_mp.py:m=inf")]
  runs = table.plan(configs, 2, tmp_path, ["--config.steps=2"])
  assert [run.name for run in runs] == ["dmg_digits, seed 0", "rcl_mnist_mp-m=inf, seed 0", "dmg_digits, seed 1",
                                        "rcl_mnist_mp-m=inf, seed 1"]
  assert runs[3].folder == tmp_path / "rcl_mnist_mp-m=inf" / "1"
  assert runs[3].command[1:] == ["-m", "dgjax.main", f"--config={configs[1]}", "--config.seed=1", "--config.steps=2",
                                 f"--workdir={runs[3].folder}"]
  with pytest.raises(UserError, match="no config file configs/absent"):
    table.plan(["configs/absent.py"], 1, tmp_path, [])
  with pytest.raises(UserError, match="share their folders"):
    table.plan(configs[:1] * 2, 1, tmp_path, [])


def test_places_divide_the_machine(monkeypatch):
  monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2, 5, 6}, raising=False)
  monkeypatch.setattr(table.glob, "glob", lambda pattern: [])
  monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
  assert table.places(1) == [((0, 1, 2, 5, 6), None)]
  assert table.places(2) == [((0, 1), None), ((2, 5, 6), None)]
  with pytest.raises(UserError, match="--jobs=6: there are 5 cores"):
    table.places(6)
  monkeypatch.setattr(table.glob, "glob", lambda pattern: ["/dev/nvidia0", "/dev/nvidia1"])
  assert [place.gpu for place in table.places(2)] == ["0", "1"]
  assert table.places(1)[0].gpu is None  # sees all
  with pytest.raises(UserError, match="--jobs=3: there are 2 GPUs"):
    table.places(3)
  monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7,9")
  assert [place.gpu for place in table.places(2)] == ["4", "7"]


@pytest.mark.parametrize("jobs", [1, 2])
def test_so_many_run_at_once(tmp_path, jobs):
  started = time.monotonic()
  out, err = queue(tmp_path, *[MARKED] * 4, jobs=jobs).communicate(timeout=120)
  assert out == "[0, 0, 0, 0]\n", err
  assert time.monotonic() - started > 0.4 * 4 / jobs
  assert all((tmp_path / str(i) / "log.txt").read_text() == "start\nend\n" for i in range(4))
  assert "[4/4] 3 done after" in err


def test_others_go_on_when_one_fails(tmp_path):
  out, err = queue(tmp_path, MARKED, "raise SystemExit('error: no luck')", MARKED).communicate(timeout=120)
  assert out == "[0, 1, 0]\n"
  line, = (line for line in err.splitlines() if line.startswith("[2/3]"))
  assert line.startswith("[2/3] 1 failed with status 1 after") and line.endswith(": error: no luck")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_running_and_starts_no_more(tmp_path, number):
  process = queue(tmp_path, STOPPABLE, MARKED)
  wait_for(tmp_path / "0" / "log.txt", "up")
  process.send_signal(number)
  out, err = process.communicate(timeout=60)
  assert out == "[75, 75]\n" and "[1/2] 0 stopped and saved" in err and not (tmp_path / "1").exists()


def test_a_second_interrupt_ends_the_stubborn(tmp_path):
  process = queue(tmp_path, STUBBORN)
  wait_for(tmp_path / "0" / "log.txt", "up")
  process.send_signal(signal.SIGTERM)
  time.sleep(0.5)
  assert process.poll() is None
  process.send_signal(signal.SIGINT)
  assert process.communicate(timeout=60)[0] == "[-9]\n"


def command(*arguments):
  return subprocess.run([sys.executable, "launch/table.py", *arguments], cwd=ROOT, text=True, capture_output=True,
                        check=False, env={**os.environ, "XLA_FLAGS": ""})


def test_a_table_of_real_runs_goes_on(tmp_path):
  """Two seeds, standard errors, and the same again without running anything."""
  arguments = ["digits:aggregate", "--seeds=2", f"--workdir={tmp_path}", "--format=markdown", "--commands",
               "--", "--config.steps=2", "--config.batch_size=8", "--config.target=plain"]
  first = command(*arguments)
  assert first.returncode == 0, first.stderr
  assert "| aggregate | 2 |" in first.stdout and "±" in first.stdout
  assert "--config.seed=1 --config.steps=2" in first.stdout and "[2/2] digits-aggregate, seed 1 done" in first.stderr
  again = command(*arguments)
  assert again.stdout == first.stdout
  assert "is finished" in (tmp_path / "digits-aggregate" / "0" / "log.txt").read_text()


@pytest.mark.parametrize("arguments, group_by", [
    (["rcl_mnist_mp.py", "rcl_mnist_mp.py:m=inf"], "config"), (["rcl_mnist_mp.py", "rcl_mnist_mp.py:rsc"], ""),
    (["rcl_mnist_mp.py", "rcl_mnist_mp.py:m=inf", "--group-by=algorithm.margin"], "algorithm.margin"),
])
def test_configs_of_one_method_have_rows_of_their_own(arguments, group_by, tmp_path, monkeypatch):
  shown = []
  monkeypatch.setattr(table, "Queue", lambda runs, where: types.SimpleNamespace(work=lambda: [0] * len(runs)))
  monkeypatch.setattr(table.tables, "show", lambda folder, options: shown.append(options.group_by))
  named = [argument if argument.startswith("--") else str(ROOT / "configs" / argument) for argument in arguments]
  assert table.main([*named, f"--workdir={tmp_path}"]) == 0 and shown == [group_by]


def test_printing_and_mistakes(tmp_path):
  done = command("configs/dmg_digits.py", "configs/digits.py:rcl", f"--workdir={tmp_path}", "--print", "--",
                 "--config.steps=2")
  assert done.returncode == 0 and not list(tmp_path.iterdir())
  assert [shlex.split(line)[3] for line in done.stdout.splitlines()] == ["--config=configs/dmg_digits.py",
                                                                         "--config=configs/digits.py:rcl"]
  for arguments, text in ((["configs/dmg_digits.py", "--seeds=0"], "--seeds must be at least 1"),
                          (["configs/dmg_digits.py", "--format=word"], "no format 'word'"),
                          (["configs/dmg_digits.py", "--seed=2"], "--seed")):
    done = command(*arguments, f"--workdir={tmp_path}")
    assert done.returncode == 1 and done.stderr.startswith("error: ") and text in done.stderr, done.stderr
    assert done.stderr.count("\n") == 1
