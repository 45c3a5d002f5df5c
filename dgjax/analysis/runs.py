"""Finished runs, opened for analysis: the config, the data, the method and the state that was selected."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from dgjax import algorithms, data, parallel, train
from dgjax.algorithms import Algorithm, Batch, TrainState
from dgjax.checkpoint import read
from dgjax.data import Dataset
from dgjax.errors import UserError, nearest
from dgjax.evaluation.selection import RULES
from dgjax.files import read_json


@dataclasses.dataclass(frozen=True)
class Run:
  """What a run was made of, and a state of it.

  Attributes:
    config: as resolved when it ran.
    results: the contents of its `results.json`.
    dataset: all domains, the target among them.
    algorithm: the method, with its network and optimiser.
    state: the train state at `step`, on one device.
    rule: which rule selected it.
    step: updates done.
  """

  config: ConfigDict
  results: Mapping[str, Any]
  dataset: Dataset
  algorithm: Algorithm
  state: TrainState
  rule: str
  step: int

  @property
  def sources(self) -> tuple[str, ...]:
    """The source domains; a batch's `domain`, and the rows of masks, count in this order (or `dataset.groups`')."""
    return tuple(self.results["sources"])

  @property
  def target(self) -> str:
    """The domain that training did not see."""
    return self.results["target"]

  def prepare(self, batch: Batch) -> Batch:
    """Normalises the images of a batch (uint8) to what `algorithm` takes (float32)."""
    return train.normaliser(self.dataset)(batch)


def load(folder: pathlib.Path | str, rule: str = "") -> Run:
  """Opens a finished run on one device, wherever it ran.

  Args:
    folder: the run's folder.
    rule: which state: a key of `selection.RULES` that the run kept a checkpoint for ("source_val", "last"); default:
      the one its report was made with.

  Returns:
    The run. Its data set is prepared anew where this machine does not have it.

  Raises:
    UserError: there is no finished run in the folder, no such rule, or no checkpoint of what the rule selected.
  """
  folder = pathlib.Path(folder).absolute()
  path = folder / "results.json"
  if not path.exists():
    unfinished = (folder / "config.json").exists()
    raise UserError(f"{path} is not there: " + ("the run is not finished, start it again to go on with it" if unfinished
                                                else "give the folder of one run, that of one target domain"))
  results = read_json(path, "the results of the run", ("report", "selection", "config"))
  rule = rule or results["report"]["rule"]
  if rule not in RULES:
    raise UserError(f"no selection rule {rule!r}{nearest(rule, RULES)}")
  step = results["selection"][rule]["step"]

  config = ConfigDict(results["config"])
  dataset = data.load(config.data, config.seed)
  examples = sum(dataset.splits[domain]["train"] for domain in results["sources"])
  algorithm = algorithms.build(config, classes=len(dataset.classes), domains=len(dataset.groups or results["sources"]),
                               steps_per_epoch=examples / config.batch_size, steps=results["step"])
  kept = {results["selection"][name]["step"]: name for name in ("source_val", "last")}
  if step not in kept:
    raise UserError(f"{folder} has no checkpoint of step {step}, which {rule} selected: runs keep those of "
                    f"source_val and last (steps {', '.join(map(str, sorted(kept)))})")
  like, directory = _shapes(config, algorithm, dataset), folder / "checkpoints"
  # The best state lies beside the last one, but in runs from before that in a checkpoint of its own.
  if kept[step] == "last" or (directory / str(step)).exists():
    state = read(directory, step, {"state": like})[0]["state"]
  else:
    state = read(directory, results["step"], {"best": like})[0]["best"]
  return Run(config=config, results=results, dataset=dataset, algorithm=algorithm, state=state, rule=rule, step=step)


def _shapes(config: ConfigDict, algorithm: Algorithm, dataset: Dataset) -> TrainState:
  """The state's shapes and types, to be laid on the first device."""
  shape, _ = dataset.example(config.data.image_size)
  batch = train.batch_shapes(shape, algorithm.adapts)
  shapes = jax.eval_shape(lambda: algorithm.init(
      jax.random.key(0), jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), batch)))
  where = parallel.make("jit", 1, 1).replicated
  return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), shapes)
