"""Optimisers whose learning rates and weight decays are arrays in the state, so that a sweep over them is a vmap."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from dgjax.errors import UserError, nearest

SCHEDULES = ("constant", "exponential", "inverse")
OPTIMIZERS = ("adam", "sgd", "rmsprop", "adadelta")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedule:
  """Factor on the learning rate, 1 at the start.

  Source: dmg.txt, section 7.5 (PACS: exponential, 0.99 per epoch; DomainNet: inverse, gamma 1e-4, power 0.75,
    whose clock is the epoch in the paper and the iteration in the released code).

  Attributes:
    name: "constant"; "exponential", decay**t; or "inverse", (1 + gamma t)**-power.
    clock: what t counts from zero: whole "epoch"s or "step"s.
    period: of how many of them; 1 counts each, 2 every second.
    steps_per_epoch: length of an epoch in steps; need not be whole.
  """

  name: str = "constant"
  clock: str = "epoch"
  period: int = 1
  decay: float = 0.99
  gamma: float = 1e-4
  power: float = 0.75
  steps_per_epoch: float = 1.0

  def __post_init__(self):
    if self.name not in SCHEDULES:
      raise UserError(f"no schedule {self.name!r}{nearest(self.name, SCHEDULES)}: set optimizer.schedule.name")
    if self.clock not in ("epoch", "step"):
      raise UserError(f"optimizer.schedule.clock is {self.clock!r}: use 'epoch' or 'step'")
    if self.period < 1:
      raise UserError(f"optimizer.schedule.period is {self.period}: it must be at least 1")

  def __call__(self, step: jax.Array) -> jax.Array:
    """The factor at `step`, an integer scalar that counts updates from zero; float32 scalar."""
    t = step.astype(jnp.float32)
    if self.clock == "epoch":
      t = jnp.floor(t / self.steps_per_epoch)
    t = jnp.floor(t / self.period)
    if self.name == "exponential":
      return jnp.float32(self.decay) ** t
    if self.name == "inverse":
      return (1 + self.gamma * t) ** -self.power
    return jnp.float32(1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Group:
  """Parameters that share a learning rate and a weight decay.

  Attributes:
    name: its name in the hyperparameters.
    pattern: regular expression searched in a parameter's path, such as "masks/layer4".
  """

  name: str
  pattern: str
  learning_rate: float
  weight_decay: float
  schedule: Schedule


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimizer:
  """Adam, SGD, RMSProp or Adadelta with coupled L2 (gradient + weight_decay * parameter).

  Adam (beta2 0.999), SGD and Adadelta are PyTorch's. RMSProp is TensorFlow's, which crossgrad.txt's released
  code uses: the mean square starts at 1, epsilon is added to it before the root, and momentum adds up steps that have
  their learning rate already.

  Attributes:
    name: "adam", "sgd", "rmsprop" or "adadelta".
    groups: a parameter belongs to the first group whose pattern matches its path.
    beta1: of Adam, weight of its old mean.
    momentum: of SGD and RMSProp.
    nesterov: whether SGD's momentum is Nesterov's.
    decay: of RMSProp's and Adadelta's mean squares.
    epsilon: keeps divisors away from zero; not of SGD.
    clip: bound on the elements of the gradient, weight decay included; 0: none.
  """

  name: str
  groups: tuple[Group, ...]
  beta1: float = 0.9
  momentum: float = 0.9
  nesterov: bool = False
  decay: float = 0.9
  epsilon: float = 1e-8
  clip: float = 0.0

  def __post_init__(self):
    if self.name not in OPTIMIZERS:
      raise UserError(f"no optimizer {self.name!r}{nearest(self.name, OPTIMIZERS)}: set optimizer.name")

  @property
  def steps_per_epoch(self) -> float:
    """Length of an epoch in steps, as the schedule of the last group, that of all parameters not named, has it."""
    return self.groups[-1].schedule.steps_per_epoch

  def hparams(self) -> dict[str, dict[str, float]]:
    """The swept scalars: for each group a learning rate and a weight decay."""
    return {"learning_rate": {group.name: group.learning_rate for group in self.groups},
            "weight_decay": {group.name: group.weight_decay for group in self.groups}}

  def labels(self, params: Any) -> Any:
    """Names the group of every leaf of `params`."""
    def label(path, _):
      name = jax.tree_util.keystr(path, simple=True, separator="/")
      for group in self.groups:
        if re.search(group.pattern, name):
          return group.name
      raise ValueError(f"parameter {name} belongs to no group")
    return jax.tree_util.tree_map_with_path(label, params)

  def build(self, hparams: Mapping[str, Mapping[str, jax.Array]], step: jax.Array) -> optax.GradientTransformation:
    """The transformation of gradients at `step`: its own state holds moments only.

    Args:
      hparams: as of `hparams()`, with array scalars for values.
      step: integer scalar, updates done so far.
    """
    def transform(group: Group) -> optax.GradientTransformation:
      rate = hparams["learning_rate"][group.name] * group.schedule(step)
      decayed = optax.add_decayed_weights(hparams["weight_decay"][group.name])
      clipped = optax.clip(self.clip) if self.clip else optax.identity()
      return optax.chain(decayed, clipped, self._descend(rate))

    return optax.multi_transform({group.name: transform(group) for group in self.groups}, self.labels)

  def _descend(self, rate: jax.Array) -> optax.GradientTransformation:
    """From gradients to updates."""
    momentum = optax.trace(self.momentum, self.nesterov) if self.momentum else optax.identity()
    if self.name == "adam":
      return optax.chain(optax.scale_by_adam(self.beta1, eps=self.epsilon), optax.scale(-rate))
    if self.name == "rmsprop":
      return optax.chain(optax.scale_by_rms(self.decay, self.epsilon, initial_scale=1.0, eps_in_sqrt=True),
                         optax.scale(-rate), momentum)
    if self.name == "adadelta":
      return optax.chain(optax.scale_by_adadelta(self.decay, self.epsilon), optax.scale(-rate))
    return optax.chain(momentum, optax.scale(-rate))


def from_config(config: Any, steps_per_epoch: float) -> Optimizer:
  """Builds the optimiser that `config.optimizer` describes.

  Args:
    config: keys `name`, `learning_rate`, `weight_decay`, `beta1`, `momentum`, `nesterov`, `decay`, `epsilon`, `clip`,
      `schedule` (fields of `Schedule`), and `groups`: for any name a `pattern`, `learning_rate`, `weight_decay` and
      `constant` (no schedule).
    steps_per_epoch: the length of an epoch in steps.

  Raises:
    UserError: a name is not known.
  """
  schedule = Schedule(**config.schedule, steps_per_epoch=steps_per_epoch)
  groups = [Group(name=name, pattern=group.pattern, learning_rate=group.learning_rate, weight_decay=group.weight_decay,
                  schedule=Schedule() if group.constant else schedule) for name, group in config.groups.items()]
  rest = Group(name="default", pattern="", learning_rate=config.learning_rate, weight_decay=config.weight_decay,
               schedule=schedule)
  return Optimizer(name=config.name, groups=(*groups, rest), beta1=config.beta1, momentum=config.momentum,
                   nesterov=config.nesterov, decay=config.decay, epsilon=config.epsilon, clip=config.clip)
