"""Losses of classification."""

import jax
import jax.numpy as jnp
import optax


def cross_entropies(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """Softmax cross-entropy of each example, in float32 whatever the logits' dtype.

  Args:
    logits: (B, C) float.
    labels: (B,) int, in [0, C).

  Returns:
    (B,) float32, non-negative.

  Raises:
    ValueError: if the shapes do not fit.
  """
  if logits.ndim != 2 or labels.shape != logits.shape[:1]:
    raise ValueError(f"need logits (batch, classes), labels (batch,), not {logits.shape}, {labels.shape}")
  logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
  return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def smoothed_cross_entropies(logits: jax.Array, labels: jax.Array, smoothing: jax.Array | float) -> jax.Array:
  """Softmax cross-entropy of each example against 1 - smoothing on its label and the rest spread over other classes.

  Each other class has smoothing / (C - 1); the more usual form spreads it over all C.

  Args:
    logits: (B, C) float, C at least 2.
    labels: (B,) int, in [0, C).
    smoothing: in [0, 1), 0 is `cross_entropies`.

  Returns:
    (B,) float32, non-negative.

  Raises:
    ValueError: if the shapes do not fit.

  Source: the released code of Li et al. 2021 (DRT), smoothing 0.01; the paper does not mention it.
  """
  own = cross_entropies(logits, labels)
  log_probs = jax.nn.log_softmax(logits.astype(own.dtype))
  others = -log_probs.sum(-1) - own
  return (1 - smoothing) * own + smoothing / (logits.shape[-1] - 1) * others


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """Mean softmax cross-entropy of a batch.

  Args:
    logits: (B, C) float.
    labels: (B,) int, in [0, C).

  Returns:
    () float32, non-negative.

  Raises:
    ValueError: if the shapes do not fit.

  Source: Chattopadhyay et al. 2020 (DMG), Eq. 2, first term, averaged over the batch as in the released code.
  """
  return cross_entropies(logits, labels).mean()
