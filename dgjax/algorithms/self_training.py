"""Training again, on confident predictions for the target too (DRT, DRT+ST)."""

import dataclasses
import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from dgjax.algorithms.base import Algorithm, Batch, Phase, TrainState
from dgjax.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class SelfTraining:
  """How a method trains again.

  Attributes:
    rounds: how often; 0: never.
    confidence: a target image takes part if its largest probability is above.
    mode: which of the method's `outputs` labels the target.
  """

  rounds: int = 0
  confidence: float = 0.8
  mode: str = "prob_ens"

  def __post_init__(self):
    if self.rounds < 0:
      raise UserError(f"algorithm.self_training.rounds is {self.rounds}: it must be at least 0")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SelfTrained(Algorithm):
  """A method of adaptation that can be trained in rounds, each with labels that the one before gave to the target.

  The run is `1 + rounds` equal parts, a phase each: for a first part that is a full run, give the run that many times
  its length (DRT's 15 epochs and one round are 30). Each starts from the same initial parameters, statistics and
  moments, with the schedules at their beginning. In every part but the first the state that the part before ended with,
  a constant from there on, labels the target images of each batch in evaluation mode, and those it is confident about
  join the source's in the loss of classification (see `labelled`). A label is of the image as it is augmented in the
  batch.

  What is evaluated falls back when a part starts: compare states of the last part alone (rule `last`).

  Source: DRT, section 4.3 (DRT+ST, threshold 0.8). Not stated, and ours: that the mean of both heads' probabilities
    labels, that rounds share a start, and that labels are given on the fly: within a batch, source examples and
    confident target ones count alike.

  A subclass's `update` is a step of a part; the batch's target may then hold what `labelled` reads.

  Attributes:
    self_training: how.
  """

  self_training: SelfTraining = SelfTraining()

  adapts: ClassVar[bool] = True

  @property
  def part_steps(self) -> int:
    """Updates in a part of the run; what remains of a division goes to the last."""
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
    """Keeps the state as what each part starts from: after `init`, published weights may have been loaded."""
    initial = {"params": state.params, "batch_stats": state.batch_stats, "method": state.extra["method"]}
    return state.replace(extra={**state.extra, "initial": initial})

  def restart(self, state: TrainState) -> TrainState:
    """The state becomes the teacher, and training starts again."""
    initial = state.extra["initial"]
    extra = {"method": initial["method"], "initial": initial,
             "teacher": {"params": state.params, "batch_stats": state.batch_stats}}
    return state.replace(params=initial["params"], batch_stats=initial["batch_stats"], extra=extra,
                         opt_state=self.moments(initial["params"], state.hparams, jnp.zeros_like(state.step)))

  def label(self, state: TrainState, images: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The teacher's classes of images, (B,) int32, and whether it is confident of them, (B,) float32 of 0 and 1."""
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
    """One step of a part of the run, as the method alone would do it in a run of that length.

    Args:
      part: its number; 0 is the training that the rounds follow, with the draws of a run without rounds.
      state: the run's.
      batch: as `update` takes it.

    Returns:
      The next state, and metrics; those of a round have the share of confident target images, "confident".
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
  """The logits whose classes are known or, in self-training, believed to be.

  Args:
    batch: of `update`.
    source: (..., S, classes), logits of the source images.
    target: (..., T, classes), of the target images.

  Returns:
    Logits (..., B, classes), labels (B,) int32 and weights (B,) float32 in {0, 1}: the source's rows, in self-training
    followed by the target's.
  """
  labels: Any = batch["source"]["label"]
  ones = jnp.ones(len(labels), jnp.float32)
  if "pseudo_label" not in batch["target"]:
    return source, labels, ones
  return (jnp.concatenate([source, target], -2), jnp.concatenate([labels, batch["target"]["pseudo_label"]]),
          jnp.concatenate([ones, batch["target"]["confident"]]))
