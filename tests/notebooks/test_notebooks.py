"""Executes every notebook, with fewer steps than it has as committed, and looks at what is committed."""

import os
import pathlib
import re
import shutil

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = pathlib.Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
# What a notebook's outputs must contain, executed or committed, and how many figures it has.
EXPECTED = {"learned_masks": (["selected by", "masks/conv3", "IoU in %", "on for it alone", "none off", "member/2",
                               "combined right"], 8)}

each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def outputs(notebook):
  return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def text(notebook):
  return "\n".join(output.get("text", "") for output in outputs(notebook))


def check(notebook, name):
  """No cell failed or warned, and the key outputs are there."""
  strings, figures = EXPECTED[name]
  assert [out for out in outputs(notebook) if out.output_type == "error" or out.get("name") == "stderr"] == []
  assert [string for string in strings if string not in text(notebook)] == []
  assert sum("image/png" in output.get("data", {}) for output in outputs(notebook)) == figures


@each
def test_notebook_runs(path, tmp_path, monkeypatch):
  shutil.copytree(ROOT / "configs", tmp_path / "configs")
  folder = tmp_path / "notebooks"
  folder.mkdir()
  monkeypatch.setenv("DGJAX_NOTEBOOK_STEPS", "60")
  monkeypatch.setenv("XLA_FLAGS", "")  # one device, as a reader has it
  monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", os.path.join(os.environ["DGJAX_CACHE"], "xla"))
  notebook = nbformat.read(path, as_version=4)
  NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}}).execute()
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
