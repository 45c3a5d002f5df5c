"""Mutation testing: one small change at a time to losses, methods and configs, and whether their tests notice.

  python benchmarks/mutations.py --count=10 --out=mutants.jsonl [--only=losses/contrastive] [--seed=0]
  python benchmarks/mutations.py --again=mutants.jsonl     # those that survived, once more
  python benchmarks/mutations.py --named                   # `NAMED`, each of which once survived every test

It needs `cosmic-ray` (not a dependency) for the changes themselves: another number, operator, comparison, a condition
turned round, a loop without passes, a decorator gone. `--count` of them are drawn from each file, made in a copy of the
working tree, and tested by that file's tests alone. Annotations are left alone. It prints every change that survives.
What `--out` has already is not made again, so that the same command goes on where it was stopped, and a larger count
adds to a smaller.
"""

import argparse
import json
import math
import os
import pathlib
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

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
# -> the files of tests that they are in
METHODS = {**dict.fromkeys(RCL, "rcl"), "alternating": "mcd", "m3sda": "mcd", "base": "aggregate adda"}
CONFIGS = " or ".join(("own_images", "settings", "rows", "moves", "masks", "smoothing", "drts", "alike", "weight",
                       "resid", "ramps", "heads"))

SETTINGS = "tests/test_config.py -k"
PASS = '    *{0}, batch_stats = self.run(params, state, batch["{0}"]["image"], {0}_key)\n'
BETWEEN = "    state = state.replace(batch_stats=batch_stats)\n"
# What is changed -> the file, the text that goes, what comes in its place, and the tests that have to notice.
NAMED = {
    "RCL's rate x10": ("configs/rcl_mnist_mp.py", "learning_rate = 1e-3", "learning_rate = 1e-2",
                       f"{SETTINGS} rcls_settings"),
    "RCL without weight decay": ("configs/rcl_mnist_mp.py", "weight_decay = 1e-5", "weight_decay = 0.0",
                                 f"{SETTINGS} rcls_settings"),
    "RCL without Nesterov": ("configs/rcl_mnist_mp.py", "nesterov = True", "nesterov = False",
                             f"{SETTINGS} rcls_settings"),
    "CrossGrad's rate x10": ("dgjax/shared.py", "learning_rate = 0.02", "learning_rate = 0.2",
                             f"{SETTINGS} crossgrads_settings"),
    "DRT's decay period 50": ("dgjax/shared.py", '"period": 5,', '"period": 50,', f"{SETTINGS} drts_settings"),
    "DRT's reversal 0.25": ("dgjax/shared.py", '"algorithm.reversal": 4.0', '"algorithm.reversal": 0.25',
                            f"{SETTINGS} drts_settings"),
    "TLL's rate x10": ("dgjax/shared.py", "learning_rate = 0.01", "learning_rate = 0.1",
                       f"{SETTINGS} wemnets_settings"),
    "Digit-Five for 3 epochs": ("configs/drt_digit_five.py", "c.epochs = 300", "c.epochs = 3",
                                f"{SETTINGS} digit_fives_settings"),
    "ADDA's second phase at learning rate 0": (
        "dgjax/algorithms/adda.py", 'rate * state.hparams["adaptation_rate"]', "0 * rate",
        "tests/algorithms/test_properties.py -k falls[adda]"),
    "DMG.dropout ignored": ("dgjax/algorithms/__init__.py", "classes, dropout=cls.dropout", "classes, dropout=True",
                            "tests/algorithms/test_dmg.py"),
    "ADDA's frozen encoder with live statistics": (
        "dgjax/algorithms/adda.py", 'self.network.apply(state.extra["source"], batch',
        'self.network.apply({**state.extra["source"], "batch_stats": state.batch_stats["network"]}, batch',
        "tests/algorithms/test_adda.py"),
    "MCD's target before its source": (
        "dgjax/algorithms/mcd.py", *(BETWEEN.join(PASS.format(name) for name in order)
                                     for order in (("source", "target"), ("target", "source"))),
        "tests/algorithms/test_mcd.py"),
    "CrossGrad's statistics without the moved pass": (
        "dgjax/algorithms/crossgrad.py", "(moved_label, (batch_stats, _))", "(moved_label, (_, _))",
        "tests/algorithms/test_crossgrad.py"),
    "CrossGrad's concatenation without g": (
        "dgjax/algorithms/crossgrad.py", "jax.lax.stop_gradient(domain_embedding)", "jnp.zeros_like(domain_embedding)",
        "tests/algorithms/test_crossgrad.py"),
}


def files(only: str) -> dict[pathlib.Path, list[str]]:
  """What is changed, below the root -> arguments of pytest."""
  found = {}
  for folder in ("losses", "algorithms"):
    for path in sorted((ROOT / "dgjax" / folder).glob("*.py")):
      if path.stem != "__init__":
        names = METHODS.get(path.stem, path.stem) if folder == "algorithms" else path.stem
        found[path.relative_to(ROOT)] = [f"tests/{folder}/test_{name}.py" for name in names.split()]
        if folder == "algorithms":
          found[path.relative_to(ROOT)].insert(0, "tests/algorithms/test_settings.py")
  for path in [*sorted((ROOT / "configs").glob("*.py")), ROOT / "dgjax" / "shared.py"]:
    found[path.relative_to(ROOT)] = ["tests/test_config.py", "-k", CONFIGS]
  return {path: tests for path, tests in found.items() if any(part in str(path) for part in only.split(","))}


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


class Mutant(NamedTuple):
  """One change: what is said of it, the file below the root, the file's text with it, and arguments of pytest."""

  line: dict[str, str | int]
  path: pathlib.Path
  text: str
  tests: list[str]


class Compiled:
  """Keeps what is compiled for the tests of the next change."""

  def __init__(self, folder: pathlib.Path):
    self.folder = folder

  def pytest_sessionstart(self) -> None:
    """After the tests' own settings."""
    jax.config.update("jax_compilation_cache_dir", str(self.folder))


def fails(tree: pathlib.Path, tests: list[str], limit: float) -> bool:
  """Whether tests fail in a copy of the working tree, or take longer than `limit` seconds, as a loop without end.

  They run in a fork, which need not import JAX again.
  """
  pid = os.fork()
  if not pid:
    signal.alarm(math.ceil(limit))
    os.chdir(tree)
    sys.path.insert(0, str(tree))
    os.environ["PYTHONPATH"] = str(tree)
    with open(os.devnull, "w") as nothing:
      os.dup2(nothing.fileno(), 1)
      os.dup2(nothing.fileno(), 2)
    os._exit(int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *tests], [Compiled(tree / "xla")]) != 0))
  return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 0


def lines(path: pathlib.Path | None) -> list[dict[str, Any]]:
  """What an `--out` has; nothing where there is none."""
  return [json.loads(line) for line in path.read_text().splitlines()] if path and path.exists() else []


def drawn(options: argparse.Namespace) -> Iterator[Mutant]:
  """The changes that are still to be made."""
  made = [(line["file"], line["operator"], line["place"]) for line in lines(options.out)]
  for path, tests in files(options.only).items():
    source = (ROOT / path).read_text()
    if options.again:
      here = [line for line in lines(options.again) if line["file"] == str(path) and not line["killed"]]
      todo = [(line["operator"], line["place"]) for line in here]
    else:
      known = changes(source)
      todo = random.Random(f"{options.seed} {path}").sample(known, len(known))[:options.count]
    for name, place in todo:
      changed = None if (str(path), name, place) in made else mutate_code(source, get_operator(name)(), place)
      if changed not in (None, source):
        yield Mutant({"file": str(path), "operator": name, "place": place, "change": difference(source, changed)},
                     path, changed, tests)


def named() -> Iterator[Mutant]:
  """The changes of `NAMED`."""
  for name, (file, old, new, tests) in NAMED.items():
    source = (ROOT / file).read_text()
    if source.count(old) != 1:
      raise SystemExit(f"{name}: {file} has {old!r} {source.count(old)} times")
    yield Mutant({"file": file, "operator": "", "place": 0, "change": name}, pathlib.Path(file),
                 source.replace(old, new), tests.split())


def main(argv: list[str]) -> int:
  """Makes the changes, and says how many there were and which survived."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--count", type=int, default=10, help="changes of each file")
  parser.add_argument("--only", default="", help="files whose path has one of these parts in it, such as losses,mcd")
  parser.add_argument("--seed", type=int, default=0, help="of the draw")
  parser.add_argument("--out", type=pathlib.Path, help="a line of JSON for each change")
  parser.add_argument("--named", action="store_true", help="make the changes of `NAMED`")
  parser.add_argument("--again", type=pathlib.Path, help="an `--out` of before: makes what survived there")
  options = parser.parse_args(argv)
  made, survived, limits = 0, 0, {}
  with tempfile.TemporaryDirectory() as folder:
    copy = pathlib.Path(folder) / "tree"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".git", "runs", "__pycache__"))
    for mutant in named() if options.named else drawn(options):
      key = " ".join(mutant.tests)
      if key not in limits:
        start = time.monotonic()
        if fails(copy, mutant.tests, 3600):
          raise SystemExit(f"{key} fails as it is")
        limits[key] = 30 + 3 * (time.monotonic() - start)
      (copy / mutant.path).write_text(mutant.text)
      killed = fails(copy, mutant.tests, limits[key])
      (copy / mutant.path).write_text((ROOT / mutant.path).read_text())
      made, survived = made + 1, survived + (not killed)
      if options.out:
        with options.out.open("a") as out:
          out.write(json.dumps({**mutant.line, "killed": killed}) + "\n")
      if not killed:
        print(f"survives: {mutant.path}:{mutant.line['change']}  ({mutant.line['operator'].partition('/')[2]})",
              flush=True)
  print(f"{made} changes, {survived} survive")
  return 0


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
