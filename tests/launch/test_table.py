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
from helpers import environment

from dgjax import console, jobs
from dgjax.commands import table
from dgjax.errors import UserError

ROOT = pathlib.Path(__file__).parents[2]
CONFIGS = [str(ROOT / "configs" / name) for name in ("dmg_digits.py", "rcl_mnist_mp.py:m=inf")]

QUEUE = """
import pathlib, sys
from dgjax.jobs import Job, Queue, shares
jobs = [Job(str(i), pathlib.Path({work!r}) / str(i), [sys.executable, "-c", program, {work!r} + f"/{{i}}"])
        for i, program in enumerate({programs!r})]
print(Queue(jobs, shares(1) * {jobs}).work())
"""
# Leaves what two runs do, of which one fails, long before it ends.
RESULTS = ("import pathlib, sys, time\n"
           "for name, file in (('plain/seed=0', 'results.json'), ('plain/seed=1', 'failure.json')):\n"
           "  folder = pathlib.Path(sys.argv[1], name)\n"
           "  folder.mkdir(parents=True)\n"
           "  (folder / file).write_text('{}')\n"
           "time.sleep(60)")
# Leaves a mark when it starts and one when it ends.
MARKED = ("import pathlib, sys, time\n"
          "print('start', flush=True); time.sleep(0.4); print('end', flush=True)")
STOPPABLE = ("import signal, sys, time\n"
             "signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))\n"
             "print('up', flush=True)\n"
             "for _ in range(600): time.sleep(0.1)")
STUBBORN = STOPPABLE.replace("lambda *_: sys.exit(75)", "signal.SIG_IGN")


def queue(tmp_path, *programs, jobs=1):
  text = QUEUE.format(work=str(tmp_path), programs=programs, jobs=jobs)
  return subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          cwd=ROOT)


def wait_for(path, word):
  for _ in range(600):
    if path.exists() and word in path.read_text():
      return
    time.sleep(0.1)
  raise AssertionError(f"no {word} in {path}")


def test_the_plan_has_a_command_for_all_seeds_of_a_config(tmp_path):
  jobs = table.plan(CONFIGS, 2, tmp_path, ["--config.steps=2"])
  assert [job.name for job in jobs] == ["dmg_digits", "rcl_mnist_mp-m=inf"]
  assert jobs[1].folder == tmp_path / "rcl_mnist_mp-m=inf"
  assert jobs[1].command[1:] == ["-m", "dgjax.main", f"--config={CONFIGS[1]}", "--config.seeds=2", "--config.steps=2",
                                 f"--workdir={jobs[1].folder}"]
  assert "--config.seeds=2" not in table.plan(CONFIGS, 1, tmp_path, [])[0].command
  with pytest.raises(UserError, match="no config file configs/absent"):
    table.plan(["configs/absent.py"], 1, tmp_path, [])
  with pytest.raises(UserError, match="share their folders"):
    table.plan(CONFIGS[:1] * 2, 1, tmp_path, [])


def test_the_plan_of_a_cluster_goes_seed_by_seed(tmp_path):
  jobs = table.plan(CONFIGS, 2, tmp_path, [], each=True)
  assert [job.name for job in jobs] == ["dmg_digits, seed 0", "rcl_mnist_mp-m=inf, seed 0", "dmg_digits, seed 1",
                                        "rcl_mnist_mp-m=inf, seed 1"]
  assert jobs[3].command[3:] == [f"--config={CONFIGS[1]}", "--config.seed=1", f"--workdir={jobs[3].folder}"]
  assert jobs[3].folder == tmp_path / "rcl_mnist_mp-m=inf" / "seed=1"


@pytest.mark.parametrize("place, seeds, fits", [
    ("plain", 1, True), (".", 1, True), ("plain/seed=0", 2, True), ("seed=1", 2, True), ("plain", 2, False),
    (".", 2, False), ("plain/seed=0", 1, False), ("seed=0/plain", 2, False)])
def test_runs_in_other_places_are_not_made_again(tmp_path, place, seeds, fits):
  folder = tmp_path / "dmg_digits" / place
  folder.mkdir(parents=True)
  (folder / "config.json").write_text("{}")
  if fits:
    table.plan(CONFIGS[:1], seeds, tmp_path, [])
  else:
    with pytest.raises(UserError, match=f"holds a run that --seeds={seeds} would make again in .*TARGET"):
      table.plan(CONFIGS[:1], seeds, tmp_path, [])


def test_shares_divide_the_machine(monkeypatch):
  monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2, 5, 6}, raising=False)
  monkeypatch.setattr(jobs.glob, "glob", lambda pattern: [])
  monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
  assert jobs.shares(1) == [((0, 1, 2, 5, 6), None)]
  assert jobs.shares(2) == [((0, 1), None), ((2, 5, 6), None)]
  with pytest.raises(UserError, match="--jobs=6: there are 5 cores"):
    jobs.shares(6)
  monkeypatch.setattr(jobs.glob, "glob", lambda pattern: ["/dev/nvidia0", "/dev/nvidia1"])
  assert [share.gpu for share in jobs.shares(2)] == ["0", "1"]
  assert jobs.shares(1)[0].gpu is None  # sees all
  with pytest.raises(UserError, match="--jobs=3: there are 2 GPUs"):
    jobs.shares(3)
  monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7,9")
  assert [share.gpu for share in jobs.shares(2)] == ["4", "7"]


@pytest.mark.parametrize("jobs", [1, 2])
def test_so_many_run_at_once(tmp_path, jobs):
  started = time.monotonic()
  out, err = queue(tmp_path, *[MARKED] * 4, jobs=jobs).communicate(timeout=120)
  assert out == "[0, 0, 0, 0]\n", err
  assert time.monotonic() - started > 0.4 * 4 / jobs
  assert all((tmp_path / str(i) / "output.txt").read_text() == "start\nend\n" for i in range(4))
  assert "[4/4] 3 done after" in err


def test_others_go_on_when_one_fails(tmp_path):
  out, err = queue(tmp_path, MARKED, "raise SystemExit('error: no luck')", MARKED).communicate(timeout=120)
  assert out == "[0, 1, 0]\n"
  line, = (line for line in err.splitlines() if line.startswith("[2/3]"))
  assert line.startswith("[2/3] 1 failed with status 1 after") and line.endswith(": error: no luck")


def test_runs_are_told_as_they_end(tmp_path):
  process = queue(tmp_path, RESULTS)
  lines = [process.stderr.readline().split(",")[0] for _ in range(2)]
  process.send_signal(signal.SIGTERM)
  process.communicate(timeout=60)
  assert lines == ["[1/1] 0: plain/seed=0 done", "[1/1] 0: plain/seed=1 failed"]


def test_the_last_line_is_not_a_progress_bar(tmp_path):
  (tmp_path / "output.txt").write_text("10 %\r20 %\nerror: no luck\n\n")
  assert jobs.last_line(tmp_path / "output.txt") == "error: no luck"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_running_and_starts_no_more(tmp_path, number):
  process = queue(tmp_path, STOPPABLE, MARKED)
  wait_for(tmp_path / "0" / "output.txt", "up")
  process.send_signal(number)
  out, err = process.communicate(timeout=60)
  assert out == "[75, 75]\n" and "[1/2] 0 stopped and saved" in err and not (tmp_path / "1").exists()


def test_a_second_interrupt_ends_the_stubborn(tmp_path):
  process = queue(tmp_path, STUBBORN)
  wait_for(tmp_path / "0" / "output.txt", "up")
  process.send_signal(signal.SIGTERM)
  time.sleep(0.5)
  assert process.poll() is None
  process.send_signal(signal.SIGINT)
  assert process.communicate(timeout=60)[0] == "[-9]\n"


def command(*arguments):
  return subprocess.run([sys.executable, "launch/table.py", *arguments], cwd=ROOT, text=True, capture_output=True,
                        check=False, env=environment())


def test_a_table_of_real_runs_goes_on(tmp_path, capsys):
  """Two seeds, standard errors, and the same again without running anything."""
  arguments = ["digits:aggregate", "--seeds=2", f"--workdir={tmp_path}", "--format=markdown", "--commands",
               "--", "--config.steps=2", "--config.batch_size=8", "--config.target=plain"]
  first = command(*arguments)
  assert first.returncode == 0, first.stderr
  assert "| aggregate | 2 |" in first.stdout and "±" in first.stdout
  assert "--config.seed=1" in first.stdout and "[1/1] digits-aggregate: seed=1 done" in first.stderr
  again = command(*arguments)
  assert again.stdout == first.stdout and "seed=1 done" not in again.stderr
  assert console.run(table.main, [str(tmp_path), "--format=markdown", "--commands"]) == 0
  assert capsys.readouterr().out == first.stdout


@pytest.mark.parametrize("arguments, rest, group_by", [
    (["rcl_mnist_mp.py", "rcl_mnist_mp.py:m=inf"], [], "config"), (["rcl_mnist_mp.py", "rcl_mnist_mp.py:rsc"], [], ""),
    (["rcl_mnist_mp.py", "rcl_mnist_mp.py:m=inf", "--group-by=algorithm.margin"], [], "algorithm.margin"),
    (["rcl_mnist_mp.py"], ["--config.sweep.algorithm.margin=0.1,0.2"], "algorithm.margin"),
])
def test_rows_are_told_apart_and_come_in_the_order_given(arguments, rest, group_by, tmp_path, monkeypatch):
  shown = []
  monkeypatch.setattr(table, "Queue", lambda runs, where: types.SimpleNamespace(work=lambda: [0] * len(runs)))
  monkeypatch.setattr(table.tables, "show", lambda folders, options, order: shown.append((options.group_by, order)))
  named = [argument if argument.startswith("--") else str(ROOT / "configs" / argument) for argument in arguments]
  (tmp_path / "results.json").touch()
  assert console.run(table.main, [*named, f"--workdir={tmp_path}", "--", *rest]) == 0
  assert shown == [(group_by, [name.replace(".py", "") for name in arguments if not name.startswith("--")])]


def test_printing_and_mistakes(tmp_path, capsys):
  done = command("configs/dmg_digits.py", "configs/digits.py:rcl", f"--workdir={tmp_path}", "--print", "--",
                 "--config.steps=2")
  assert done.returncode == 0 and not list(tmp_path.iterdir())
  assert [shlex.split(line)[3] for line in done.stdout.splitlines()] == ["--config=configs/dmg_digits.py",
                                                                         "--config=configs/digits.py:rcl"]
  for arguments, text in ((["configs/dmg_digits.py", "--seeds=0"], "--seeds must be at least 1"),
                          (["configs/dmg_digits.py", "--format=word"], "no format 'word'"),
                          (["configs/dmg_digits.py", "--seed=2"], "--seed")):
    assert console.run(table.main, [*arguments, f"--workdir={tmp_path}"]) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: ") and text in told and told.count("\n") == 1
  for arguments, text in ((["configs/dmg_digits.py", "--print"], "--workdir is missing"),
                          (["configs/dmg_digits.py"], "no folder configs/dmg_digits.py: --workdir=DIR trains configs")):
    assert console.run(table.main, arguments) == 1 and text in capsys.readouterr().err
