"""A network is an ordered list of named stages; gates multiply the input of a stage."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
from flax.core import FrozenDict

from dgjax.errors import UserError, nearest

Constructor = Callable[..., nn.Module]
Stage = tuple[str, Constructor]


class Network(nn.Module):
  """An ordered list of named stages, from which masks, features and shared trunks follow.

  Attributes:
    stages: pairs of a name (torchvision's, so that published weights map by name) and a constructor that
      takes `name`. Stage modules are called as `stage(x, train)`.
    masked: for each placement ("paper", "code") the stages whose input domain-specific masks multiply
      (DMG, section 4.1).
    features: name of the stage whose input is the last convolutional map (batch, height, width, channels). The stages
      before it are the feature extractor, the rest the classifier, for methods that distinguish the two.
    features_kernel: path of the convolution kernel (height, width, in, out) that makes that map's channels, such as
      "conv3/conv/kernel", for penalties on its filters; "" if there is none.
    embedding: name of the stage whose input (batch, units) is the representation that discriminators see; default:
      the last stage.
    head: name of the stage at which the head begins. Published weights lack the head. Default: the last stage.
  """

  stages: tuple[Stage, ...]
  masked: Mapping[str, tuple[str, ...]]
  features: str
  features_kernel: str = ""
  embedding: str = ""
  head: str = ""

  def __post_init__(self):
    self.masked = FrozenDict(self.masked)  # a network can be hashed, as a static argument has to be
    self.embedding = self.embedding or self.names[-1]
    self.head = self.head or self.names[-1]
    super().__post_init__()

  @property
  def names(self) -> tuple[str, ...]:
    """The stages' names in order."""
    return tuple(name for name, _ in self.stages)

  def index(self, name: str) -> int:
    """Position of stage `name`.

    Raises:
      UserError: there is no such stage.
    """
    if name not in self.names:
      raise UserError(f"no stage {name!r} in this network{nearest(name, self.names)}")
    return self.names.index(name)

  def role(self, name: str) -> str:
    """What stage `name` belongs to: "trunk" or "head"."""
    return "trunk" if self.index(name) < self.index(self.head) else "head"

  def split(self, tree: Mapping[str, Any], name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Splits a collection of this network by stage: the part before `name`, and the part from `name` on.

    Args:
      tree: parameters or statistics; stages without any are not in it.
      name: a stage.

    Raises:
      UserError: there is no such stage.
    """
    after = self.names[self.index(name):]
    return ({stage: value for stage, value in tree.items() if stage not in after},
            {stage: value for stage, value in tree.items() if stage in after})

  @nn.compact
  def __call__(self, x: jax.Array, start: str | None = None, stop: str | None = None,
               gates: Mapping[str, jax.Array] | None = None, train: bool = False) -> Any:
    """Runs the stages from `start` up to, and without, `stop`.

    Args:
      x: input of stage `start` (default: the first), batch first; images (batch, height, width, channels).
      start: first stage to run.
      stop: stage before which to end; default: run to the end.
      gates: for any stage an array (batch, channels), or (1, channels) for all examples alike, that multiplies the
        stage's input, broadcast over space. Gates of stages that do not run are ignored.
      train: whether BatchNorm uses batch statistics (and updates the running ones: pass
        `mutable=["batch_stats"]`) and dropout is on (where a network has it: pass `rngs={"dropout": key}`).

    Returns:
      The input of stage `stop`, or the last stage's output (logits, float32).

    Raises:
      UserError: `start`, `stop` or a gate names no stage.
      ValueError: a gate's channels are not its stage's.
    """
    gates = gates or {}
    for name in gates:
      self.index(name)
    first = self.index(start) if start else 0
    last = self.index(stop) if stop else len(self.stages)
    for name, make in self.stages[first:last]:
      if name in gates:
        gate = gates[name]
        if gate.shape[-1] != x.shape[-1]:
          raise ValueError(f"gate of stage {name!r}: {gate.shape[-1]} channels, but its input has {x.shape[-1]}")
        x = x * gate.reshape(gate.shape[0], *(1,) * (x.ndim - 2), gate.shape[-1]).astype(x.dtype)
      x = make(name=name)(x, train)
    return x
