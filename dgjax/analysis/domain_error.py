"""How well a trained WEMNet's discriminator tells domains, from features with and without their domain's part."""

from typing import Any

import jax
import numpy as np

from dgjax.algorithms.wemnet import WEMNet
from dgjax.data import pipeline
from dgjax.errors import UserError
from dgjax.runs import Run


def domain_errors(run: Run, batch_size: int = 256) -> dict[str, dict[str, float]]:
  """The mean domain error over the images that a run was trained on, in each domain.

  Args:
    run: a finished run of WEMNet.
    batch_size: of the evaluation.

  Returns:
    For each source domain and the target: "with" and "without" DIM's part of the features, each in [0, 50]. Without DIM
    the two are the same.

  Raises:
    UserError: the run is of another method.

  Source: wemnet.txt, section 3.4, Eq. 12, Table 4, which trains for 10 epochs.
  """
  if not isinstance(run.algorithm, WEMNet):
    raise UserError(f"the domain error is WEMNet's, and this run is of {run.config.algorithm.name}")
  algorithm = run.algorithm

  @jax.jit
  def total(state: Any, batch: Any) -> dict[str, jax.Array]:
    errors = algorithm.domain_errors(state, run.normalise(batch)["image"])
    return {name: (values * batch["mask"]).sum() for name, values in errors.items()}

  splits = {**dict.fromkeys(run.sources, "train"), run.target: run.dataset.adaptation_split(run.target)}
  result = {}
  for domain, split in splits.items():
    batches = pipeline.evaluate(run.dataset, domain, split, batch_size=batch_size,
                                image_size=run.config.data.image_size)
    sums = [jax.device_get(total(run.state, batch)) for batch in batches]
    result[domain] = {name: float(np.sum([s[name] for s in sums]) / batches.examples) for name in ("with", "without")}
  return result
