"""Invariant risk minimisation, as a method of one's own."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from dgjax.algorithms.base import Algorithm, accuracy
from dgjax.losses.classification import cross_entropies


@dataclasses.dataclass(frozen=True, kw_only=True)
class IRM(Algorithm):
  """Cross-entropy, plus a penalty that is 0 where the classifier is optimal in every source domain at once.

  Source: Arjovsky et al., Invariant risk minimization, 2019, section 3.1 (IRMv1).

  Attributes:
    penalty_weight: of the squared gradients by a factor on the logits, one for each domain; 0 is ERM.
  """

  penalty_weight: float = 1.0

  swept: ClassVar[tuple[str, ...]] = ("penalty_weight",)  # an array in the state, read from state.hparams

  def loss(self, params, state, batch, key):
    """Returns the scalar, and a pair of changed fields of the state and metrics."""
    logits, batch_stats = self.forward(params, state, batch["image"], key)
    member = jax.nn.one_hot(batch["domain"], self.domains)  # (B, domains)
    share = member / jnp.maximum(member.sum(0, keepdims=True), 1)

    def risks(factor):  # of each domain, (domains,)
      return cross_entropies(factor * logits, batch["label"]) @ share

    risk, slope = jax.jvp(risks, (1.0,), (1.0,))
    penalty = jnp.square(slope).mean()
    loss = risk.mean() + state.hparams["penalty_weight"] * penalty
    metrics = {"loss": loss, "cross_entropy": risk.mean(), "penalty": penalty,
               "accuracy": accuracy(logits, batch["label"])}
    return loss, ({"batch_stats": batch_stats}, metrics)
