"""A decoder from a convolutional map back to the network's input."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from dgjax.models import layers

NARROWEST = 16


class Decoder(nn.Module):
  """Transposed convolutions that double a map until it has the input's size, then one to its channels, and tanh.

  From the 5x5 map of a 32-pixel image there are four layers, as many as in RCL, which gives no sizes. Every layer but
  the last has a 4x4 kernel with stride 2, half its predecessor's channels and a ReLU, and is cropped to the input's
  size divided by a power of two. The last layer has a 3x3 kernel.

  Source: Duboudin et al. 2021 (RCL), section 5.1.

  Attributes:
    shape: height, width and channels of the input.
  """

  shape: tuple[int, int, int]

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps a map (batch, height', width', channels') to (batch, *shape), float32 in (-1, 1)."""
    *size, channels = self.shape
    width = x.shape[-1]
    doublings = max(0, *(math.ceil(math.log2(n / have)) for n, have in zip(size, x.shape[1:3], strict=True)))
    for left in reversed(range(doublings)):
      width = max(NARROWEST, width // 2)
      x = nn.relu(layers.ConvTranspose(width, 4, 2, 1, x.dtype)(x))
      x = crop(x, [math.ceil(n / 2**left) for n in size])
    return jnp.tanh(layers.ConvTranspose(channels, 3, 1, 1, x.dtype)(crop(x, size)).astype(jnp.float32))


def crop(x: jax.Array, size: list[int]) -> jax.Array:
  """The middle of x (batch, height, width, channels), of at most the given height and width."""
  (top, height), (left, width) = (((have - n) // 2, n) if have > n else (0, have)
                                  for n, have in zip(size, x.shape[1:3], strict=True))
  return x[:, top:top + height, left:left + width]
