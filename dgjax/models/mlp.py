"""Multilayer perceptrons on features, such as discriminators."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen import initializers

from dgjax.models import layers


class BatchStandardise(nn.Module):
  """BatchNorm without running statistics, which a discriminator never needs."""

  epsilon: float = 1e-5

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Standardises x (batch, units) by the batch's mean and biased variance, then scales and shifts it."""
    scale = self.param("scale", initializers.ones, x.shape[-1:]).reshape(1, -1)
    bias = self.param("bias", initializers.zeros, x.shape[-1:]).reshape(1, -1)
    centred = x - x.mean(0, keepdims=True)
    return centred * jax.lax.rsqrt(jnp.square(centred).mean(0, keepdims=True) + self.epsilon) * scale + bias


class MLP(nn.Module):
  """Linear layers with ReLU between them; float32.

  Attributes:
    widths: numbers of units of the hidden layers.
    outputs: number of units of the last layer.
    norm: whether hidden layers are standardised over the batch before their ReLU.
  """

  widths: tuple[int, ...]
  outputs: int
  norm: bool = False

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps features (batch, in) to (batch, outputs)."""
    for i, width in enumerate(self.widths, 1):
      x = layers.Dense(width, name=f"fc{i}")(x)
      x = nn.relu(BatchStandardise(name=f"bn{i}")(x) if self.norm else x)
    return layers.Dense(self.outputs, name="out")(x)


class NormedHidden(nn.Module):
  """Dropout, linear layer, BatchNorm, ReLU, as a stage; float32.

  Attributes:
    features: output units.
    dropout: share of inputs dropped in training, by the "dropout" stream of keys.
    linear_init: initialisation of the linear layer, a key of `layers.HEAD_INITS`.
  """

  features: int
  dropout: float = 0.5
  linear_init: str = "uniform"

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """Maps (batch, in) to (batch, features)."""
    x = nn.Dropout(self.dropout)(x, deterministic=not train)
    dense = layers.Dense(self.features, layers.HEAD_INITS[self.linear_init], zero_bias=self.linear_init != "uniform",
                         name="fc")
    return nn.relu(layers.BatchNorm(name="bn")(dense(x), train))
