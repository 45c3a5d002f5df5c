import os
import subprocess
import sys

import pytest

from dgjax import memory

PROGRAM = """
import os, sys
from dgjax import memory
assert "jax" not in sys.modules
print("start", os.getpid(), flush=True)
memory.use_huge_pages()
print(os.getpid(), os.environ.get(memory.TUNABLES), sys.argv[1:])
"""


@pytest.fixture
def policy(tmp_path, monkeypatch):
  """What the system says of huge pages, and the call that would start the process anew."""
  calls = []
  monkeypatch.setattr(memory, "POLICY", tmp_path / "enabled")
  monkeypatch.setattr(os, "execve", lambda *call: calls.append(call))
  monkeypatch.delenv(memory.TUNABLES, raising=False)
  return memory.POLICY, calls


def test_the_command_starts_anew_once_with_its_arguments(tmp_path):
  environment = {name: value for name, value in os.environ.items() if name != memory.TUNABLES}
  program = PROGRAM.replace("memory.use", "import pathlib; memory.POLICY = pathlib.Path('enabled')\nmemory.use")
  (tmp_path / "enabled").write_text("always [madvise] never\n")
  (tmp_path / "program.py").write_text(program)
  done = subprocess.run([sys.executable, "-W", "error", "program.py", "a b", "--c=d"], cwd=tmp_path, text=True,
                        capture_output=True, check=True, env=environment | {"PYTHONPATH": os.getcwd()})
  first, second, last = done.stdout.splitlines()
  number = first.split()[1]
  assert first == second and last == f"{number} glibc.malloc.hugetlb=1 ['a b', '--c=d']"


def test_other_tunables_are_kept(policy, monkeypatch):
  path, calls = policy
  path.write_text("always [madvise] never\n")
  monkeypatch.setenv(memory.TUNABLES, "glibc.malloc.arena_max=2")
  memory.use_huge_pages()
  (program, arguments, environment), = calls
  assert program == arguments[0] == sys.executable and arguments[1:] == sys.orig_argv[1:]
  assert environment[memory.TUNABLES] == "glibc.malloc.arena_max=2:glibc.malloc.hugetlb=1"


@pytest.mark.parametrize("text", ["[always] madvise never\n", "always madvise [never]\n", None])
def test_a_system_that_decides_itself_is_left_alone(policy, text):
  path, calls = policy
  if text is not None:
    path.write_text(text)
  memory.use_huge_pages()
  assert not calls


def test_a_choice_and_a_notebook_are_left_alone(policy, monkeypatch):
  path, calls = policy
  path.write_text("always [madvise] never\n")
  monkeypatch.setenv(memory.TUNABLES, "glibc.malloc.hugetlb=0")
  memory.use_huge_pages()
  monkeypatch.delenv(memory.TUNABLES)
  with monkeypatch.context() as patch:
    patch.setattr(sys, "ps1", ">>> ", raising=False)
    memory.use_huge_pages()
  monkeypatch.setattr(sys, "platform", "darwin")
  memory.use_huge_pages()
  assert not calls
