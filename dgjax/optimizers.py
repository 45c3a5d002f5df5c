"""Optimisers whose learning rates and weight decays are arrays in the state, so that a sweep over them is a vmap."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax.core import FrozenDict

from dgjax.errors import UserError, nearest

SCHEDULES = ("constant", "exponential", "inverse")
OPTIMIZERS = ("adam", "sgd", "rmsprop", "adadelta")
DECAYED = ("all", "kernels")
ROLES = ("trunk", "head", "residuals", "masks", "discriminator")
"""What a parameter can be to a run. The network's stages and the method decide it (`algorithms.role`)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedule:
  """A factor on the learning rate that is 1 at the start.

  Source: DMG, section 7.5 (PACS: exponential, 0.99 per epoch; DomainNet: inverse, gamma 1e-4, power 0.75,
    whose clock is the epoch in the paper and the iteration in the released code).

  Attributes:
    name: the factor at time t: "constant", 1; "exponential", decay**t; or "inverse", (1 + gamma t)**-power.
    clock: what t counts, from zero: whole epochs ("epoch") or steps ("step").
    period: number of epochs or steps after which t rises by 1.
    decay: base of "exponential".
    gamma: gamma of "inverse".
    power: power of "inverse".
    steps_per_epoch: length of an epoch in steps, in general no whole number.
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
class Factors:
  """How the learning rate and weight decay of one role's parameters differ from the others'.

  Attributes:
    rate: factor on the learning rate of this role's parameters.
    decay: factor on the weight decay of this role's parameters.
    constant: whether the learning rate of this role's parameters ignores the schedule.
  """

  rate: float = 1.0
  decay: float = 1.0
  constant: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimizer:
  """Adam, SGD, RMSProp or Adadelta with coupled L2 (gradient + weight_decay * parameter).

  Adam (beta2 0.999), SGD and Adadelta are PyTorch's. RMSProp is TensorFlow's, which CrossGrad's released code uses: the
  mean square starts at 1, epsilon is added to it before the root, and momentum sums steps that are already multiplied
  by the learning rate.

  Attributes:
    name: "adam", "sgd", "rmsprop" or "adadelta".
    learning_rate: learning rate of all parameters, before the factors of their role and of the schedule.
    weight_decay: coefficient of L2, which is added to the gradient, before the factor of the parameter's role.
    schedule: factor on the learning rate by the step.
    roles: role -> its factors. A role that is not named has factors of 1.
    role: function from a parameter's path, such as ("masks", "layer4"), to its role.
    decayed: what weight decay applies to: "all" parameters, or only the "kernels" of convolutions and linear layers.
    beta1: weight of the old mean of gradients in Adam.
    momentum: momentum of SGD and RMSProp.
    nesterov: whether SGD's momentum is Nesterov's.
    decay: weight of the old mean square in RMSProp and Adadelta.
    epsilon: constant that keeps divisors away from zero, in all but SGD.
    clip: bound on the absolute elements of the gradient, weight decay included. 0: none.
  """

  name: str
  learning_rate: float
  weight_decay: float = 0.0
  schedule: Schedule = Schedule()
  roles: Mapping[str, Factors] = FrozenDict()
  role: Callable[[Sequence[str]], str] = lambda path: "trunk"
  decayed: str = "all"
  beta1: float = 0.9
  momentum: float = 0.9
  nesterov: bool = False
  decay: float = 0.9
  epsilon: float = 1e-8
  clip: float = 0.0

  def __post_init__(self):
    object.__setattr__(self, "roles", FrozenDict(self.roles))  # so that an optimiser can be hashed
    if self.name not in OPTIMIZERS:
      raise UserError(f"no optimizer {self.name!r}{nearest(self.name, OPTIMIZERS)}: set optimizer.name")
    if self.decayed not in DECAYED:
      raise UserError(f"optimizer.decayed is {self.decayed!r}{nearest(self.decayed, DECAYED)}")

  @property
  def steps_per_epoch(self) -> float:
    """Length of an epoch in steps."""
    return self.schedule.steps_per_epoch

  def hparams(self) -> dict[str, Any]:
    """The swept scalars: learning rate, weight decay, and each role's factors on them."""
    roles = {role: {"rate": factors.rate, "decay": factors.decay} for role, factors in self.roles.items()}
    return {"learning_rate": self.learning_rate, "weight_decay": self.weight_decay, "roles": roles}

  def build(self, hparams: Mapping[str, Any], step: jax.Array) -> optax.GradientTransformation:
    """The transformation of gradients at `step`. Its own state holds moments only.

    Args:
      hparams: what `hparams()` returns, with scalar arrays for values.
      step: integer scalar, number of updates done.
    """
    factor = self.schedule(step)

    def rate(path: Sequence[str]) -> jax.Array:
      role = self.role(path)
      own = hparams["learning_rate"]
      if role not in self.roles:
        return own * factor
      own = own * hparams["roles"][role]["rate"]
      return own if self.roles[role].constant else own * factor

    def weight_decay(path: Sequence[str]) -> jax.Array | None:
      if self.decayed == "kernels" and path[-1] != "kernel":
        return None
      role = self.role(path)
      own = hparams["weight_decay"]
      return own * hparams["roles"][role]["decay"] if role in self.roles else own

    def add_weight_decay(path: Sequence[str], grad: jax.Array, param: jax.Array) -> jax.Array:
      strength = weight_decay(path)
      return grad if strength is None else grad + strength * param

    decayed = optax.stateless(lambda grads, params: _map_with_path(add_weight_decay, grads, params))
    clipped = optax.clip(self.clip) if self.clip else optax.identity()
    descended = optax.stateless(lambda updates, _: _map_with_path(lambda path, x: -rate(path) * x, updates))
    return optax.chain(decayed, clipped, *self._steps(descended))

  def _steps(self, descended: optax.GradientTransformation) -> tuple[optax.GradientTransformation, ...]:
    """From gradients to updates; `descended` multiplies by minus the learning rates."""
    momentum = optax.trace(self.momentum, self.nesterov) if self.momentum else optax.identity()
    if self.name == "adam":
      return optax.scale_by_adam(self.beta1, eps=self.epsilon), descended
    if self.name == "rmsprop":
      scaled = optax.scale_by_rms(self.decay, self.epsilon, initial_scale=1.0, eps_in_sqrt=True)
      return scaled, descended, momentum
    if self.name == "adadelta":
      return optax.scale_by_adadelta(self.decay, self.epsilon), descended
    return momentum, descended


def _map_with_path(function: Callable[..., jax.Array], *trees: Any) -> Any:
  """Maps leaves, given their paths as tuples of names."""
  return jax.tree_util.tree_map_with_path(lambda path, *leaves: function(tuple(key.key for key in path), *leaves),
                                          *trees)


def from_config(config: Any, steps_per_epoch: float, role: Callable[[Sequence[str]], str],
                known: Iterable[str]) -> Optimizer:
  """Builds the optimiser that `config.optimizer` describes.

  Args:
    config: keys `name`, `learning_rate`, `weight_decay`, `decayed`, `beta1`, `momentum`, `nesterov`, `decay`,
      `epsilon`, `clip`, `schedule` (fields of `Schedule`), and `roles`: role -> fields of `Factors`.
    steps_per_epoch: the length of an epoch in steps.
    role: see `Optimizer`.
    known: the roles that the run has.

  Raises:
    UserError: a name is not known, or a role with factors of its own is none of the run's.
  """
  known = tuple(known)
  roles = {name: Factors(**factors) for name, factors in config.roles.items()}
  for name, factors in roles.items():
    if name not in known and factors != Factors():
      raise UserError(f"optimizer.roles.{name}: no parameter of this run is {name}, which has the roles "
                      f"{', '.join(known)}: leave optimizer.roles.{name} at its defaults")
  settings = {key: value for key, value in config.items() if key not in ("schedule", "roles")}
  return Optimizer(**settings, schedule=Schedule(**config.schedule, steps_per_epoch=steps_per_epoch), role=role,
                   roles={name: factors for name, factors in roles.items() if name in known})
