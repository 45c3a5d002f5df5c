"""Jigsaw puzzles as a second task (Carlucci et al., CVPR 2019, in the form that RCL compares with)."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from dgjax.algorithms.base import Algorithm, accuracy
from dgjax.distributions import LogUniform
from dgjax.losses.classification import cross_entropy
from dgjax.losses.permutation import all_permutations, shuffle_tiles
from dgjax.models import layers

ORDERS = all_permutations(4)  # of 2x2 tiles


@dataclasses.dataclass(frozen=True, kw_only=True)
class Jigsaw(Algorithm):
  """Classifies images, and predicts in which of 24 orders the 2x2 tiles of shuffled images are.

  Each batch is used twice: as it is, for the classes; and shuffled, with one order drawn for each image, for a linear
  layer beside the last stage. BatchNorm's running statistics are those of the ordered images. JiGen itself has 3x3
  tiles, 30 far-apart orders and ordered images among the shuffled ones, and its released code classifies shuffled
  images too.

  Source: RCL, section 5.1.

  Attributes:
    jigsaw_weight: weight of the puzzles' cross-entropy.
  """

  jigsaw_weight: float = 10.0

  swept: ClassVar = ("jigsaw_weight",)
  searched: ClassVar = {"jigsaw_weight": LogUniform(1e-3, 10)}  # the grid of RCL

  def init_params(self, key, images):
    params, batch_stats = super().init_params(key, images)
    features = self.entering(params, batch_stats, images, self.network.names[-1])
    head = layers.Head(len(ORDERS)).init(jax.random.fold_in(key, 1), features, False)
    return {**params, "jigsaw": head["params"]}, batch_stats

  def loss(self, params, state, batch, key):
    logits, batch_stats = self.forward(params, state, batch["image"], key)
    classification = cross_entropy(logits, batch["label"])

    order_key, dropout_key = jax.random.split(jax.random.fold_in(key, 1))
    order = jax.random.randint(order_key, batch["label"].shape, 0, len(ORDERS))
    shuffled = shuffle_tiles(batch["image"], jnp.asarray(ORDERS)[order])
    features, _ = self.forward(params, state, shuffled, dropout_key, stop=self.network.names[-1])
    order_logits = layers.Head(len(ORDERS)).apply({"params": params["jigsaw"]}, features, False)
    puzzle = cross_entropy(order_logits, order)

    loss = classification + state.hparams["jigsaw_weight"] * puzzle
    metrics = {"loss": loss, "cross_entropy": classification, "jigsaw": puzzle,
               "accuracy": accuracy(logits, batch["label"]), "jigsaw_accuracy": accuracy(order_logits, order)}
    return loss, ({"batch_stats": batch_stats}, metrics)
