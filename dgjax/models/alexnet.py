"""AlexNet (Krizhevsky, 2014, the one-tower version) in torchvision's layout and names.

Stages: features, avgpool, classifier.1, classifier.4, classifier.6.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from dgjax.errors import UserError
from dgjax.models import layers
from dgjax.models.network import Network

SMALLEST = 63
"""Side of the smallest image of which the last pooling still finds a window."""

# name, channels, kernel, strides, padding, whether pooled afterwards
CONVOLUTIONS = (("0", 64, 11, 4, 2, True), ("3", 192, 5, 1, 2, True), ("6", 384, 3, 1, 1, False),
                ("8", 256, 3, 1, 1, False), ("10", 256, 3, 1, 1, True))


class Features(nn.Module):
  """Five convolutions and three poolings."""

  dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """Maps images (batch, height, width, channels) to (batch, height', width', 256).

    Raises:
      UserError: the images are too small.
    """
    if min(x.shape[1:3]) < SMALLEST:
      raise UserError(f"alexnet needs images of at least {SMALLEST}x{SMALLEST} pixels, got "
                      f"{x.shape[1]}x{x.shape[2]}: set data.image_size, or take another model.name")
    for name, channels, kernel, strides, padding, pooled in CONVOLUTIONS:
      x = nn.relu(layers.Conv(channels, (kernel, kernel), strides, padding, use_bias=True, dtype=self.dtype,
                              kernel_init=layers.uniform_fan_in, name=name)(x))
      if pooled:
        x = layers.max_pool(x, 3, 2)
    return x


class Flatten(nn.Module):
  """Adaptive average onto 6x6 cells, flattened with the channel slowest.

  That is PyTorch's order: published weights of classifier.1, and masks on its input, keep their indices.
  """

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """Maps (batch, height, width, 256) to (batch, 9216)."""
    x = layers.adaptive_average_pool(x, 6)
    return x.transpose(0, 3, 1, 2).reshape(x.shape[0], -1)


def alexnet(num_classes: int, *, dtype: Any = jnp.float32, head_init: str = "uniform",
            dropout: bool = True) -> Network:
  """Builds AlexNet; both of DMG's placements mask the inputs of the linear layers (DMG, section 4.1).

  Args:
    num_classes: number of logits.
    dtype: type of the computation; parameters and logits are float32.
    head_init: initialisation of classifier.6, a key of `layers.HEAD_INITS`.
    dropout: whether half of the inputs of classifier.1 and classifier.4 are dropped in training; DMG trains
      without.

  Returns:
    The network, for images of at least 63x63 pixels. In training with dropout, pass `rngs={"dropout": key}`.
  """
  rate = 0.5 if dropout else 0.0
  masked = ("classifier.1", "classifier.4", "classifier.6")
  hidden = partial(layers.Hidden, 4096, rate, dtype)
  head = partial(layers.Head, num_classes, head_init)
  stages = (("features", partial(Features, dtype)), ("avgpool", Flatten),
            ("classifier.1", hidden), ("classifier.4", hidden), ("classifier.6", head))
  return Network(stages, {"paper": masked, "code": masked}, "avgpool", "features/10/kernel")
