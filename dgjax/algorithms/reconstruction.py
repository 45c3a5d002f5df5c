"""Reconstruction of the input as a second task (Ghifary et al., ICCV 2015, in the form that RCL compares with)."""

import dataclasses
from typing import ClassVar

import jax

from dgjax.algorithms.base import Algorithm, accuracy
from dgjax.distributions import LogUniform
from dgjax.losses.classification import cross_entropy
from dgjax.losses.reconstruction import mean_squared_error, to_tanh_range
from dgjax.models.decoder import Decoder


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reconstruction(Algorithm):
  """Classifies images, and decodes the last convolutional map to the network's input.

  The decoder ends in tanh. Its target is the input, brought to [-1, 1] by the batch's range (under pmap that of a
  device's part of the batch), because data sets are normalised differently.

  Source: RCL, sections 4.2 and 5.1.

  Attributes:
    reconstruction_weight: weight of the mean squared error.
  """

  reconstruction_weight: float = 1.0

  swept: ClassVar = ("reconstruction_weight",)
  searched: ClassVar = {"reconstruction_weight": LogUniform(1e-3, 10)}  # the grid of RCL

  def init_params(self, key, images):
    params, batch_stats = super().init_params(key, images)
    features = self.entering(params, batch_stats, images, self.network.features)
    decoder = Decoder(images.shape[1:]).init(jax.random.fold_in(key, 1), features)
    return {**params, "decoder": decoder["params"]}, batch_stats

  def loss(self, params, state, batch, key):
    features, logits, batch_stats = self.forward_through(params, state, batch["image"], key, self.network.features)
    classification = cross_entropy(logits, batch["label"])
    decoded = Decoder(batch["image"].shape[1:]).apply({"params": params["decoder"]}, features)
    error = mean_squared_error(decoded, to_tanh_range(batch["image"]))
    loss = classification + state.hparams["reconstruction_weight"] * error
    metrics = {"loss": loss, "cross_entropy": classification, "reconstruction": error,
               "accuracy": accuracy(logits, batch["label"])}
    return loss, ({"batch_stats": batch_stats}, metrics)
