"""Training from Python: `dgjax.train` and `dgjax.train_all`."""

import pathlib
from typing import Any

from ml_collections import ConfigDict

from dgjax import plan
from dgjax.data import Dataset
from dgjax.errors import UserError


def train(config: ConfigDict, *, dataset: Dataset | None = None, workdir: pathlib.Path | str = "") -> dict[str, Any]:
  """Trains and evaluates one run. Resumes it from its checkpoint, or reads its results if it is finished.

  Args:
    config: as `dgjax.load_config` returns it. Its `target` names the domain that is left out.
    dataset: the data set; default: the one that the config names.
    workdir: the run's folder; default: `runs/METHOD_DATASET`.

  Returns:
    The contents of the run's `results.json`.

  Raises:
    UserError: the config stands for several runs, a setting or the data are wrong, or the loss was not finite.
    dgjax.preemption.Preempted: a signal asked it to stop; everything is saved.

  The docstring of `dgjax` has an example.
  """
  folder = _folder(config, dataset, workdir)
  runs = sum(map(len, plan.plan(config, folder, dataset)))
  if runs != 1:
    raise UserError(f"the config stands for {runs} runs (target {config.target!r}, seeds {config.seeds}, sweep "
                    f"{config.sweep!r}): train_all trains them all; or set target to one domain, seeds to 1 and no "
                    "sweep")
  return plan.train(config, folder, dataset)[0]


def train_all(config: ConfigDict, *, dataset: Dataset | None = None,
              workdir: pathlib.Path | str = "") -> list[dict[str, Any]]:
  """Trains all runs that a config stands for: each target of "all", each seed, each value of a sweep.

  Runs of one shape train together in one program. Finished runs are not trained again, and the others go on from their
  checkpoints.

  Args:
    config: as `dgjax.load_config` returns it.
    dataset: the data set; default: the one that the config names.
    workdir: of the runs' folders, TARGET/KEY=VALUE/seed=K with each part only where there are several; of a single run
      its folder. Default: `runs/METHOD_DATASET`.

  Returns:
    The contents of each run's `results.json`, by target, then by the sweep's values, then by seed.

  Raises:
    UserError: a setting or the data are wrong; or runs failed, after all others are done.
    dgjax.preemption.Preempted: a signal asked it to stop; everything is saved.
  """
  return plan.train(config, _folder(config, dataset, workdir), dataset)


def _folder(config: ConfigDict, dataset: Dataset | None, workdir: pathlib.Path | str) -> pathlib.Path:
  """The folder that is asked for, or the default."""
  name = dataset.name if dataset else config.data.name
  return pathlib.Path(workdir or pathlib.Path("runs") / f"{config.algorithm.name.rpartition(':')[2]}_{name}")
