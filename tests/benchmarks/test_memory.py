import os
import pathlib
import subprocess
import sys

import pytest
from helpers import environment

ROOT = pathlib.Path(__file__).parents[2]
FEW, MANY, STEPS, EVERY = 90, 1500, 120, 20
MARGIN = 2.0  # MB


@pytest.fixture(scope="module")
def held():
  """Number of images -> step -> MB that objects and arrays hold."""
  cache = os.path.join(os.environ["DGJAX_CACHE"], "xla")
  command = [sys.executable, "benchmarks/memory.py", "--images", str(FEW), str(MANY), f"--steps={STEPS}",
             f"--every={EVERY}", f"--eval_every={STEPS}", "--image_size=48", "--algorithm=aggregate", "--held"]
  done = subprocess.run(command, cwd=ROOT, env=environment(JAX_COMPILATION_CACHE_DIR=cache), capture_output=True,
                        text=True, check=False)
  assert done.returncode == 0, done.stderr
  header, *lines = done.stdout.splitlines()
  assert header.split() == ["step", str(FEW), "images", str(MANY), "images"]
  rows = [line.split() for line in lines]
  assert [int(row[0]) for row in rows] == list(range(EVERY, STEPS + 1, EVERY))
  return {FEW: {int(row[0]): float(row[1]) for row in rows}, MANY: {int(row[0]): float(row[3]) for row in rows}}


@pytest.mark.parametrize("images", [FEW, MANY])
def test_memory_stays_level(held, images):
  """Held batches would add 9 MB in these 80 steps."""
  assert abs(held[images][STEPS] - held[images][2 * EVERY]) < MARGIN


def test_memory_does_not_depend_on_the_number_of_images(held):
  """Held images would be 17 MB decoded."""
  assert abs(held[MANY][STEPS] - held[FEW][STEPS]) < MARGIN
