"""RCL: the reverse contrastive loss (RCL; Duboudin et al., ICCV Workshops 2021)."""

import dataclasses
from typing import ClassVar

from dgjax.algorithms.base import Algorithm, accuracy
from dgjax.distributions import LogUniform, Uniform
from dgjax.errors import UserError, nearest
from dgjax.losses.classification import cross_entropy
from dgjax.losses.contrastive import POOLINGS, REDUCTIONS, RESCALES, reverse_contrastive


@dataclasses.dataclass(frozen=True, kw_only=True)
class RCL(Algorithm):
  """Pushes each example's features away from its nearest neighbour of the same class.

  The features are the network's last convolutional map, so the contrastive term trains the stages before it, and the
  cross-entropy trains all. The method's code was never released. `losses.contrastive` says what is done where the paper
  leaves a choice. Under pmap ranges and neighbours are those of a device's own part of the batch.

  Source: RCL, section 4.1, Eq. 2 and algorithm 1.

  Attributes:
    contrastive_weight: weight of the contrastive term, alpha of algorithm 1.
    margin: margin m of Eq. 2, in [0, inf]. The paper has 0.2 to 0.9, and inf, its best on MNIST-MP.
    rescale: over what the range of the features is taken: "batch", "channel" or "feature".
    reduction: how absolute differences become a distance, "sum" or "mean".
    pooling: how the map is first pooled over its positions: "none" (each position and channel is a feature), "mean" or
      "max".
    begin: number of epochs before the contrastive loss counts; 0 in the paper. The paper says that features are
      clustered at first, so that no example is pushed. If they are rescaled by the batch's range, they are not
      clustered.
  """

  contrastive_weight: float = 1.0
  margin: float = 0.9
  rescale: str = "batch"
  reduction: str = "sum"
  pooling: str = "none"
  begin: float = 0.0

  swept: ClassVar = ("contrastive_weight", "margin")
  # The paper's grids: weights of 0.001 to 10, and its finite margins.
  searched: ClassVar = {"contrastive_weight": LogUniform(1e-3, 10), "margin": Uniform(0.2, 0.9)}

  def __post_init__(self):
    for key, known in (("rescale", RESCALES), ("reduction", REDUCTIONS), ("pooling", POOLINGS)):
      if getattr(self, key) not in known:
        raise UserError(f"algorithm.{key} is {getattr(self, key)!r}{nearest(getattr(self, key), known)}")
    if not self.margin >= 0:
      raise UserError(f"algorithm.margin is {self.margin}: it must be at least 0, and may be inf")
    if not self.begin >= 0:
      raise UserError(f"algorithm.begin is {self.begin}: it must be at least 0")

  def loss(self, params, state, batch, key):
    features, logits, batch_stats = self.forward_through(params, state, batch["image"], key, self.network.features)
    classification = cross_entropy(logits, batch["label"])
    contrastive = reverse_contrastive(features, batch["label"], state.hparams["margin"], rescale=self.rescale,
                                      reduction=self.reduction, pooling=self.pooling)
    weight = state.hparams["contrastive_weight"]
    if self.begin:
      weight = weight * (state.step >= self.begin * self.optimizer.schedule.steps_per_epoch)
    loss = classification + weight * contrastive
    metrics = {"loss": loss, "cross_entropy": classification, "contrastive": contrastive,
               "accuracy": accuracy(logits, batch["label"])}
    return loss, ({"batch_stats": batch_stats}, metrics)
