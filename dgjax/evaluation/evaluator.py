"""What a run measures of a state: validation on the sources, the target, and the full report at the end."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
from ml_collections import ConfigDict

from dgjax.algorithms.base import Algorithm, Batch, TrainState
from dgjax.data import Dataset, pipeline
from dgjax.evaluation.accuracy import Counter, accuracy, class_accuracy
from dgjax.parallel import Devices


def _go_on() -> None:
  """Lets an evaluation go on."""


@dataclasses.dataclass(frozen=True)
class Evaluator:
  """Scores states on the splits of a run's domains.

  Attributes:
    config: of the run.
    dataset: its data set.
    sources, target: its domains.
    algorithm: the method.
    devices: where batches are put.
    normalise: applied to each batch on the device.
  """

  config: ConfigDict
  dataset: Dataset
  sources: tuple[str, ...]
  target: str
  algorithm: Algorithm
  devices: Devices
  normalise: Callable[[Batch], Batch]

  @functools.cached_property
  def count(self) -> Counter:
    """Counts right predictions; what it compiles serves all evaluations."""
    return Counter(self.algorithm, self.devices, self.normalise)

  @property
  def known(self) -> bool:
    """Whether the sources' held-out examples are of domains that were trained on."""
    return self.dataset.groups is None

  @property
  def members(self) -> tuple[str, ...]:
    """Names of the domains that were trained on, as a method's `domain` counts them."""
    return self.dataset.groups or self.sources

  def batches(self, domain: str, split: str) -> pipeline.EvalBatches:
    """Every image of a split exactly once, in batches that the devices divide."""
    size = math.ceil(self.config.eval_batch_size / self.devices.mesh.size) * self.devices.mesh.size
    index = self.sources.index(domain) if domain in self.sources else 0
    return pipeline.evaluate(self.dataset, domain, split, batch_size=size, image_size=self.config.data.image_size,
                             domain_index=index, process_index=jax.process_index(),
                             process_count=jax.process_count(), threads=self.config.data.threads)

  def scores(self, state: TrainState, pause: Callable[[], None] = _go_on) -> tuple[dict[str, float], float]:
    """Scores a state as selection rules need it.

    Args:
      state: a state in training.
      pause: called before each batch; it may raise to end the evaluation early.

    Returns:
      For each source the accuracy on its validation split, the domain being told to the method where it was trained
      on; and the accuracy on the target's test split.
    """
    rule = (self.known and self.algorithm.validation) or self.algorithm.prediction

    def score(domain: str, split: str, mode: str, known: bool) -> float:
      return accuracy(self.count(state, self.batches(domain, split), modes=[mode], known=known, pause=pause))[mode]

    val = {domain: score(domain, "val", rule, self.known) for domain in self.sources}
    return val, score(self.target, "test", self.algorithm.prediction, False)

  def measures(self, state: TrainState) -> dict[str, Any]:
    """What the state says of itself, such as the overlap of its masks; see `Algorithm.measures`."""
    return self.algorithm.measures(host(state), self.members)

  def report(self, state: TrainState, pause: Callable[[], None] = _go_on) -> dict[str, Any]:
    """Scores a state in every way its method can predict.

    Returns:
      `accuracy`, for each way and domain: the target's test split, and the sources' where the data set has them apart
      from training; `class_accuracy`, likewise, the mean of the classes' accuracies; `mask_matrix` for methods with a
      member per source domain: accuracy of each member alone, and combined, on each source (its test split, or else
      validation) and on the target (dmg.txt, Table 4); `overlap`, what the state says of itself.
    """
    source_test = self.dataset.source_test
    split = "test" if source_test else "val"
    counts = {domain: self.count(state, self.batches(domain, split), known=self.known, pause=pause)
              for domain in self.sources}
    counts[self.target] = self.count(state, self.batches(self.target, "test"), pause=pause)
    scores = {domain: accuracy(counts[domain]) for domain in counts}
    scored = scores if source_test else {self.target: scores[self.target]}
    modes = dict.fromkeys(mode for domain in scored for mode in scored[domain] if not mode.startswith("member/"))
    report: dict[str, Any] = {name: {
        mode: {domain: measure(counts[domain])[mode] for domain in scored if mode in scored[domain]} for mode in modes}
        for name, measure in (("accuracy", accuracy), ("class_accuracy", class_accuracy))}
    if members := [mode for mode in scores[self.target] if mode.startswith("member/")]:
      rows = [*members, self.algorithm.prediction]
      report["mask_matrix"] = {"split": split, "masks": [*self.members, "combined"],
                               "domains": [*self.sources, self.target],
                               "accuracy": [[scores[domain][row] for domain in scores] for row in rows]}
    if measures := self.measures(state):
      report["overlap"] = measures
    return report


def host(state: TrainState) -> TrainState:
  """The state's numbers as NumPy arrays; a PRNG key is none."""
  return jax.device_get(state.replace(key=None))
