"""Self-training: training again, with confident predictions for the target as labels (DRT, DRT+ST)."""

import dataclasses
import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from dgjax.algorithms.base import Algorithm, Batch, Phase, TrainState
from dgjax.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class SelfTraining:
  """Settings of self-training.

  Attributes:
    rounds: number of times that the method trains again. 0: never.
    confidence: a target image takes part if its largest probability is above this.
    mode: which of the method's `outputs` gives the labels.
  """

  rounds: int = 0
  confidence: float = 0.8
  mode: str = "prob_ens"

  def __post_init__(self):
    if self.rounds < 0:
      raise UserError(f"algorithm.self_training.rounds is {self.rounds}: it must be at least 0")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SelfTrained(Algorithm):
  """A method of adaptation that can be trained in rounds, each with labels for the target from the round before.

  The run has `1 + rounds` equal parts, each a phase. If the first part is to be a full run, multiply the run's length
  by that number (DRT's 15 epochs and one round make 30). Each part starts from the same initial parameters, statistics
  and moments, with the schedules at their beginning. In every part but the first a teacher labels the target images of
  each batch, in evaluation mode. The teacher is the state at the end of the part before. Images that it is confident
  about join the source's in the classification loss (see `labelled`). A label is for the image as it is augmented in
  the batch.

  Accuracy falls back when a part starts, so compare states of the last part alone (rule `last`).

  Source: DRT, section 4.3 (DRT+ST, threshold 0.8). Three choices are ours: the mean of both heads' probabilities gives
    the labels; rounds share a start; and labels are given on the fly, so that in a batch source examples and confident
    target examples count alike.

  A subclass's `update` is a step of a part. The target part of its batch may hold the labels that `labelled` reads.

  Attributes:
    self_training: the settings.
  """

  self_training: SelfTraining = SelfTraining()

  adapts: ClassVar[bool] = True

  @property
  def part_steps(self) -> int:
    """Number of updates in a part of the run. The remainder of the division goes to the last part."""
    if not self.steps:
      raise ValueError("self-training has to know the length of the run: set `steps`")
    return max(self.steps // (1 + self.self_training.rounds), 1)

  def init(self, key, batch):
    state = super().init(key, batch)
    if not self.self_training.rounds:
      return state
    learned = {"params": state.params, "batch_stats": state.batch_stats}
    return state.replace(extra={"method": state.extra, "teacher": learned,
                                "initial": {**learned, "method": state.extra}})

  def remember(self, state: TrainState) -> TrainState:
    """Keeps the current state as the start of each part: published weights are loaded after `init`."""
    initial = {"params": state.params, "batch_stats": state.batch_stats, "method": state.extra["method"]}
    return state.replace(extra={**state.extra, "initial": initial})

  def restart(self, state: TrainState) -> TrainState:
    """Makes the state the teacher, and starts training again."""
    initial = state.extra["initial"]
    extra = {"method": initial["method"], "initial": initial,
             "teacher": {"params": state.params, "batch_stats": state.batch_stats}}
    return state.replace(params=initial["params"], batch_stats=initial["batch_stats"], extra=extra,
                         opt_state=self.moments(initial["params"], state.hparams, jnp.zeros_like(state.step)))

  def label(self, state: TrainState, images: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The teacher's labels (B,) int32 of images, and whether it is confident of them, (B,) float32 of 0 and 1."""
    logits = self.predict(state.replace(**state.extra["teacher"]), images, mode=self.self_training.mode)
    confident = jax.nn.softmax(logits).max(-1) > self.self_training.confidence
    return logits.argmax(-1).astype(jnp.int32), confident.astype(jnp.float32)

  @property
  def phases(self):
    if not self.self_training.rounds:
      return super().phases
    first = Phase("training", 0, functools.partial(self.train_part, 0), self.remember)
    again = [Phase(f"round {part}", part * self.part_steps, functools.partial(self.train_part, part), self.restart)
             for part in range(1, 1 + self.self_training.rounds)]
    return (first, *again)

  @property
  def modes(self):
    if not self.self_training.rounds:
      return super().modes
    return super().modes | {"algorithm.self_training.mode": self.self_training.mode}

  def train_part(self, part: int, state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, jax.Array]]:
    """Takes one step of a part, as the method would without self-training in a run of that length.

    Args:
      part: the part's number. Part 0 comes before the rounds and has the draws of a run without rounds.
      state: the run's.
      batch: as `update` takes it.

    Returns:
      The next state, and metrics. Those of a round have the share of confident target images, "confident".
    """
    begin = part * self.part_steps
    target: Any = batch["target"]
    own: dict[str, jax.Array] = {}
    if part:
      labels, confident = self.label(state, target["image"])
      target = {**target, "pseudo_label": labels, "confident": confident}
      own = {"confident": self.average(confident.mean())}
    inside = state.replace(step=state.step - begin, extra=state.extra["method"],
                           key=jax.random.fold_in(state.key, part) if part else state.key)
    method = dataclasses.replace(self, steps=self.part_steps, self_training=SelfTraining())
    after, metrics = method.update(inside, {**batch, "target": target})
    return after.replace(step=after.step + begin, key=state.key, extra={**state.extra, "method": after.extra}), {
        **metrics, **own}


def labelled(batch: Batch, source: jax.Array, target: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
  """The examples with labels: those of the source and, in self-training, those that the teacher is confident of.

  Args:
    batch: as `update` takes it.
    source: logits (..., S, classes) of the source images.
    target: logits (..., T, classes) of the target images.

  Returns:
    Logits (..., B, classes), labels (B,) int32 and weights (B,) float32 in {0, 1}. The source's rows come first; in
    self-training the target's follow.
  """
  labels: Any = batch["source"]["label"]
  ones = jnp.ones(len(labels), jnp.float32)
  if "pseudo_label" not in batch["target"]:
    return source, labels, ones
  return (jnp.concatenate([source, target], -2), jnp.concatenate([labels, batch["target"]["pseudo_label"]]),
          jnp.concatenate([ones, batch["target"]["confident"]]))
