"""Jigsaw puzzles: images cut into tiles that are put together in another order."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from dgjax.errors import UserError


def all_permutations(tiles: int) -> np.ndarray:
  """Every order of a few tiles, the identity first.

  Args:
    tiles: how many.

  Returns:
    (tiles!, tiles) int32.
  """
  return np.array(list(itertools.permutations(range(tiles))), np.int32)


def shuffle_tiles(images: jax.Array, orders: jax.Array) -> jax.Array:
  """Cuts each image into n x n tiles and puts them together in another order.

  Args:
    images: (B, height, width, channels); n must divide height and width.
    orders: (B, n * n) int: at place i, counted row by row, goes tile orders[:, i].

  Returns:
    (B, height, width, channels).

  Raises:
    ValueError: there is not one order for each image, or its length is no square.
    UserError: the image cannot be cut into equal tiles.

  Source: Carlucci et al. 2019 (JiGen), with 3 x 3 tiles; Duboudin et al. 2021 (RCL), section 5.1, with 2 x 2.
  """
  batch, height, width, channels = images.shape
  n = round(orders.shape[-1] ** 0.5)
  if orders.shape != (batch, n * n):
    raise ValueError(f"need an order of n * n tiles for each of {batch} images, not {orders.shape}")
  if height % n or width % n:
    raise UserError(f"images of {height}x{width} pixels cannot be cut into {n}x{n} equal tiles: "
                    f"set data.image_size to a multiple of {n}")
  tiles = images.reshape(batch, n, height // n, n, width // n, channels).transpose(0, 1, 3, 2, 4, 5)
  tiles = tiles.reshape(batch, n * n, height // n, width // n, channels)
  tiles = jnp.take_along_axis(tiles, orders.reshape(batch, n * n, 1, 1, 1), axis=1)
  tiles = tiles.reshape(batch, n, n, height // n, width // n, channels).transpose(0, 1, 3, 2, 4, 5)
  return tiles.reshape(images.shape)
