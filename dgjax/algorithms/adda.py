"""Adversarial discriminative domain adaptation: an encoder of its own for the target (ADDA)."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from dgjax.algorithms.adversarial import FEATURES, Discriminating
from dgjax.algorithms.alternating import Alternating
from dgjax.algorithms.base import Batch, Params, Phase, TrainState
from dgjax.distributions import LogUniform
from dgjax.errors import UserError, nearest
from dgjax.losses.classification import cross_entropy
from dgjax.models.mlp import MLP

AVERAGING = ("target", "both")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ADDA(Alternating, Discriminating):
  """Trains on the source, then trains a copy of the encoder on the target until a discriminator cannot tell them apart.

  The first phase, `pretrain_share` of the run, trains the network on the merged sources by cross-entropy, as Aggregate
  does. The second phase begins with a copy of the encoder. The copy is the source encoder and stays as it is, running
  statistics included; the network goes on as the target encoder. The optimiser's moments start anew, learning rates are
  multiplied by `adaptation_rate`, and schedules go on. In each step, from the same parameters,

  - the discriminator descends its cross-entropy over source features (class 0) and target features (class 1);
  - the target encoder descends the discriminator's cross-entropy of target features against class 0.

  The classifier stays that of the source. Predictions are made by the target encoder and the source classifier.

  With `features="logits"`, as in the released code, the discriminator sees the logits, and the target's classifier is
  adapted with its encoder. The default is the paper's: the discriminator sees the encoders' features, and there is one
  classifier.

  The default loss of the target encoder is the paper's, a mean over target examples. The released code flips the labels
  of the whole batch and takes the mean over both domains (`averaging="both"`). Source features are constants, so for S
  source and T target examples the encoder's gradient is then T / (S + T) times the paper's.

  Source: Tzeng et al., Adversarial discriminative domain adaptation, CVPR 2017, Eq. 9; from the code: the
    discriminator's sizes, 10,000 steps in each phase, rate 1e-3 then 2e-4, beta1 0.9 then 0.5, simultaneous updates.

  Attributes:
    features: what the discriminator sees: "embedding", the input of stage `network.embedding`, or "logits".
    averaging: which examples the encoder's loss is a mean over: those of the "target", or of "both" domains.
    pretrain_share: share of the run that is the first phase, in (0, 1).
    adaptation_rate: factor on all learning rates in the second phase.
    adaptation_beta1: beta1 of Adam in the second phase, in place of `optimizer.beta1`.
  """

  features: str = "embedding"
  averaging: str = "target"
  hidden: tuple[int, ...] = (500, 500)
  pretrain_share: float = 0.5
  adaptation_rate: float = 0.2
  adaptation_beta1: float = 0.5

  adapts: ClassVar[bool] = True
  swept: ClassVar[tuple[str, ...]] = ("adaptation_rate",)
  searched: ClassVar = {"adaptation_rate": LogUniform(0.02, 2)}

  def __post_init__(self):
    for key, known in (("features", FEATURES), ("averaging", AVERAGING)):
      if getattr(self, key) not in known:
        raise UserError(f"algorithm.{key} is {getattr(self, key)!r}{nearest(getattr(self, key), known)}")
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
    """The stage before which the encoder ends. None: the encoder is the whole network."""
    return self.network.embedding if self.features == "embedding" else None

  @property
  def discriminator(self):
    """Maps features to logits of source and target."""
    return MLP(tuple(self.hidden), 2, self.norm)

  @property
  def phases(self):
    return (Phase("source", 0, self.pretrain), Phase("adaptation", self.pretrain_steps, self.adapt, self.copy_encoder))

  def encoder(self, tree: Any) -> Any:
    """The encoder's part of a collection of the network's variables."""
    return self.network.split(tree, self.aligned_stage)[0] if self.aligned_stage else tree

  def init(self, key, batch):
    return self.copy_encoder(super().init(key, batch))

  def copy_encoder(self, state: TrainState) -> TrainState:
    """Copies the current encoder as the source encoder, and resets the optimiser's moments."""
    learned = {"params": state.params["network"], "batch_stats": state.batch_stats["network"]}
    source = {collection: self.encoder(tree) for collection, tree in learned.items()}
    return state.replace(extra={"source": source}, opt_state=self.moments(state.params, state.hparams, state.step))

  def pretrain(self, state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, jax.Array]]:
    """A step of the first phase."""
    state, metrics = self.descend(self.loss, ("network",), state, batch["source"], self.step_key(state))
    return state.replace(step=state.step + 1), metrics

  def adversarial_loss(self, params: Params, state: TrainState, batch: Batch, key: jax.Array) -> tuple[jax.Array, Any]:
    """The sum of the discriminator's and the target encoder's losses, each with the other held constant."""
    constant = jax.lax.stop_gradient
    source: Any = self.network.apply(state.extra["source"], batch["source"]["image"], stop=self.aligned_stage)
    target, batch_stats = self.forward(params, state, batch["target"]["image"], key, stop=self.aligned_stage)

    features = jnp.concatenate([source, target])
    domains = (jnp.arange(len(features)) >= len(source)).astype(jnp.int32)
    logits = self.discriminate(params, constant(features))
    discrimination = cross_entropy(logits, domains)
    fooled = self.discriminate(constant(params), features if self.averaging == "both" else target)
    confusion = cross_entropy(fooled, 1 - domains[-len(fooled):])
    share = ((logits[:, 1] > logits[:, 0]) == domains).mean(dtype=jnp.float32)
    return discrimination + confusion, ({"batch_stats": batch_stats}, {
        "loss": discrimination, "domain_cross_entropy": discrimination, "adversarial": confusion,
        "domain_accuracy": share})

  def adapt(self, state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, jax.Array]]:
    """A step of the second phase."""
    rates = jax.tree.map(lambda rate: rate * state.hparams["adaptation_rate"], state.hparams["learning_rate"])
    method = dataclasses.replace(self, optimizer=dataclasses.replace(self.optimizer, beta1=self.adaptation_beta1))
    after, metrics = method.descend(self.adversarial_loss, ("network", "discriminator"),
                                    state.replace(hparams={**state.hparams, "learning_rate": rates}), batch,
                                    self.step_key(state))
    network = after.params["network"]
    if self.aligned_stage:  # the classifier has no gradient, but may have weight decay
      network = {**network, **self.network.split(state.params["network"], self.aligned_stage)[1]}
    after = after.replace(params={**after.params, "network": network}, hparams=state.hparams)
    return after.replace(step=state.step + 1), metrics
