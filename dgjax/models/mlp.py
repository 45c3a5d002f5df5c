"""Multilayer perceptrons on features, such as discriminators."""

import flax.linen as nn
import jax

from dgjax.models import layers


class MLP(nn.Module):
  """Linear layers with ReLU between them; float32.

  Attributes:
    widths: units of the hidden layers.
    outputs: units of the last.
  """

  widths: tuple[int, ...]
  outputs: int

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps features (batch, in) to (batch, outputs)."""
    for i, width in enumerate(self.widths, 1):
      x = nn.relu(layers.Dense(width, name=f"fc{i}")(x))
    return layers.Dense(self.outputs, name="out")(x)


class NormedHidden(nn.Module):
  """Dropout, linear layer, BatchNorm, ReLU, as a stage; float32.

  Attributes:
    features: output units.
    dropout: share of inputs dropped in training, by the "dropout" stream of keys.
  """

  features: int
  dropout: float = 0.5

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """Maps (batch, in) to (batch, features)."""
    x = nn.Dropout(self.dropout)(x, deterministic=not train)
    return nn.relu(layers.BatchNorm(name="bn")(layers.Dense(self.features, name="fc")(x), train))
