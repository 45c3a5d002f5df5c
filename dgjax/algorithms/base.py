"""What every method is: a pure function of an explicit state and a batch."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from dgjax.distributions import Distribution
from dgjax.errors import UserError, nearest
from dgjax.losses.classification import cross_entropy
from dgjax.models.network import Network
from dgjax.optimizers import Optimizer

Batch = Mapping[str, jax.Array]
Params = Any


class TrainState(flax.struct.PyTreeNode):
  """Everything that a run carries from step to step. What is not in it does not exist after a restart.

  Attributes:
    step: number of updates done, int32 scalar.
    params: learned parameters; "network" holds the network's.
    batch_stats: running statistics of BatchNorm, under the same names as `params`.
    opt_state: the optimiser's moments.
    key: typed PRNG key; a step's randomness comes from `fold_in(key, step)`.
    hparams: settings that may be swept, as scalar arrays, so that a sweep is a vmap.
    extra: a method's own state.
  """

  step: jax.Array
  params: Params
  batch_stats: Any
  opt_state: Any
  key: jax.Array
  hparams: Any
  extra: Any


@dataclasses.dataclass(frozen=True)
class Phase:
  """A part of a run with an update of its own.

  The training loop chooses the phase by the number of updates done. It compiles each phase's update separately, so a
  step computes its own phase alone. The state has one structure in all phases; metrics may differ from phase to phase.

  Attributes:
    name: the phase's name in the log, such as "source" or "round 1".
    begin: number of updates done when the phase starts.
    update: one training step, a pure function of a state and a batch to the next state and scalar metrics.
    enter: a function of the state that is applied once, before the phase's first update. Default: none. A checkpoint at
      step `begin` holds the state before `enter`.
  """

  name: str
  begin: int
  update: Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]
  enter: Callable[[TrainState], TrainState] | None = None

  def enters_at(self, step: int) -> bool:
    """Whether `enter` is due before the update that follows `step` updates."""
    return self.enter is not None and step == self.begin

  def step(self, first: bool = False) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]:
    """The function to compile: `update`, preceded by `enter` if it is the phase's `first` (see `enters_at`)."""
    if not first or self.enter is None:
      return self.update
    update, enter = self.update, self.enter
    return lambda state, batch: update(enter(state), batch)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Algorithm:
  """A method: `init`, `update` and `predict`, pure functions of a `TrainState` and a batch.

  Most methods supply `loss` alone. Methods that train parts in turns write `update`, and methods with several phases
  write `phases`. A subclass's own fields are its settings (`config.algorithm`). Settings named in `swept` are also
  arrays in the state, and are read from there. `searched` says which settings `dgjax search` draws, and from what.

  Attributes:
    network: the backbone and its head.
    optimizer: how gradients become updates.
    domains: number of source domains.
    steps: number of updates in the whole run, for schedules over its length. 0: not known.
    axis: name of the axis under `jax.pmap` over which gradients and statistics are averaged; None elsewhere.
    prediction: which of `outputs` results are reported with.
  """

  network: Network
  optimizer: Optimizer
  domains: int
  steps: int = 0
  axis: str | None = None
  prediction: str = "default"

  swept: ClassVar[tuple[str, ...]] = ()
  # Setting -> the distribution that a search draws it from. A setting that is 0 in the config is off and is not drawn.
  searched: ClassVar[Mapping[str, Distribution]] = {}
  # Entry of the parameters -> its role in `config.optimizer.roles`. The stages of "network" have their own; others are
  # heads.
  roles: ClassVar[Mapping[str, str]] = {}
  dropout: ClassVar[bool] = True  # whether the network's dropout layers stay on in training
  adapts: ClassVar[bool] = False  # batches are {"source": a batch, "target": {"image": of the unlabelled target}}
  needs_domain_network: ClassVar[bool] = False  # a second network like `network` classifies source domains
  validation: ClassVar[str | None] = None  # the one of `outputs` for source validation; default: `prediction`

  @property
  def phases(self) -> tuple[Phase, ...]:
    """The phases of a run in the order of `begin`, the first from step 0. By default there is one, of `update`."""
    return (Phase("training", 0, self.update),)

  def phase_at(self, step: int) -> Phase:
    """The phase of the update that follows `step` updates."""
    return [phase for phase in self.phases if phase.begin <= step][-1]

  @property
  def scalars(self) -> dict[str, float]:
    """The settings that become arrays in the state, by name: those in `swept`."""
    return {name: getattr(self, name) for name in self.swept}

  def init_params(self, key: jax.Array, images: jax.Array) -> tuple[Params, Any]:
    """Fresh parameters and running statistics for images (batch, height, width, channels)."""
    variables = self.network.init(key, images)
    return {"network": variables["params"]}, {"network": variables.get("batch_stats", {})}

  def entering(self, params: Params, batch_stats: Any, images: jax.Array, stage: str | None) -> jax.Array:
    """Zeros with the shape and dtype of a stage's input, to initialise a module that will see that input.

    Args:
      params, batch_stats: as `init_params` returns them.
      images: (batch, height, width, channels).
      stage: the stage's name. None: the network's output.
    """
    variables = {"params": params["network"], "batch_stats": batch_stats["network"]}
    inside: Any = jax.eval_shape(lambda: self.network.apply(variables, images, stop=stage))
    return jnp.zeros(inside.shape, inside.dtype)

  def init_extra(self, params: Params) -> Any:
    """The method's own state at the start."""
    return {}

  def moments(self, params: Params, hparams: Any, step: jax.Array) -> Any:
    """The optimiser's state before its first step."""
    return self.optimizer.build(hparams, step).init(params)

  def init(self, key: jax.Array, batch: Batch) -> TrainState:
    """The state before the first update. Call it under jit, so that each leaf gets a buffer that can be donated.

    Args:
      key: typed PRNG key.
      batch: as `update` takes it; only shapes and dtypes matter.

    Raises:
      UserError: a setting that names a way to predict, such as `prediction`, names none of `outputs`.
    """
    params_key, run_key = jax.random.split(key)
    images = batch["source"]["image"] if self.adapts else batch["image"]
    params, batch_stats = self.init_params(params_key, images)
    hparams = jax.tree.map(jnp.float32, {**self.optimizer.hparams(), **self.scalars})
    step = jnp.zeros((), jnp.int32)
    state = TrainState(step=step, params=params, batch_stats=batch_stats,
                       opt_state=self.moments(params, hparams, step), key=run_key, hparams=hparams,
                       extra=self.init_extra(params))
    outputs = jax.eval_shape(self.outputs, state, images)
    for setting, mode in self.modes.items():
      pick(outputs, mode, setting)
    return state

  def loss(self, params: Params, state: TrainState, batch: Batch, key: jax.Array) -> tuple[jax.Array, Any]:
    """The loss that `update` differentiates. By default it is the mean cross-entropy of the pooled batch.

    Args:
      params: what to differentiate by; it has the structure of `state.params`.
      state: the rest of the state; its own `params` are not to be used.
      batch: image (B, H, W, C) float32, label (B,) and domain (B,) int32.
      key: this step's PRNG key.

    Returns:
      The scalar, and a pair of a dict with fields of the state to replace and a dict of scalar metrics.
    """
    logits, batch_stats = self.forward(params, state, batch["image"], key)
    loss = cross_entropy(logits, batch["label"])
    return loss, ({"batch_stats": batch_stats}, {"loss": loss, "accuracy": accuracy(logits, batch["label"])})

  def forward(self, params: Params, state: TrainState, inputs: jax.Array, key: jax.Array, *, start: str | None = None,
              stop: str | None = None, gates: Mapping[str, jax.Array] | None = None,
              name: str = "network") -> tuple[jax.Array, Any]:
    """Runs a network in training: BatchNorm uses batch statistics, and dropout is drawn from `key`.

    Args:
      params: the method's parameters, those of the network under `name`.
      state: supplies the running statistics that are updated.
      inputs: input of the first stage that runs.
      key: PRNG key of dropout.
      start, stop, gates: as the network takes them.
      name: the field that holds the network to run.

    Returns:
      The output, and the state's running statistics with those of this network updated.
    """
    network = getattr(self, name)
    output, new = network.apply({"params": params[name], "batch_stats": state.batch_stats[name]}, inputs, start=start,
                                stop=stop, gates=gates, train=True, mutable=["batch_stats"], rngs={"dropout": key})
    return output, {**state.batch_stats, name: new.get("batch_stats", {})}

  def forward_through(self, params: Params, state: TrainState, inputs: jax.Array, key: jax.Array, middle: str,
                      change: Callable[[jax.Array], jax.Array] | None = None, *,
                      gates: Mapping[str, jax.Array] | None = None,
                      name: str = "network") -> tuple[jax.Array, jax.Array, Any]:
    """Runs a whole network in training, once, and keeps what enters stage `middle`.

    Args:
      params, state, inputs, key, gates, name: as `forward` takes them.
      middle: a stage, such as `network.features` or `network.embedding`. Its gate multiplies the output of `change`.
      change: maps that stage's input to what the stage gets in its place, such as dropout. Default: no change.

    Returns:
      The unchanged input of that stage, the network's output, and the statistics as `forward` returns them.
    """
    inside, batch_stats = self.forward(params, state, inputs, key, stop=middle, gates=gates, name=name)
    output, batch_stats = self.forward(params, state.replace(batch_stats=batch_stats),
                                       change(inside) if change else inside, key, start=middle, gates=gates, name=name)
    return inside, output, batch_stats

  def evaluate(self, state: TrainState, inputs: jax.Array, *, start: str | None = None, stop: str | None = None,
               gates: Mapping[str, jax.Array] | None = None, name: str = "network") -> jax.Array:
    """Runs a network in evaluation, with running statistics and no dropout. Arguments are those of `forward`."""
    variables = {"params": state.params[name], "batch_stats": state.batch_stats[name]}
    return getattr(self, name).apply(variables, inputs, start=start, stop=stop, gates=gates)

  def step_key(self, state: TrainState, shared: bool = False) -> jax.Array:
    """The PRNG key of this update; under pmap each device has its own, unless it is to be `shared`."""
    key = jax.random.fold_in(state.key, state.step)
    return key if self.axis is None or shared else jax.random.fold_in(key, jax.lax.axis_index(self.axis))

  def average(self, tree: Any) -> Any:
    """The mean over the mapped axis under pmap. Elsewhere `tree` itself, which is global already."""
    return tree if self.axis is None else jax.lax.pmean(tree, self.axis)

  def apply_gradients(self, state: TrainState, grads: Params) -> TrainState:
    """One step of the optimiser."""
    optimizer = self.optimizer.build(state.hparams, state.step)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = jax.tree.map(jnp.add, state.params, updates)
    return state.replace(step=state.step + 1, params=params, opt_state=opt_state)

  def update(self, state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, jax.Array]]:
    """One training step of a method that has one phase.

    Args:
      state: the state before the step. It is consumed, so donate it.
      batch: see `loss`.

    Returns:
      The next state, and scalar metrics.

    Raises:
      TypeError: the method has several phases, each with an update of its own.
    """
    if len(self.phases) > 1:
      raise TypeError(f"{type(self).__name__} has several phases: take a step by phase_at(step).step(first)")
    grads, aux = jax.grad(self.loss, has_aux=True)(state.params, state, batch, self.step_key(state))
    grads, (changes, metrics) = self.average((grads, aux))
    return self.apply_gradients(state, grads).replace(**changes), metrics

  def outputs(self, state: TrainState, images: jax.Array, domain: jax.Array | None = None) -> dict[str, jax.Array]:
    """Logits (B, classes) float32 under every way to predict, by name.

    Under jit only the entries that are used are computed.

    Args:
      state: a trained state.
      images: (B, H, W, C) float32, normalised.
      domain: (B,) int32 source domain of each image. None: unseen; ways that need the domain are then left out.
    """
    return {"default": self.evaluate(state, images)}

  @property
  def modes(self) -> dict[str, str]:
    """The settings that name one of `outputs`, by config key. `init` checks them."""
    return {"algorithm.prediction": self.prediction}

  def predict(self, state: TrainState, images: jax.Array, domain: jax.Array | None = None,
              mode: str | None = None) -> jax.Array:
    """Logits (B, classes) float32 of images under one way to predict.

    Args:
      state: a trained state.
      images: (B, H, W, C) float32, normalised.
      domain: (B,) int32 source domain of each image, which some ways need.
      mode: the way, a key of `outputs`; default: `prediction`.

    Raises:
      UserError: there is no such way, or it needs `domain`.
    """
    return pick(self.outputs(state, images, domain), mode or self.prediction)

  def measures(self, state: TrainState, domains: Sequence[str]) -> dict[str, Any]:
    """Scalars that describe the state, by name, for the log.

    Args:
      state: fetched to the host.
      domains: names of the source domains.
    """
    return {}

  def arrays(self, state: TrainState) -> dict[str, dict[str, np.ndarray]]:
    """Arrays that a finished run keeps for analysis: name of an `.npz` file -> the arrays in it.

    Args:
      state: fetched to the host.
    """
    return {}


def pick(outputs: Mapping[str, Any], mode: str, setting: str = "algorithm.prediction") -> Any:
  """The logits under one way to predict.

  Args:
    outputs: what `Algorithm.outputs` returned, or its shapes.
    mode: a key of `outputs`.
    setting: the config key that the mode comes from, for the message.

  Raises:
    UserError: `outputs` has no such mode.
  """
  if mode not in outputs:
    raise UserError(f"{setting} is {mode!r}{nearest(mode, outputs)}")
  return outputs[mode]


def accuracy(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """Share of rows whose largest logit is the label's; float32 in [0, 1].

  Args:
    logits: (B, classes).
    labels: (B,) int.
  """
  return (logits.argmax(-1) == labels).mean(dtype=jnp.float32)
