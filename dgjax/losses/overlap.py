"""Soft overlap between the masks of source domains (DMG), and the L1 sparsity it is compared with."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from dgjax.errors import UserError, nearest

SMOOTHING = 1e-6  # added to both sides of the fraction, as in the released code, so that two empty masks overlap fully
REDUCTIONS = ("mean", "sum")


def soft_iou(probs: jax.Array) -> jax.Array:
  """Soft intersection over union of every pair of domains at one layer.

  Args:
    probs: (p, k) float, mask probabilities in [0, 1] of p domains over k units.

  Returns:
    (p(p-1)/2,) float32 (or wider), in (0, 1], pairs in the order (0,1), (0,2), ..., (1,2), ...; empty for one
    domain.

  Raises:
    ValueError: if `probs` is not two-dimensional.

  Source: Chattopadhyay et al. 2020 (DMG), Eq. 1, with the released code's smoothing of 1e-6.
  """
  if probs.ndim != 2:
    raise ValueError(f"mask probabilities must be (domains, units), not {probs.shape}")
  probs = probs.astype(jnp.promote_types(probs.dtype, jnp.float32))
  i, j = np.triu_indices(probs.shape[0], 1)
  both = (probs[i] * probs[j]).sum(-1)
  either = probs.sum(-1)[i] + probs.sum(-1)[j] - both
  return (both + SMOOTHING) / (either + SMOOTHING)


def overlap(mask_probs: Mapping[str, jax.Array], reduction: str = "mean") -> jax.Array:
  """Overlap loss: soft IoU of all pairs of domains, over all masked layers.

  Paper and released code differ: Eq. 2 sums over pairs, the code averages over the pairs of a layer. The
  default is the code's, with which the published weight of 0.1 was used. Both sum over layers.

  Args:
    mask_probs: per masked layer, (p, k) mask probabilities in [0, 1].
    reduction: "mean" or "sum", over the pairs of one layer.

  Returns:
    () float32, non-negative; 0 for a single domain, which has no pair.

  Raises:
    UserError: if `reduction` is neither.

  Source: Chattopadhyay et al. 2020 (DMG), Eq. 2, second term without its weight.
  """
  if reduction not in REDUCTIONS:
    raise UserError(f"unknown reduction of the overlap loss: {reduction!r}{nearest(reduction, REDUCTIONS)}")
  total = jnp.zeros(())
  for probs in mask_probs.values():
    pairs = soft_iou(probs)
    total += pairs.sum() / (max(pairs.size, 1) if reduction == "mean" else 1)
  return total


def sparsity(mask_probs: Mapping[str, jax.Array]) -> jax.Array:
  """L1 norm of the mask probabilities, summed over layers, domains and units.

  Args:
    mask_probs: per masked layer, (p, k) mask probabilities in [0, 1].

  Returns:
    () float32, non-negative: the expected number of units that are on.

  Source: Chattopadhyay et al. 2020 (DMG), appendix 7.2.
  """
  total = jnp.zeros(())
  for probs in mask_probs.values():
    total += jnp.abs(probs).sum(dtype=jnp.promote_types(probs.dtype, jnp.float32))
  return total
