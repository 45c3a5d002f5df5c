"""Executes every notebook, with fewer steps than it has as committed, and looks at what is committed."""

import os
import pathlib
import re

import nbformat
import pytest
from helpers import environment
from nbclient import NotebookClient

ROOT = pathlib.Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
# What a notebook's outputs must contain, executed or committed, and how many figures it has.
EXPECTED = {
    "adapting_without_labels": (["A-distance", "source only", "WEMNet", "source_val lacks"], 2),
    "crossgrad_perturbations": (["moved by > 0.1", "along the domain loss", "nearest centre in g", "digit (of 10)"], 5),
    "dynamic_residuals": (["Phi (4, 16, 32)", "within a domain", "a static network", "same prediction"], 2),
    "learned_masks": (["by hand", "selected by", "masks/conv3", "IoU in %", "on for it alone", "none off", "member/2",
                       "combined right"], 8),
    "missing_patterns": (["selected by source_val", "neither", "ERM wrong", "other is nearer"], 6),
    "own_images": (["place left out", "probability 0.", "all models together"], 3),
    "own_method": (["irm/algorithm.penalty_weight=", "step chosen by source_val", "±"], 3)}

each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def outputs(notebook):
  return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def text(notebook):
  return "\n".join(output.get("text", "") for output in outputs(notebook))


def check(notebook, name):
  """No cell failed or warned, and the key outputs are there."""
  strings, figures = EXPECTED[name]
  assert [(name, out) for out in outputs(notebook)
          if out.output_type == "error" or out.get("name") == "stderr"] == []
  assert [string for string in strings if string not in text(notebook)] == []
  assert sum("image/png" in output.get("data", {}) for output in outputs(notebook)) == figures


def execute(paths, folder):
  """Executes notebooks one after the other in one process, as importing JAX takes as long as many a notebook.

  A name that a notebook does not define itself is an error: all names are deleted before each.

  Returns:
    The notebooks with their outputs.
  """
  notebooks = [nbformat.read(path, as_version=4) for path in paths]
  start = f"%reset -f\nimport os\nos.chdir({str(folder)!r})"
  whole = nbformat.v4.new_notebook(metadata=notebooks[0].metadata)
  for notebook in notebooks:
    whole.cells += [nbformat.v4.new_code_cell(start), *notebook.cells]
  NotebookClient(whole, timeout=300, kernel_name="python3", allow_errors=True).execute()
  return notebooks


@pytest.mark.parametrize("half", [0, 1])
def test_notebooks_run(half, tmp_path, monkeypatch):
  (tmp_path / "notebooks").mkdir()
  one_device = environment(  # as a reader has it; optimised, as what runs takes longer here than what compiles
      DGJAX_NOTEBOOK_STEPS="20", JAX_DISABLE_MOST_OPTIMIZATIONS="0",
      JAX_COMPILATION_CACHE_DIR=os.path.join(os.environ["DGJAX_CACHE"], "xla"))
  for name, value in one_device.items():
    monkeypatch.setenv(name, value)
  paths = NOTEBOOKS[half::2]
  for path, notebook in zip(paths, execute(paths, tmp_path / "notebooks"), strict=True):
    check(notebook, path.stem)


@each
def test_notebook_is_committed_with_its_outputs(path):
  notebook = nbformat.read(path, as_version=4)
  nbformat.validate(notebook)
  check(notebook, path.stem)
  code = [cell for cell in notebook.cells if cell.cell_type == "code"]
  assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1)), "run it from the top before a commit"
  assert all("execution" not in cell.metadata for cell in code), "timestamps"
  assert not re.search(r"(?<!\.)/(home|root|tmp|Users|work)/|\b\d{1,2}:\d\d:\d\d\b", text(notebook)), "paths or times"
  assert path.stat().st_size < 400_000
