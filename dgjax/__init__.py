"""Domain generalisation and adaptation in JAX.

A config says what a run is; a data set is found by its name in the config, or handed over; a run's folder is a model:

  >>> import dgjax, numpy as np
  >>> rng = np.random.default_rng(0)
  >>> images = rng.integers(0, 256, (240, 16, 16, 3), dtype=np.uint8)
  >>> labels, domains = np.arange(240) % 4, np.arange(240) // 80
  >>> dataset = dgjax.Dataset.from_arrays(images, labels, domains, domain_names=["photo", "sketch", "cartoon"])
  >>> config = dgjax.load_config("dmg_digits", {"target": "cartoon", "steps": 2, "batch_size": 16})
  >>> results = dgjax.train(config, dataset=dataset, workdir="runs/example")
  >>> results["method"], results["target"], results["step"]
  ('dmg', 'cartoon', 2)
  >>> dgjax.load("runs/example").predict(images[:5]).shape
  (5, 4)
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from dgjax.algorithms import ALGORITHMS as ALGORITHMS
  from dgjax.algorithms import Algorithm as Algorithm
  from dgjax.algorithms import TrainState as TrainState
  from dgjax.api import train as train
  from dgjax.config import load as load_config  # noqa: F401
  from dgjax.data import DATASETS as DATASETS
  from dgjax.data import Dataset as Dataset
  from dgjax.errors import UserError as UserError
  from dgjax.experiment import Experiment as Experiment
  from dgjax.models import NETWORKS as NETWORKS
  from dgjax.models.network import Network as Network
  from dgjax.runs import Run as Run
  from dgjax.runs import load as load

__version__ = "0.2.0"

# Name -> the module it is in, and its name there. They load when they are used: jax takes seconds to import.
_PUBLIC = {
    "ALGORITHMS": ("algorithms", "ALGORITHMS"), "Algorithm": ("algorithms", "Algorithm"),
    "TrainState": ("algorithms", "TrainState"), "train": ("api", "train"), "load_config": ("config", "load"),
    "DATASETS": ("data", "DATASETS"), "Dataset": ("data", "Dataset"), "UserError": ("errors", "UserError"),
    "Experiment": ("experiment", "Experiment"), "NETWORKS": ("models", "NETWORKS"),
    "Network": ("models.network", "Network"), "Run": ("runs", "Run"), "load": ("runs", "load")}
__all__ = ["__version__", *sorted(_PUBLIC)]


def __getattr__(name: str) -> Any:
  if name not in _PUBLIC:
    raise AttributeError(f"module 'dgjax' has no attribute {name!r}")
  module, attribute = _PUBLIC[name]
  return getattr(importlib.import_module(f"dgjax.{module}"), attribute)


def __dir__() -> list[str]:
  return [*globals(), *_PUBLIC]
