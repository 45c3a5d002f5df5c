"""Counts a state's correct predictions on every domain and split, under every way that its method can predict."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dgjax.algorithms.base import Algorithm, TrainState, pick
from dgjax.evaluation.accuracy import accuracy, class_accuracy

Counts = Mapping[str, np.ndarray]  # way to predict -> (classes,) correct predictions; "" -> (classes,) images


class Split(NamedTuple):
  """A part of a domain that is scored.

  Attributes:
    domain: its name.
    split: "val" or "test".
    known: whether the method is told which source domain the images are of.
  """

  domain: str
  split: str
  known: bool


def count(algorithm: Algorithm, state: TrainState, batch: Mapping[str, Any], known: bool) -> dict[str, jax.Array]:
  """Counts right predictions on one batch, class by class.

  Args:
    algorithm: the method, whose `outputs` are scored.
    state: a trained state.
    batch: image, normalised; label, domain (b,) int32; mask (b,) bool, False on padding.
    known: whether the method is told the images' source domain.

  Returns:
    For each name of `outputs` the number of correctly classified images of each class, (classes,) int32; under "" the
    number of images of each class.
  """
  outputs = algorithm.outputs(state, batch["image"], batch["domain"] if known else None)
  pick(outputs, algorithm.prediction)  # raises an error that lists the known ways if the setting is none of them
  classes = next(iter(outputs.values())).shape[-1]
  of_class = jax.nn.one_hot(batch["label"], classes, dtype=jnp.int32) * batch["mask"][:, None]
  right = lambda logits: (of_class * (logits.argmax(-1) == batch["label"])[:, None]).sum(0)  # noqa: E731
  return {"": of_class.sum(0)} | {mode: right(logits) for mode, logits in outputs.items()}


@dataclasses.dataclass(frozen=True)
class Measured:
  """The outcome of an evaluation of one state.

  Attributes:
    counts: the counts of every split that was scored.
    sources, target: the run's domains.
    members: names of the domains that were trained on, as a method's `domain` counts them.
    validation: the way to predict in source validation.
    prediction: the way to predict that is reported.
    source_test: whether the sources have test splits that training does not see.
  """

  counts: Mapping[Split, Counts]
  sources: tuple[str, ...]
  target: str
  members: tuple[str, ...]
  validation: str
  prediction: str
  source_test: bool

  def has(self, domain: str, split: str) -> bool:
    """Whether a domain's split was scored."""
    return any(name[:2] == (domain, split) for name in self.counts)

  def of(self, domain: str, split: str) -> Counts:
    """The counts of a domain's split."""
    return next(counts for name, counts in self.counts.items() if name[:2] == (domain, split))

  @property
  def val(self) -> dict[str, float]:
    """For each source the accuracy on its validation split, which rules select by. Empty without validation splits."""
    return {domain: accuracy(self.of(domain, "val"))[self.validation] for domain in self.sources
            if self.has(domain, "val")}

  @property
  def test(self) -> float:
    """Accuracy on the target's test split."""
    return accuracy(self.of(self.target, "test"))[self.prediction]

  def lines(self) -> dict[str, float]:
    """The evaluation as a line of `metrics.jsonl`.

    Returns:
      `val/SOURCE/accuracy` and `test/TARGET/accuracy`, which rules select by. For every way to predict also
      `val/SOURCE/accuracy/WAY`, `test/DOMAIN/accuracy/WAY` and `target_val/TARGET/accuracy/WAY`. The last is measured
      on the target's validation split, for rules that use target labels.
    """
    lines = {f"val/{domain}/accuracy": value for domain, value in self.val.items()}
    lines[f"test/{self.target}/accuracy"] = self.test
    for (domain, split, _), counts in self.counts.items():
      kind = "target_val" if (domain, split) == (self.target, "val") else split
      lines |= {f"{kind}/{domain}/accuracy/{mode}": value for mode, value in accuracy(counts).items()}
    return lines

  def report(self) -> dict[str, Any]:
    """The evaluation of the reported state, as `results.json` holds it.

    Returns:
      `accuracy`: for each way and domain, on the target's test split, and on the sources' if training does not see
      them. `class_accuracy`: the same as a mean of the classes' accuracies. `classes_accuracy`: the accuracy of each
      class on the target. `mask_matrix`, for methods with a member for each source domain: the accuracy of each member
      alone, and combined, on each source (its test split, or else its validation split) and on the target (DMG, Table
      4).
    """
    split = "test" if self.source_test else "val"
    counts = {domain: self.of(domain, split) for domain in self.sources if self.has(domain, split)}
    counts[self.target] = self.of(self.target, "test")
    scores = {domain: accuracy(found) for domain, found in counts.items()}
    scored = scores if self.source_test else {self.target: scores[self.target]}
    modes = dict.fromkeys(mode for domain in scored for mode in scored[domain] if not mode.startswith("member/"))
    report: dict[str, Any] = {name: {
        mode: {domain: measure(counts[domain])[mode] for domain in scored if mode in scored[domain]} for mode in modes}
        for name, measure in (("accuracy", accuracy), ("class_accuracy", class_accuracy))}
    right, there = (counts[self.target][mode].astype(float) for mode in (self.prediction, ""))
    report["classes_accuracy"] = [float(share) if count else None for share, count
                                  in zip(right / np.maximum(there, 1), there, strict=True)]
    if members := [mode for mode in scores[self.target] if mode.startswith("member/")]:
      rows = [*members, self.prediction]
      report["mask_matrix"] = {"split": split, "masks": [*self.members, "combined"],
                               "domains": list(scores),
                               "accuracy": [[scores[domain][row] for domain in scores] for row in rows]}
    return report


def host(state: TrainState) -> TrainState:
  """The state's numbers as NumPy arrays, without the PRNG key."""
  return jax.device_get(state.replace(key=None))


def measures(algorithm: Algorithm, state: TrainState, members: Sequence[str]) -> dict[str, Any]:
  """Scalars that describe the state, such as the overlap of its masks; see `Algorithm.measures`."""
  if type(algorithm).measures is Algorithm.measures:
    return {}  # without fetching the state
  return algorithm.measures(host(state), members)
