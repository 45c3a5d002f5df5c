"""A network of one's own: two stages of convolution and one linear layer."""

from functools import partial
from typing import Any

import jax.numpy as jnp

from dgjax.models import layers
from dgjax.models.network import Network
from dgjax.models.small import ConvStage


def thinnet(num_classes: int, *, dtype: Any = jnp.float32, head_init: str = "uniform") -> Network:
  """Builds a network for images of 8 pixels and more."""
  stages = (("conv1", partial(ConvStage, 8, dtype)),
            ("conv2", partial(ConvStage, 16, dtype)),
            ("pool", layers.GlobalPool),
            ("fc", partial(layers.Head, num_classes, head_init)))
  return Network(stages,
                 masked={"paper": ("conv2", "fc")},  # stages whose inputs DMG masks
                 features="pool",  # the stage whose input is the last convolutional map
                 features_kernel="conv2/conv/kernel")
