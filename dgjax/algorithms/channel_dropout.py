"""Dropout of whole channels at a rate drawn anew each step, and penalties on redundant channels (RCL)."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from dgjax.algorithms.base import Algorithm, accuracy
from dgjax.distributions import LogUniform
from dgjax.errors import UserError, nearest
from dgjax.losses.classification import cross_entropy
from dgjax.losses.redundancy import SAMPLES, covariance, double_soft_orthogonality

NO_KERNEL = ("algorithm.orthogonality_weight: this network names no kernel that makes its features: set it to 0 and do "
             "not sweep it, or take another model.name")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChannelDropout(Algorithm):
  """Drops channels of the last convolutional map in training. Predictions are made without dropout.

  The rate is drawn from U(0, 1) each step for the whole batch (for each device's share under pmap), and each example
  draws its own channels. Kept channels are scaled by the inverse of the share that is kept on average. The rate is at
  most (channels - 1) / channels, so that this stays finite. The paper states neither the position nor the scaling.

  Source: RCL, sections 4.2 and 5.1.

  Attributes:
    orthogonality_weight: weight of the double soft orthogonality of the filters that make these channels; 1.0 in the
      paper's "Dropout & Orthogonality".
    covariance_weight: weight of the covariance of the channels before dropout; 0.01 in the paper's "Dropout &
      Covariance".
    covariance_samples: "positions" or "means", see `losses.redundancy`.
  """

  orthogonality_weight: float = 0.0
  covariance_weight: float = 0.0
  covariance_samples: str = "positions"

  swept: ClassVar = ("orthogonality_weight", "covariance_weight")
  # The grid of RCL for the weights of all of its methods.
  searched: ClassVar = {"orthogonality_weight": LogUniform(1e-3, 10), "covariance_weight": LogUniform(1e-3, 10)}

  def __post_init__(self):
    if self.covariance_samples not in SAMPLES:
      raise UserError(f"algorithm.covariance_samples is {self.covariance_samples!r}"
                      f"{nearest(self.covariance_samples, SAMPLES)}")
    if self.orthogonality_weight and not self.network.features_kernel:
      raise UserError(NO_KERNEL)

  @property
  def scalars(self):
    """The swept settings. A network that names no kernel has no weight of orthogonality, which would change nothing."""
    scalars = super().scalars
    if not self.network.features_kernel:
      del scalars["orthogonality_weight"]
    return scalars

  def loss(self, params, state, batch, key):
    if "orthogonality_weight" in state.hparams and not self.network.features_kernel:
      raise UserError(NO_KERNEL)
    features, logits, batch_stats = self.forward_through(
        params, state, batch["image"], key, self.network.features,
        lambda features: drop_channels(jax.random.fold_in(key, 1), features))
    classification = cross_entropy(logits, batch["label"])
    redundancy = covariance(features, self.covariance_samples)
    loss = classification + state.hparams["covariance_weight"] * redundancy
    metrics = {"cross_entropy": classification, "covariance": redundancy, "accuracy": accuracy(logits, batch["label"])}
    if path := self.network.features_kernel:
      kernel = params["network"]
      for name in path.split("/"):
        kernel = kernel[name]
      metrics["orthogonality"] = double_soft_orthogonality(kernel)
      loss += state.hparams["orthogonality_weight"] * metrics["orthogonality"]
    return loss, ({"batch_stats": batch_stats}, {**metrics, "loss": loss})


def drop_channels(key: jax.Array, features: jax.Array) -> jax.Array:
  """Sets channels to zero, each with the same probability r ~ U(0, 1), and scales the others by 1 / (1 - r).

  Args:
    key: typed PRNG key.
    features: (B, ..., channels).

  Returns:
    The same shape and dtype.
  """
  rows, channels = features.shape[0], features.shape[-1]
  rate_key, key = jax.random.split(key)
  rate = jnp.minimum(jax.random.uniform(rate_key), (channels - 1) / channels)
  gate = jax.random.bernoulli(key, 1 - rate, (rows, channels)) / (1 - rate)
  return features * gate.reshape(rows, *(1,) * (features.ndim - 2), channels).astype(features.dtype)
