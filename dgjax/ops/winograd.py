"""3x3 convolutions with stride 1 by a third to a quarter of the multiplications: Winograd's form, as matrix products.

The result is computed in square tiles. With m values on a tile's side and n = m + 2, a tile of the result comes from
n x n values of the images. Both, and the kernel, are transformed by matrices; between the transforms stand n x n
products of matrices (positions of tiles by channels, times channels by filters) in place of 9 m x m:

  forward:               Y = A^T [ (G w G^T) * (B^T x B) ] A
  gradient of the kernel: w = G^T [ (B^T x B) * (A dy A^T), summed over tiles ] G

Both are in float32 whatever the type of the operands: in bfloat16 the transforms would lose two to three bits.

Source: Lavin and Gray, Fast algorithms for convolutional neural networks, CVPR 2016, sections 3 and 4.
"""
import functools
import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

# Where the polynomials behind the form are evaluated, beside infinity, for each m. In float32, with 128 channels, the
# largest error is 2e-7 (m = 2), 7e-7 (3) and 8e-7 (4) of the largest value; the usual 1, -1, 2, -2 have four times that.
POINTS = {2: (0.0, 1.0, -1.0), 3: (0.0, 0.75, -0.75, 1.5), 4: (0.0, 0.75, -0.75, 1.5, -1.5)}


@functools.cache
def matrices(m: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """A^T (m, n), G (n, 3) and B^T (n, n) of F(m, 3), by the algorithm of Cook and Toom; float64, n = m + 2."""
  points, n = POINTS[m], m + 2
  a, g, b = np.zeros((m, n)), np.zeros((n, 3)), np.zeros((n, n))
  for row, point in enumerate(points):
    others = [other for other in points if other != point]
    a[:, row] = point ** np.arange(m)
    g[row] = point ** np.arange(3) / np.prod([point - other for other in others])
    b[row, :n - 1] = np.polynomial.polynomial.polyfromroots(others)
  a[-1, -1] = g[-1, -1] = 1  # of infinity
  b[-1] = np.polynomial.polynomial.polyfromroots(points)
  return a, g, b


def _both_ways(matrix: np.ndarray) -> np.ndarray:
  """The matrix that transforms both axes of a tile, of which each row of values is one."""
  return np.kron(matrix, matrix).astype(np.float32)


def _tiles(size: Sequence[int], m: int) -> tuple[int, int]:
  return -(-size[0] // m), -(-size[1] // m)


def products(size: Sequence[int], m: int) -> int:
  """Multiplications an image, channel and filter take for a result of `size`."""
  return (m + 2) ** 2 * int(np.prod(_tiles(size, m)))


def tile(size: Sequence[int]) -> int:
  """The m with the fewest multiplications; of equals the smallest, which is the most accurate."""
  return min(POINTS, key=lambda m: products(size, m))


def _places(images: jax.Array, side: int, m: int, tiles: tuple[int, int]) -> jax.Array:
  """(side * side, batch * tiles, channels): what stands at each place of all tiles, which begin every m positions."""
  ends = [(t - 1) * m + 1 for t in tiles]
  return jnp.stack([images[:, i:i + ends[0]:m, j:j + ends[1]:m].reshape(-1, images.shape[3])
                    for i, j in itertools.product(range(side), range(side))])


def _transformed_images(x: jax.Array, size: Sequence[int], padding: Sequence[tuple[int, int]], m: int) -> jax.Array:
  """B^T x B of each tile: (n * n, batch * tiles, channels)."""
  tiles = _tiles(size, m)
  widths = [(low, m * count + 2 - length - low, 0)
            for count, length, (low, _) in zip(tiles, x.shape[1:3], padding, strict=True)]
  # Made once: XLA would compute what the images come from anew for each place of a tile.
  x = lax.optimization_barrier(lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), *widths, (0, 0, 0))))
  return jnp.einsum("pq,qtc->ptc", _both_ways(matrices(m)[2]), _places(x.astype(jnp.float32), m + 2, m, tiles))


def forward(x: jax.Array, w: jax.Array, padding: Sequence[tuple[int, int]]) -> jax.Array:
  """The convolution of (batch, height, width, channels) images by a (3, 3, channels, filters) kernel, in x's dtype."""
  size = [length + sum(pair) - 2 for length, pair in zip(x.shape[1:3], padding, strict=True)]
  m = tile(size)
  a, g, _ = matrices(m)
  kernels = jnp.einsum("pk,kcf->pcf", _both_ways(g), w.astype(jnp.float32).reshape(9, *w.shape[2:]))
  parts = jnp.einsum("ptc,pcf->ptf", _transformed_images(x, size, padding, m), kernels)
  y = jnp.einsum("op,ptf->otf", _both_ways(a), parts).astype(x.dtype)
  tiles = _tiles(size, m)
  y = y.reshape(m, m, x.shape[0], *tiles, w.shape[3]).transpose(2, 3, 0, 4, 1, 5)
  return y.reshape(x.shape[0], m * tiles[0], m * tiles[1], w.shape[3])[:, :size[0], :size[1]]


def filter_gradient(x: jax.Array, dy: jax.Array, padding: Sequence[tuple[int, int]]) -> jax.Array:
  """The kernel's gradient, (3, 3, channels, filters), for `dy`, the gradient of what `forward` gives; in x's dtype."""
  size = dy.shape[1:3]
  m = tile(size)
  a, g, _ = matrices(m)
  tiles = _tiles(size, m)
  ends = [(0, m * count - length) for count, length in zip(tiles, size, strict=True)]
  dy = lax.optimization_barrier(jnp.pad(dy, ((0, 0), *ends, (0, 0))))
  gradients = jnp.einsum("op,otf->ptf", _both_ways(a), _places(dy.astype(jnp.float32), m, m, tiles))
  sums = jnp.einsum("ptc,ptf->pcf", _transformed_images(x, size, padding, m), gradients)
  w = jnp.einsum("pk,pcf->kcf", _both_ways(g), sums)
  return w.reshape(3, 3, x.shape[3], dy.shape[3]).astype(x.dtype)
