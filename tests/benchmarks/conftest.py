"""Benchmarks are scripts: they are imported from their own folder."""

import importlib
import pathlib

import pytest

BENCHMARKS = pathlib.Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch):
  """Imports a benchmark as Python does that runs it: from its own folder."""
  monkeypatch.syspath_prepend(str(BENCHMARKS))
  return importlib.import_module
