"""Domain generalisation and adaptation in JAX.

A config says what a run is. A data set is found by its name in the config, or is passed as an argument. The folder of a
finished run is a model:

  >>> import dgjax, numpy as np
  >>> rng = np.random.default_rng(0)
  >>> images = rng.integers(0, 256, (240, 16, 16, 3), dtype=np.uint8)
  >>> labels, domains = np.arange(240) % 4, np.arange(240) // 80
  >>> dataset = dgjax.Dataset.from_arrays(images, labels, domains, domain_names=["photo", "sketch", "cartoon"])
  >>> config = dgjax.load_config("dmg_digits", {"target": "cartoon", "steps": 2})
  >>> results = dgjax.train(config, dataset=dataset, workdir="runs/example")
  >>> results["method"], results["target"], results["step"]
  ('dmg', 'cartoon', 2)
  >>> dgjax.load("runs/example").predict(images[:5]).shape
  (5, 4)

A config may stand for several runs, such as `seeds` of 5 or a `target` of "all"; finished runs are not trained again.

  >>> dgjax.train_all(config, dataset=dataset, workdir="runs/example") == [results]
  True

`load` opens a `Run`: the experiment, and the state that was selected.

  >>> run = dgjax.load("runs/example", rule="last")
  >>> isinstance(run, dgjax.Run), run.step, run.sources, run.members
  (True, 2, ('photo', 'sketch'), ('photo', 'sketch'))
  >>> sorted(run.outputs(images[:5]))
  ['mask_ens', 'member/0', 'member/1', 'pred_ens', 'prob_ens']

Three tables say what the names in a config stand for. `load_config` takes a name of theirs, or FILE.py:NAME for your
own.

  >>> dgjax.ALGORITHMS["mldg"]
  (<class 'dgjax.algorithms.meta.MLDG'>, 'meta-learning on held-out source domains (Li et al., AAAI 2018)')
  >>> "pacs" in dgjax.DATASETS, "resnet18" in dgjax.NETWORKS
  (True, True)
  >>> dgjax.load_config("digits", {"algorithm.name": "mldg", "model.name": "digitnet"}).algorithm.name
  'mldg'

An `Experiment` owns the parts that a run is made of: an `Algorithm` with its `Network`, and the pure functions from a
`TrainState` and a batch to the next.

  >>> experiment = dgjax.Experiment.build(config, dataset)
  >>> isinstance(experiment.algorithm, dgjax.Algorithm), isinstance(experiment.algorithm.network, dgjax.Network)
  (True, True)
  >>> state = experiment.state_shapes()
  >>> isinstance(state, dgjax.TrainState), state.params["masks"]["fc"].shape
  (True, (2, 64))

An error that the user can mend is a `UserError` of one line.

  >>> try:
  ...   dgjax.load_config("dmg_digits", {"stps": 2})
  ... except dgjax.UserError as error:
  ...   print(error)
  no key config.stps (did you mean 'steps'?)
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any

if sys.platform == "win32":
  raise ImportError("dgjax does not run on Windows, which has no fcntl: use it under WSL, on Linux or on macOS")

if TYPE_CHECKING:
  from dgjax.algorithms import ALGORITHMS as ALGORITHMS
  from dgjax.algorithms import Algorithm as Algorithm
  from dgjax.algorithms import TrainState as TrainState
  from dgjax.api import train as train
  from dgjax.api import train_all as train_all
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
    "TrainState": ("algorithms", "TrainState"), "train": ("api", "train"), "train_all": ("api", "train_all"),
    "load_config": ("config", "load"),
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
