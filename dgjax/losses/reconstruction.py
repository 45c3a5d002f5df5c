"""Reconstruction of the input."""

import jax
import jax.numpy as jnp


def to_tanh_range(images: jax.Array) -> jax.Array:
  """Maps a batch of inputs to [-1, 1] by its smallest and largest value.

  However inputs were normalised, a batch that holds the darkest and the brightest value comes out as 2 x - 1 of pixels
  x in [0, 1], if normalisation is the same for all channels.

  Args:
    images: (B, ...) float.

  Returns:
    The same shape, float32.
  """
  images = images.astype(jnp.promote_types(images.dtype, jnp.float32))
  low, high = images.min(), images.max()
  return 2 * (images - low) / jnp.maximum(high - low, jnp.finfo(images.dtype).tiny) - 1


def mean_squared_error(outputs: jax.Array, targets: jax.Array) -> jax.Array:
  """Mean squared difference over examples, positions and channels.

  Args:
    outputs: any shape, float.
    targets: the same shape.

  Returns:
    () float32, non-negative.

  Raises:
    ValueError: the shapes differ.

  Source: Duboudin et al. 2021 (RCL), section 4.2, after Ghifary et al. 2015; the distance is not named there.
  """
  if outputs.shape != targets.shape:
    raise ValueError(f"outputs are {outputs.shape}, targets {targets.shape}")
  return jnp.square(outputs.astype(jnp.promote_types(outputs.dtype, jnp.float32)) - targets).mean()
