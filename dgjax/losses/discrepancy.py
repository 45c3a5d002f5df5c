"""How far two classifiers disagree, and how evenly a batch's predictions are spread over the classes."""

from collections.abc import Callable

import jax
import jax.numpy as jnp


def _probabilities(logits: jax.Array) -> jax.Array:
  return jax.nn.softmax(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)))


def discrepancy(first: jax.Array, second: jax.Array) -> jax.Array:
  """Mean absolute difference of two classifiers' probabilities, over examples and classes.

  Where the two are equal the gradient is 0.

  Args:
    first, second: (B, C) float, logits of the same examples.

  Returns:
    () float32 in [0, 2 / C].

  Raises:
    ValueError: the shapes differ, or are not (batch, classes).

  Source: Saito et al., Maximum classifier discrepancy for unsupervised domain adaptation, CVPR 2018, Eq. 5.
  """
  if first.ndim != 2 or first.shape != second.shape:
    raise ValueError(f"need two of (batch, classes), not {first.shape}, {second.shape}")
  difference = _probabilities(first) - _probabilities(second)
  return (difference * jax.lax.stop_gradient(jnp.sign(difference))).mean()


def class_balance(logits: jax.Array, average: Callable[[jax.Array], jax.Array] = lambda mean: mean,
                  epsilon: float = 1e-6) -> jax.Array:
  """-mean_c log(mean_b p_bc + epsilon), which is lowest if all classes are predicted equally often.

  Args:
    logits: (B, C) float.
    average: a function of the mean probabilities (C,), such as the mean over devices that hold parts of the batch.
    epsilon: keeps the logarithm finite.

  Returns:
    () float32, at least about log C.

  Raises:
    ValueError: `logits` is not (batch, classes).

  Source: the released code of Saito et al. 2018 for VisDA, with weight 0.01; the paper does not mention it.
  """
  if logits.ndim != 2:
    raise ValueError(f"need logits (batch, classes), not {logits.shape}")
  return -jnp.log(average(_probabilities(logits).mean(0)) + epsilon).mean()
