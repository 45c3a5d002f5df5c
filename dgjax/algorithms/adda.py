"""Adversarial discriminative domain adaptation: an encoder of its own for the target (ADDA)."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from dgjax.algorithms.adversarial import FEATURES, Discriminating
from dgjax.algorithms.alternating import Alternating
from dgjax.algorithms.base import Batch, Params, TrainState
from dgjax.errors import UserError, nearest
from dgjax.losses.classification import cross_entropy
from dgjax.models.mlp import MLP


@dataclasses.dataclass(frozen=True, kw_only=True)
class ADDA(Alternating, Discriminating):
  """Trains on the source, then a copy of the encoder on the target until a discriminator cannot tell the two apart.

  For the first `pretrain_share` of the run, the network is trained on the sources' cross-entropy, merged, as Aggregate
  is. Then it is copied: the copy stays as it is, source encoder with its running statistics, and the network goes on as
  the target encoder. The optimiser's moments start anew, learning rates are multiplied by `adaptation_rate`, schedules
  go on. Each step, from the same parameters,

  - the discriminator descends its cross-entropy over source features (class 0) and target features (class 1);
  - the target encoder descends the discriminator's cross-entropy of target features against class 0.

  The classifier stays the source's. Predictions are the network's: target encoder and source classifier.

  With `features="logits"` the discriminator sees the logits, and the target's classifier is adapted with its encoder:
  so has it the released code. The paper has the encoders' features and one classifier, the default here.

  Source: Tzeng et al., Adversarial discriminative domain adaptation, CVPR 2017, Eq. 9; from the code: the
    discriminator's sizes, 10,000 steps in each phase, rate 1e-3 then 2e-4, beta1 0.9 then 0.5, simultaneous updates.

  Attributes:
    features: what the discriminator sees: "embedding", the input of stage `network.embedding`, or "logits".
    pretrain_share: share of the run that trains on the source, in (0, 1).
    adaptation_rate: factor on all learning rates from then on.
    adaptation_beta1: beta1 of Adam from then on, in place of `optimizer.beta1`.
  """

  features: str = "embedding"
  hidden: tuple[int, ...] = (500, 500)
  pretrain_share: float = 0.5
  adaptation_rate: float = 0.2
  adaptation_beta1: float = 0.5

  adapts: ClassVar[bool] = True
  swept: ClassVar[tuple[str, ...]] = ("adaptation_rate",)

  def __post_init__(self):
    if self.features not in FEATURES:
      raise UserError(f"algorithm.features is {self.features!r}{nearest(self.features, FEATURES)}")
    if not 0 < self.pretrain_share < 1:
      raise UserError(f"algorithm.pretrain_share is {self.pretrain_share}: it must be between 0 and 1")

  @property
  def pretrain_steps(self) -> int:
    """Number of steps that train on the source."""
    if not self.steps:
      raise ValueError("ADDA has to know the length of the run: set `steps`")
    return round(self.pretrain_share * self.steps)

  @property
  def aligned_stage(self):
    """Stage before which an encoder ends; None: it is the whole network."""
    return self.network.embedding if self.features == "embedding" else None

  @property
  def discriminator(self):
    """Maps features to logits of source and target."""
    return MLP(tuple(self.hidden), 2, self.norm)

  def init(self, key, batch):
    return self.copy_encoder(super().init(key, batch))

  def copy_encoder(self, state: TrainState) -> TrainState:
    """The network as it is becomes the source's, and the optimiser starts anew."""
    source = {"params": state.params["network"], "batch_stats": state.batch_stats["network"]}
    return state.replace(extra={"source": source}, opt_state=self.moments(state.params, state.hparams, state.step))

  def pretrain(self, state: TrainState, batch: Batch, key: jax.Array) -> tuple[TrainState, dict[str, jax.Array]]:
    """A step of the first phase."""
    state, metrics = self.descend(self.loss, ("network",), state, batch["source"], key)
    nothing = jnp.zeros(())
    return state, {"loss": metrics["loss"], "cross_entropy": metrics["loss"], "domain_cross_entropy": nothing,
                   "adversarial": nothing, "domain_accuracy": nothing}

  def adversarial(self, params: Params, state: TrainState, batch: Batch, key: jax.Array) -> tuple[jax.Array, Any]:
    """Sum of what the discriminator and the target encoder descend, each with the other held constant."""
    constant = jax.lax.stop_gradient
    source: Any = self.network.apply(state.extra["source"], batch["source"]["image"], stop=self.aligned_stage)
    target, batch_stats = self.forward(params, state, batch["target"]["image"], key, stop=self.aligned_stage)

    logits = self.discriminate(params, constant(jnp.concatenate([source, target])))
    domains = (jnp.arange(len(logits)) >= len(source)).astype(jnp.int32)
    discrimination = cross_entropy(logits, domains)
    fooled = self.discriminate(constant(params), target)
    confusion = cross_entropy(fooled, jnp.zeros(len(target), jnp.int32))
    share = ((logits[:, 1] > logits[:, 0]) == domains).mean(dtype=jnp.float32)
    return discrimination + confusion, ({"batch_stats": batch_stats}, {
        "loss": discrimination, "cross_entropy": jnp.zeros(()), "domain_cross_entropy": discrimination,
        "adversarial": confusion, "domain_accuracy": share})

  def confuse(self, state: TrainState, batch: Batch, key: jax.Array) -> tuple[TrainState, dict[str, jax.Array]]:
    """A step of the second phase."""
    state = jax.lax.cond(state.step == self.pretrain_steps, self.copy_encoder, lambda state: state, state)
    rates = jax.tree.map(lambda rate: rate * state.hparams["adaptation_rate"], state.hparams["learning_rate"])
    method = dataclasses.replace(self, optimizer=dataclasses.replace(self.optimizer, beta1=self.adaptation_beta1))
    after, metrics = method.descend(self.adversarial, ("network", "discriminator"),
                                    state.replace(hparams={**state.hparams, "learning_rate": rates}), batch, key)
    network = after.params["network"]
    if self.aligned_stage:  # the classifier has no gradient, but may have weight decay
      classifier = self.network.split(state.extra["source"]["params"], self.aligned_stage)[1]
      network = {**network, **classifier}
    return after.replace(params={**after.params, "network": network}, hparams=state.hparams), metrics

  def update(self, state, batch):
    key, first = self.step_key(state), state.step < self.pretrain_steps
    # Both phases are computed: XLA's convolutions on CPU are over ten times as slow inside a cond.
    after, metrics = jax.tree.map(lambda one, two: jnp.where(first, one, two), self.pretrain(state, batch, key),
                                  self.confuse(state, batch, key))
    return after.replace(step=state.step + 1), metrics
