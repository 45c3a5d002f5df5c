"""Mutation testing: one small change at a time to losses, methods and configs, and whether their tests notice.

  python benchmarks/mutations.py --count=10 [--only=losses/contrastive] [--seed=0] [--out=mutants.jsonl]

It needs `cosmic-ray` (not a dependency) for the changes themselves: another number, operator, comparison, a condition
turned round, a loop without passes, a decorator gone. `--count` of them are drawn from each file, made in a copy of the
working tree, and tested by that file's tests alone. Annotations are left alone. It prints every change that survives.
"""

import argparse
import json
import os
import pathlib
import random
import shutil
import signal
import sys
import tempfile

import flax  # noqa: F401 (and what follows it: once for all forks)
import grain  # noqa: F401
import jax
import optax  # noqa: F401
import pytest
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

ROOT = pathlib.Path(__file__).parents[1]
RCL = ("channel_dropout", "jigsaw", "reconstruction", "rsc", "spectral_decoupling")
METHODS = {**dict.fromkeys(RCL, "rcl"), "alternating": "mcd", "m3sda": "mcd"}  # -> the test file that they are in
WITHOUT_TESTS_OF_THEIR_OWN = ("__init__", "base")
LIMIT = 900  # seconds for the tests of one change; a loop without end is noticed, too
CONFIGS = "own_images or settings or rows or moves or masks or smoothing or self_training or alike or weight or resid"


def files(only: str) -> dict[pathlib.Path, list[str]]:
  """What is changed, below the root -> arguments of pytest."""
  found = {}
  for folder in ("losses", "algorithms"):
    for path in sorted((ROOT / "dgjax" / folder).glob("*.py")):
      if path.stem not in WITHOUT_TESTS_OF_THEIR_OWN:
        name = METHODS.get(path.stem, path.stem) if folder == "algorithms" else path.stem
        found[path.relative_to(ROOT)] = [f"tests/{folder}/test_{name}.py"]
  for path in [*sorted((ROOT / "configs").glob("*.py")), ROOT / "dgjax" / "shared.py"]:
    found[path.relative_to(ROOT)] = ["tests/test_config.py", "-k", CONFIGS]
  return {path: tests for path, tests in found.items() if only in str(path) and (ROOT / tests[0]).exists()}


def changes(source: str) -> list[tuple[str, int]]:
  """Every change that can be made to a file, as an operator and which of its places."""
  found = []
  nodes = list(ast_nodes(get_ast(source)))
  for name in operator_names():
    operator = get_operator(name)
    if operator.arguments() or "BitOr" in name:  # of annotations, most of all
      continue
    found += [(name, number) for number in range(sum(len(list(operator().mutation_positions(node))) for node in nodes))]
  return found


def difference(old: str, new: str) -> str:
  """The first line that differs, before and after."""
  return next((f"{number}: {a.strip()}  ->  {b.strip()}" for number, (a, b)
               in enumerate(zip(old.splitlines(), new.splitlines(), strict=False), 1) if a != b), "the number of lines")


class Compiled:
  """Keeps what is compiled for the tests of the next change."""

  def __init__(self, folder: pathlib.Path):
    self.folder = folder

  def pytest_sessionstart(self) -> None:
    """After the tests' own settings."""
    jax.config.update("jax_compilation_cache_dir", str(self.folder))


def fails(tree: pathlib.Path, tests: list[str]) -> bool:
  """Whether tests fail in a copy of the working tree; in a fork, which need not import JAX again."""
  pid = os.fork()
  if not pid:
    signal.alarm(LIMIT)
    os.chdir(tree)
    sys.path.insert(0, str(tree))
    os.environ["PYTHONPATH"] = str(tree)
    with open(os.devnull, "w") as nothing:
      os.dup2(nothing.fileno(), 1)
      os.dup2(nothing.fileno(), 2)
    os._exit(int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *tests], [Compiled(tree / "xla")]) != 0))
  return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 0


def main(argv: list[str]) -> int:
  """Makes the changes, and says how many there were and which survived."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--count", type=int, default=10, help="changes of each file")
  parser.add_argument("--only", default="", help="files whose path has this in it")
  parser.add_argument("--seed", type=int, default=0, help="of the draw")
  parser.add_argument("--out", type=pathlib.Path, help="a line of JSON for each change")
  options = parser.parse_args(argv)
  made, survived, sound = 0, 0, []
  with tempfile.TemporaryDirectory() as folder:
    copy = pathlib.Path(folder) / "tree"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".git", "runs", "__pycache__"))
    for path, tests in files(options.only).items():
      if tests not in sound and fails(copy, tests):
        raise SystemExit(f"{' '.join(tests)} fails as it is")
      sound.append(tests)
      source = (ROOT / path).read_text()
      known = changes(source)
      for name, number in random.Random(f"{options.seed} {path}").sample(known, min(options.count, len(known))):
        changed = mutate_code(source, get_operator(name)(), number)
        if changed is None or changed == source:
          continue
        (copy / path).write_text(changed)
        killed = fails(copy, tests)
        made, survived = made + 1, survived + (not killed)
        line = {"file": str(path), "operator": name, "change": difference(source, changed), "killed": killed}
        if options.out:
          with options.out.open("a") as out:
            out.write(json.dumps(line) + "\n")
        if not killed:
          print(f"survives: {path}:{line['change']}  ({name.partition('/')[2]})", flush=True)
      (copy / path).write_text(source)
  print(f"{made} changes, {survived} survive")
  return 0


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
