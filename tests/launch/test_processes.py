"""What several processes must agree on, and how they come together and part."""

import importlib.util
import pathlib
import subprocess
import sys
import time

import jax
import pytest

from dgjax import config, parallel
from dgjax.errors import UserError
from dgjax.folder import RunFolder

LAUNCHER = pathlib.Path(__file__).parents[2] / "launch" / "local.py"
SETTINGS = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID", "DGJAX_PROCESSES", "SLURM_NTASKS",
            "SLURM_STEP_NUM_TASKS", "TPU_WORKER_HOSTNAMES")


@pytest.mark.parametrize("settings, how", [
    ({}, None),
    ({"SLURM_NTASKS": "8"}, None),  # a batch script or an interactive shell: one process
    ({"SLURM_NTASKS": "1", "SLURM_STEP_NUM_TASKS": "1"}, None),
    ({"SLURM_NTASKS": "8", "SLURM_STEP_NUM_TASKS": "8"}, ()),
    ({"TPU_WORKER_HOSTNAMES": "localhost"}, None),
    ({"TPU_WORKER_HOSTNAMES": "a,b"}, ()),
    ({"DGJAX_PROCESSES": "auto"}, ()),
    ({"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "0",
      "SLURM_STEP_NUM_TASKS": "8"}, ("a:1", 2, 0)),
])
def test_which_settings_are_used(monkeypatch, settings, how):
  for name in SETTINGS:
    monkeypatch.delenv(name, raising=False)
  for name, value in settings.items():
    monkeypatch.setenv(name, value)
  calls = []
  monkeypatch.setattr(jax.distributed, "initialize", lambda *arguments, **_: calls.append(arguments))
  parallel.start_processes()
  assert calls == ([] if how is None else [how])


@pytest.mark.parametrize("settings, message", [
    ({"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_PROCESS_ID": "0"}, "JAX_NUM_PROCESSES is not set"),
    ({"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_NUM_PROCESSES": "two", "JAX_PROCESS_ID": "0"}, "'two'"),
    ({"DGJAX_PROCESSES": "2"}, "can only be 'auto'"),
])
def test_settings_that_do_not_fit(monkeypatch, settings, message):
  for name in SETTINGS:
    monkeypatch.delenv(name, raising=False)
  for name, value in settings.items():
    monkeypatch.setenv(name, value)
  with pytest.raises(UserError, match=message):
    parallel.start_processes()


def test_processes_must_share_the_folder(monkeypatch, tmp_path):
  settings = config.load(str(LAUNCHER.parents[1] / "configs" / "dmg_digits.py"))
  monkeypatch.setattr(jax, "process_index", lambda: 1)
  monkeypatch.setattr(parallel, "agree", lambda _: {"results": None})  # process 0 made its folder
  with pytest.raises(UserError, match="all processes share"):
    RunFolder(tmp_path).claim(settings)
  (tmp_path / "config.json").touch()
  assert RunFolder(tmp_path).claim(settings) is None
  monkeypatch.setattr(parallel, "agree", lambda _: {"problem": "another config"})
  with pytest.raises(UserError, match="another config"):
    RunFolder(tmp_path).claim(settings)


PROGRAM = """
import sys, time
import jax
import numpy as np
sys.path.insert(0, {folder!r})
from dgjax import parallel
parallel.start_processes()
rank = jax.process_index()
sent = dict(text="ü", numbers=[1.5, None], rank=0) if rank == 0 else None
received = parallel.agree(sent)
assert received == dict(text="ü", numbers=[1.5, None], rank=0), received
assert parallel.agree(None if rank == 0 else 1) is None
devices = parallel.make("jit", 0, 4)
rows = np.arange(4).reshape(2, 2)[rank]
total = devices.compile(lambda x: x * np.arange(4))(devices.put(dict(x=rows))["x"])
assert total.tolist() == [0, 1, 4, 9], total
print("agreed", flush=True)
if rank == 1:
  parallel.leave_others(3, seconds=0.5)
  sys.exit(3)
time.sleep(60)
"""


def test_processes_agree_and_a_failed_one_leaves():
  spec = importlib.util.spec_from_file_location("launch_local", LAUNCHER)
  local = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(local)
  port, text = local.free_port(), PROGRAM.format(folder=str(LAUNCHER.parents[1]))
  environments = [{**local.environment(rank, 2, port), "XLA_FLAGS": ""} for rank in range(2)]
  processes = [subprocess.Popen([sys.executable, "-c", text], env=environment, stdout=subprocess.PIPE, text=True)
               for environment in environments]
  try:
    assert all("agreed\n" in iter(process.stdout.readline, "") for process in processes)
    begin = time.monotonic()
    assert processes[1].wait(60) == 3
  finally:
    for process in processes:
      process.kill()
      process.communicate()
  assert time.monotonic() - begin < 50  # an orderly end would have waited for the other

