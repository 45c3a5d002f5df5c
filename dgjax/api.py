"""Training from Python. `dgjax.train` comes from this module."""

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
  name = dataset.name if dataset else config.data.name
  folder = pathlib.Path(workdir or pathlib.Path("runs") / f"{config.algorithm.name.rpartition(':')[2]}_{name}")
  found = plan.transfers(config, dataset)
  if len(found) != 1 or found[0].folder:
    raise UserError(f"config.target is {config.target!r}: name one domain, such as {found[0].target!r}, and call train "
                    "for each")
  return plan.train(config, folder, dataset)[0]
