"""3x3 and 5x5 convolutions with stride 1 by a quarter to a half of the multiplications: Winograd's form, as products.

The result is computed in square tiles. With m values on a tile's side, r on the kernel's and n = m + r - 1, a tile of
the result comes from n x n values of the images. Images, kernel and result are transformed by small matrices; between
the transforms stand n x n products of matrices (tiles by channels, times channels by filters) in place of (m r)^2:

  forward:                Y = A^T [ (G w G^T) * (B^T x B) ] A
  gradient of the kernel: w = G^T [ (B^T x B) * (A dy A^T), summed over tiles ] G

Everything is computed in float32, whatever the type of the operands: in bfloat16 the transforms would lose bits.

Source: Lavin and Gray, Fast algorithms for convolutional neural networks, CVPR 2016, sections 3 and 4.
"""
import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

# Where the polynomials behind the form are evaluated, beside infinity, for each n. With 3x3 kernels and 128 channels of
# noise the mean of largest errors is 2e-7 (n = 4), 7e-7 (5) and 8e-7 (6) of the largest value; with 1, -1, 2 and -2,
# which are more usual, it is 1e-6 (5) and 3e-6 (6).
POINTS = {4: (0.0, 1.0, -1.0), 5: (0.0, 0.75, -0.75, 1.5), 6: (0.0, 0.75, -0.75, 1.5, -1.5)}


@functools.cache
def matrices(m: int, r: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """A^T (m, n), G (n, r) and B^T (n, n), float64, by the algorithm of Cook and Toom; n = m + r - 1."""
  n = m + r - 1
  points = POINTS[n]
  a, g, b = np.zeros((m, n)), np.zeros((n, r)), np.zeros((n, n))
  for row, point in enumerate(points):
    others = [other for other in points if other != point]
    a[:, row] = point ** np.arange(m)
    g[row] = point ** np.arange(r) / np.prod([point - other for other in others])
    b[row, :n - 1] = np.polynomial.polynomial.polyfromroots(others)
  a[-1, -1] = g[-1, -1] = 1  # of infinity
  b[-1] = np.polynomial.polynomial.polyfromroots(points)
  return a, g, b


def _across(size: Sequence[int], m: int) -> tuple[int, int]:
  return -(-size[0] // m), -(-size[1] // m)


def tile(size: Sequence[int], r: int) -> int:
  """The m with the fewest multiplications for a result of `size`; of equals the smallest, which is the most exact."""
  return min((n - r + 1 for n in POINTS if n > r), key=lambda m: (m + r - 1) ** 2 * math.prod(_across(size, m)))


def tiles(shape: Sequence[int], r: int) -> int:
  """How many tiles there are in a result of (batch, height, width, ...): rows of the products."""
  return shape[0] * math.prod(_across(shape[1:3], tile(shape[1:3], r)))


def _sums(matrix: np.ndarray, terms: Sequence[jax.Array]) -> jax.Array:
  """The matrix times what stands in a column, stacked: written out, of which XLA makes one loop for each row."""
  def row(factors):
    return functools.reduce(jnp.add, (term if factor == 1 else term * np.float32(factor)
                                      for factor, term in zip(factors, terms, strict=True) if factor))
  return jnp.stack([row(factors) for factors in matrix])


def every(start: int, count: int, stride: int) -> slice:
  """`count` places from `start` on."""
  return slice(start, start + (count - 1) * stride + 1, stride)


def _transformed(matrix: np.ndarray, images: jax.Array, m: int, counts: tuple[int, int]) -> jax.Array:
  """M P M^T for the places P of each tile; `counts` of them, down and across, begin every m positions.

  Returns:
    (n across, n down, batch * tiles, channels), float32.
  """
  side = matrix.shape[1]
  down = _sums(matrix, [images[:, every(i, counts[0], m)].astype(jnp.float32) for i in range(side)])
  both = _sums(matrix, [down[:, :, :, every(j, counts[1], m)] for j in range(side)])
  return both.reshape(*both.shape[:2], -1, images.shape[3])


def _transformed_images(x: jax.Array, size: Sequence[int], padding: Sequence[tuple[int, int]], m: int,
                        r: int) -> jax.Array:
  """B^T x B."""
  counts = _across(size, m)
  widths = [(low, m * count + r - 1 - length - low, 0)
            for count, length, (low, _) in zip(counts, x.shape[1:3], padding, strict=True)]
  x = lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), *widths, (0, 0, 0)))
  return _transformed(matrices(m, r)[2], x, m, counts)


def forward(x: jax.Array, w: jax.Array, padding: Sequence[tuple[int, int]], *, reverse: bool = False) -> jax.Array:
  """The convolution of (batch, height, width, channels) images by a (r, r, channels, filters) kernel, in x's dtype.

  Under `reverse` the kernel is (r, r, filters, channels) and is turned by 180 degrees, as for the gradient of images.
  """
  r = w.shape[0]
  size = [length + sum(pair) - r + 1 for length, pair in zip(x.shape[1:3], padding, strict=True)]
  m = tile(size, r)
  a, g, _ = matrices(m, r)
  g = g[:, ::-1] if reverse else g  # the matrix is turned in the kernel's place, which would have to be copied
  down = _sums(g, list(w.astype(jnp.float32)))
  kernels = _sums(g, [down[:, j] for j in range(r)])
  parts = jnp.einsum("abtc,abfc->abtf" if reverse else "abtc,abcf->abtf",
                     _transformed_images(x, size, padding, m, r), kernels)
  across = _sums(a, list(parts))
  y = _sums(a, [across[:, i] for i in range(m + r - 1)]).astype(x.dtype)  # (m down, m across, tiles, filters)
  counts = _across(size, m)
  y = y.reshape(m, m, x.shape[0], *counts, parts.shape[3]).transpose(2, 3, 0, 4, 1, 5)
  return y.reshape(x.shape[0], m * counts[0], m * counts[1], parts.shape[3])[:, :size[0], :size[1]]


def filter_gradient(x: jax.Array, dy: jax.Array, r: int, padding: Sequence[tuple[int, int]]) -> jax.Array:
  """The kernel's gradient, (r, r, channels, filters), for `dy`, the gradient of what `forward` gives; in x's dtype."""
  size = dy.shape[1:3]
  m = tile(size, r)
  a, g, _ = matrices(m, r)
  counts = _across(size, m)
  ends = [(0, m * count - length) for count, length in zip(counts, size, strict=True)]
  gradients = _transformed(a.T, jnp.pad(dy, ((0, 0), *ends, (0, 0))), m, counts)
  parts = jnp.einsum("abtc,abtf->abcf", _transformed_images(x, size, padding, m, r), gradients)
  across = _sums(g.T, list(parts))
  return _sums(g.T, [across[:, i] for i in range(m + r - 1)]).astype(x.dtype)
