"""Baselines on the pooled source domains: Aggregate (ERM) and Multi-Headed."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from dgjax.algorithms.base import Algorithm, accuracy
from dgjax.algorithms.ensembles import ensemble
from dgjax.losses.classification import cross_entropy


@dataclasses.dataclass(frozen=True, kw_only=True)
class Aggregate(Algorithm):
  """One network trained on all source domains pooled (DMG, section 4.1); empirical risk minimisation."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MultiHeaded(Algorithm):
  """One backbone, one classifier head per source domain (DMG, section 4.1).

  In training and in validation each example goes through its own domain's head. At test time, where the domain is not
  known, the heads' logits are averaged. A head is the network's last stage.

  Attributes:
    shared_heads: whether one head serves all domains, as it does in the released code for AlexNet by accident.
  """

  prediction: str = "pred_ens"
  shared_heads: bool = False

  validation = "known"

  @property
  def head(self) -> str:
    """Name of the stage that each domain has its own copy of."""
    return self.network.names[-1]

  def init_params(self, key, images):
    network_key, head_key = jax.random.split(key)
    params, batch_stats = super().init_params(network_key, images)
    features = self.entering(params, batch_stats, images, self.head)
    fresh = lambda key: self.network.init(key, features, start=self.head)["params"][self.head]  # noqa: E731
    heads = jax.vmap(fresh)(jax.random.split(head_key, 1 if self.shared_heads else self.domains))
    trunk = {name: value for name, value in params["network"].items() if name != self.head}
    return {"network": trunk, "heads": heads}, batch_stats

  def heads(self, params, features: jax.Array, key: jax.Array | None = None) -> jax.Array:
    """Logits (domains, B, classes) of features under every head; with a key, of dropout, in training."""
    how: dict[str, Any] = {} if key is None else {"train": True, "rngs": {"dropout": key}}
    logits: Any = jax.vmap(lambda head: self.network.apply({"params": {self.head: head}}, features, start=self.head,
                                                      **how))(params["heads"])
    return jnp.broadcast_to(logits, (self.domains, *logits.shape[1:]))

  def loss(self, params, state, batch, key):
    features, batch_stats = self.forward(params, state, batch["image"], key, stop=self.head)
    logits = ensemble(self.heads(params, features, key), batch["domain"])["known"]
    loss = cross_entropy(logits, batch["label"])
    return loss, ({"batch_stats": batch_stats}, {"loss": loss, "accuracy": accuracy(logits, batch["label"])})

  def outputs(self, state, images, domain=None):
    features = self.evaluate(state, images, stop=self.head)
    return ensemble(self.heads(state.params, features), domain)
