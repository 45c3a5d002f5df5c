import os
import subprocess
import sys
import types

import jax
import pytest

from dgjax import config, data, memory
from dgjax.errors import UserError

PROGRAM = """
import os, pathlib, subprocess, sys
from dgjax import memory
assert "jax" not in sys.modules
print("start", os.getpid(), flush=True)
memory.POLICY, memory.ACCELERATORS = pathlib.Path("enabled"), ()
memory.use_huge_pages(__file__)
print(os.getpid(), sys.argv[1:], flush=True)
subprocess.run(["env"])
"""
COMMAND = ["python", "-m", "dgjax.main", "--config=x"]


@pytest.fixture
def starts(tmp_path, monkeypatch):
  """The new starts there were, on a machine on which all speaks for one."""
  calls = []
  monkeypatch.setattr(memory, "POLICY", tmp_path / "enabled")
  memory.POLICY.write_text("always [madvise] never\n")
  monkeypatch.setattr(memory, "ACCELERATORS", ())
  monkeypatch.setattr(os, "execve", lambda *call: calls.append(call))
  monkeypatch.setattr(sys, "orig_argv", COMMAND)
  monkeypatch.setattr(sys, "gettrace", lambda: None)
  monkeypatch.setattr(sys, "getprofile", lambda: None)
  for name in (memory.TUNABLES, memory.STARTED_ANEW):
    monkeypatch.delenv(name, raising=False)
  return calls


@pytest.mark.parametrize("before", [None, "glibc.malloc.arena_max=2"])
def test_the_command_starts_anew_once_and_leaves_no_trace(tmp_path, before):
  environment = {name: value for name, value in os.environ.items() if name != memory.TUNABLES}
  environment |= {"PYTHONPATH": os.getcwd(), **({memory.TUNABLES: before} if before else {})}
  (tmp_path / "enabled").write_text("always [madvise] never\n")
  (tmp_path / "program.py").write_text(PROGRAM)
  done = subprocess.run([sys.executable, "-W", "error", "program.py", "a b", "--c=d"], cwd=tmp_path, text=True,
                        capture_output=True, check=True, env=environment)
  first, second, last, *child = done.stdout.splitlines()
  assert first == second and last == f"{first.split()[1]} ['a b', '--c=d']"
  left = [line for line in child if line.startswith((memory.TUNABLES, memory.STARTED_ANEW))]
  assert left == ([f"{memory.TUNABLES}={before}"] if before else [])


def test_a_second_call_does_not_start_again(starts, monkeypatch):
  monkeypatch.setattr(memory, "_started_anew", False)
  monkeypatch.setenv(memory.STARTED_ANEW, "")
  memory.use_huge_pages()
  memory.use_huge_pages()
  assert not starts and memory.STARTED_ANEW not in os.environ


def test_other_tunables_are_kept(starts, monkeypatch):
  monkeypatch.setenv(memory.TUNABLES, "glibc.malloc.arena_max=2")
  memory.use_huge_pages()
  (program, arguments, environment), = starts
  assert program == arguments[0] == sys.executable and arguments[1:] == COMMAND[1:]
  assert environment[memory.TUNABLES] == "glibc.malloc.arena_max=2:glibc.malloc.hugetlb=1"


@pytest.mark.parametrize("command,expected", [
    ("python -m dgjax.main", True), ("python -X dev -W error -I -m dgjax.main --list", True),
    ("python /venv/bin/dgjax train", True), ("python -u /venv/bin/dgjax", True), ("python here/bench.py -n 3", True),
    ("python -m pdb -m dgjax.main", False), ("python -m cProfile -m dgjax.main", False),
    ("python /venv/bin/coverage run -m dgjax.main", False), ("python -m debugpy --listen 5678 -m dgjax.main", False),
    ("python sweep.py -m dgjax.main", False), ("python -m sweep /venv/bin/dgjax", False), ("python -m pytest", False),
    ("python -c pass -m dgjax.main", False), ("python - -m dgjax.main", False), ("python", False), ("", False)])
def test_nothing_but_the_command_itself_starts_anew(starts, monkeypatch, command, expected):
  monkeypatch.setattr(sys, "orig_argv", command.split())
  memory.use_huge_pages("here/bench.py")
  assert len(starts) == expected


@pytest.mark.parametrize("name", ["gettrace", "getprofile"])
def test_a_program_that_is_traced_is_left_alone(starts, monkeypatch, name):
  monkeypatch.setattr(sys, name, lambda: print)
  memory.use_huge_pages()
  assert not starts


def test_a_machine_with_an_accelerator_is_left_alone(starts, monkeypatch, tmp_path):
  monkeypatch.setattr(memory, "ACCELERATORS", (f"{tmp_path}/nvidia*",))
  (tmp_path / "nvidia0").write_text("")
  memory.use_huge_pages()
  assert not starts
  (tmp_path / "nvidia0").unlink()
  memory.use_huge_pages()
  assert starts


@pytest.mark.parametrize("text", ["[always] madvise never\n", "always madvise [never]\n", None])
def test_a_system_that_decides_itself_is_left_alone(starts, text):
  memory.POLICY.unlink() if text is None else memory.POLICY.write_text(text)
  memory.use_huge_pages()
  assert not starts


def test_a_choice_and_another_system_are_left_alone(starts, monkeypatch):
  monkeypatch.setenv(memory.TUNABLES, "glibc.malloc.hugetlb=0")
  memory.use_huge_pages()
  monkeypatch.delenv(memory.TUNABLES)
  monkeypatch.setattr(sys, "platform", "darwin")
  memory.use_huge_pages()
  assert not starts


FREED = """
import resource
import jax, jax.numpy as jnp
from dgjax import memory
memory.ACCELERATORS = ()  # JAX is told to use the CPU
memory.keep_freed_memory()
f = jax.jit(lambda x: jnp.sort(jnp.outer(x, x), 0).sum())  # needs 64 MB at once
x = jnp.arange(4096.0)
before = 0
for _ in range(3):
  f(x).block_until_ready()
  faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
  made, before = faults - before, faults
print(made)
"""


@pytest.mark.skipif(not hasattr(memory.ctypes.CDLL(None), "mallopt"), reason="not glibc")
def test_temporaries_come_from_what_the_process_has(monkeypatch):
  for name in (*memory.MALLOC_CHOICES, memory.ASYNC.upper(), "XLA_FLAGS", memory.TUNABLES):
    monkeypatch.delenv(name, raising=False)
  done = subprocess.run([sys.executable, "-c", FREED], text=True, capture_output=True, check=True,
                        env={**os.environ, "PYTHONPATH": os.getcwd(), "JAX_PLATFORMS": "cpu"})
  assert int(done.stdout) < 1000  # pages of 4 kB; 64 MB have 16,000


@pytest.mark.parametrize("environment, kept, called", [
    ({}, True, True), ({"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}, True, False),
    ({"JAX_CPU_ENABLE_ASYNC_DISPATCH": "1"}, True, False), ({"MALLOC_TRIM_THRESHOLD_": "1000"}, False, False)])
def test_freed_memory_is_kept_and_programs_run_where_they_are_called(monkeypatch, environment, kept, called):
  settings, updates = [], []
  for name in (*memory.MALLOC_CHOICES, memory.ASYNC.upper(), "XLA_FLAGS"):
    monkeypatch.delenv(name, raising=False)
  for name, value in environment.items():
    monkeypatch.setenv(name, value)
  monkeypatch.setattr(memory, "ACCELERATORS", ())
  monkeypatch.setattr(sys, "platform", "linux")
  monkeypatch.setattr(memory.ctypes, "CDLL", lambda _: types.SimpleNamespace(mallopt=lambda *a: settings.append(a)))
  monkeypatch.setattr(jax.config, "update", lambda *a: updates.append(a))
  memory.keep_freed_memory()
  assert [setting for setting, _ in settings] == [memory.M_MMAP_THRESHOLD, memory.M_TRIM_THRESHOLD] * kept
  assert updates == [(memory.ASYNC, False)] * called


def test_an_accelerators_host_memory_is_left_alone(monkeypatch, tmp_path):
  monkeypatch.setattr(memory, "ACCELERATORS", (str(tmp_path),))
  monkeypatch.setattr(memory.ctypes, "CDLL", None)  # a call would fail
  memory.keep_freed_memory()


@pytest.mark.parametrize("allowed, refused", [(memory.resource.RLIM_INFINITY, False), (4_000_000 << 10, False),
                                              (2_000_000 << 10, True)])
def test_too_few_addresses_are_told_before_anything_hangs(monkeypatch, allowed, refused):
  monkeypatch.setattr(memory.resource, "getrlimit", lambda which: (allowed, allowed))
  if refused:
    with pytest.raises(UserError, match=r"^the process may use 2000000 KiB of addresses \(ulimit -v\).*unlimited"):
      data.load(config.load("dmg_digits").data, 0)
  else:
    memory.check_addresses()
