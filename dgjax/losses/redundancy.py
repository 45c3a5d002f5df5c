"""Penalties on redundant filters: double soft orthogonality and the covariance of activations (DeCov)."""

import jax
import jax.numpy as jnp

from dgjax.errors import UserError, nearest

SAMPLES = ("positions", "means")


def double_soft_orthogonality(kernel: jax.Array) -> jax.Array:
  """||W^T W - I||^2 + ||W W^T - I||^2 (Frobenius) of a layer's filters.

  For W (m, n) it cannot fall below |m - n|. With G the smaller of the two products and s = min(m, n) it equals
  2 ||G - I_s||^2 + |m - n|, since both products have the same norm and trace; the larger one is never made.

  Args:
    kernel: (..., inputs, filters) float, such as (height, width, in, out); W is m = all but the last axis by n filters.

  Returns:
    () float32, at least |m - n|. Not normalised by the size, as far as the sources tell.

  Raises:
    ValueError: `kernel` has less than two axes.

  Source: Bansal et al. 2018, double soft orthogonality; used by Duboudin et al. 2021 (RCL), section 4.2.
  """
  if kernel.ndim < 2:
    raise ValueError(f"a kernel must be (..., inputs, filters), not {kernel.shape}")
  weights = kernel.reshape(-1, kernel.shape[-1]).astype(jnp.promote_types(kernel.dtype, jnp.float32))
  inputs, filters = weights.shape
  if inputs < filters:
    weights = weights.T
  gram = jnp.matmul(weights.T, weights, precision="highest")
  return 2 * jnp.square(gram - jnp.eye(len(gram))).sum() + abs(inputs - filters)


def covariance(activations: jax.Array, samples: str = "positions") -> jax.Array:
  """Half the squared covariances between different channels, summed: (||C||^2 - ||diag C||^2) / 2.

  Args:
    activations: (B, channels) or (B, ..., channels) float.
    samples: of a map, "positions": every position of every example is a sample (default); "means": each example's mean
      over space is one. RCL does not say which.

  Returns:
    () float32, non-negative. C is divided by the number of samples, not by one less.

  Raises:
    UserError: `samples` is neither.

  Source: Cogswell et al. 2016 (DeCov); used by Duboudin et al. 2021 (RCL), section 4.2.
  """
  if samples not in SAMPLES:
    raise UserError(f"unknown samples of the covariance: {samples!r}{nearest(samples, SAMPLES)}")
  channels = activations.shape[-1]
  activations = activations.astype(jnp.promote_types(activations.dtype, jnp.float32))
  if samples == "means":
    activations = activations.reshape(len(activations), -1, channels).mean(1)
  rows = activations.reshape(-1, channels)
  rows = rows - rows.mean(0, keepdims=True)
  matrix = jnp.matmul(rows.T, rows, precision="highest") / len(rows)
  return jnp.square(matrix * (1 - jnp.eye(channels))).sum() / 2
