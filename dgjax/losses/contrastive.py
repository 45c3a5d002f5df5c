"""Reverse contrastive loss: pushes examples of one class apart while other classes are farther away (RCL)."""

import jax
import jax.numpy as jnp

from dgjax.errors import UserError, nearest

EPSILON = 1e-8  # added to the range, which is 0 where a feature is the same for all examples
RESCALES = ("batch", "feature", "channel")
REDUCTIONS = ("sum", "mean")
POOLINGS = ("none", "mean", "max")
ROUNDING = 1e-6  # smaller differences of rescaled features, whose range is 1, are rounding of float32


def min_max(features: jax.Array, rescale: str = "batch") -> jax.Array:
  """Maps features to [0, 1] by the batch's smallest and largest values. Gradients flow through both.

  The paper takes them "batch-wise". It says neither over which axes nor whether gradients flow through them. Without
  these gradients training with m = inf collapses.

  Args:
    features: (B, ..., channels) float.
    rescale: "batch", one range for the whole array (the plain reading, default); "channel", one for each channel;
      "feature", one for each position and channel.

  Returns:
    The same shape, float32, in [0, 1].

  Raises:
    UserError: `rescale` is none of them.

  Source: Duboudin et al. 2021 (RCL), section 4.1.
  """
  if rescale not in RESCALES:
    raise UserError(f"unknown rescale of the reverse contrastive loss: {rescale!r}{nearest(rescale, RESCALES)}")
  features = features.astype(jnp.promote_types(features.dtype, jnp.float32))
  axes = {"batch": tuple(range(features.ndim)), "channel": tuple(range(features.ndim - 1)), "feature": (0,)}[rescale]
  low, high = features.min(axes, keepdims=True), features.max(axes, keepdims=True)
  return (features - low) / (high - low + EPSILON)


def pool(features: jax.Array, pooling: str = "none") -> jax.Array:
  """Takes the mean or the maximum of a map over its positions, or leaves it as it is.

  Args:
    features: (B, ..., channels) float.
    pooling: "none", "mean" or "max".

  Returns:
    (B, channels); of "none" as it came.

  Raises:
    UserError: `pooling` is none of them.

  Source: ours. Duboudin et al. 2021 (RCL) compare "features" and do not say of which form.
  """
  if pooling not in POOLINGS:
    raise UserError(f"unknown pooling of the reverse contrastive loss: {pooling!r}{nearest(pooling, POOLINGS)}")
  if pooling == "none":
    return features
  positions = tuple(range(1, features.ndim - 1))
  return features.mean(positions) if pooling == "mean" else features.max(positions)


def neighbours(features: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Finds each example's easy positive, the nearest of its class, and hard negative, the nearest of another class.

  Do not differentiate it: only in a forward pass does XLA never hold the B x B x D differences, on one device or with
  the batch spread over several.

  Args:
    features: (B, D) float32.
    labels: (B,) int.

  Returns:
    The index of the positive, (B,) int; the L1 distance to it, (B,) float32, inf if no other example has the class; and
    the L1 distance to the negative, (B,) float32, inf if all examples have one class.
  """
  distance = jnp.abs(features[:, None] - features[None]).sum(-1)
  same = labels[:, None] == labels[None]
  positive = jnp.where(same & ~jnp.eye(len(labels), dtype=bool), distance, jnp.inf)
  return positive.argmin(1), positive.min(1), jnp.where(same, jnp.inf, distance).min(1)


def reverse_contrastive(features: jax.Array, labels: jax.Array, margin: jax.Array | float, *, rescale: str = "batch",
                        reduction: str = "sum", pooling: str = "none") -> jax.Array:
  """Minus the distance of each example to its nearest neighbour of the same class, if that is near enough.

  An example counts while d(positive) < margin * d(nearest of another class). The positive is a constant, so that only
  the example itself moves. The mean is over all examples; those that do not count, and those without another example of
  their class, add 0. If the batch has no other class, nothing limits the push. The paper leaves open whether the
  distance is a sum or a mean over features, which differ by a factor of thousands. Only the sum has the effect that the
  paper reports.

  Args:
    features: (B, ..., channels) float, before rescaling.
    labels: (B,) int.
    margin: scalar m in [0, inf]; inf: every example that has a positive counts.
    rescale: see `min_max`.
    reduction: "sum" (default) or "mean" of the absolute differences over features.
    pooling: how features are pooled over their positions before rescaling; see `pool`.

  Returns:
    () float32, at most 0.

  Raises:
    ValueError: the shapes do not fit.
    UserError: `rescale`, `reduction` or `pooling` is not known.

  Source: Duboudin et al. 2021 (RCL), Eq. 1 and 2, algorithm 1. The algorithm's loop over every example, not the text's
    anchors "sampled randomly".
  """
  if features.ndim < 2 or labels.shape != features.shape[:1]:
    raise ValueError(f"need features (batch, ..., channels), labels (batch,), not {features.shape}, {labels.shape}")
  if reduction not in REDUCTIONS:
    raise UserError(f"unknown reduction of the reverse contrastive loss: {reduction!r}{nearest(reduction, REDUCTIONS)}")
  rescaled = min_max(pool(features, pooling), rescale).reshape(len(labels), -1)
  constant = jax.lax.stop_gradient(rescaled)
  positive, to_positive, to_negative = neighbours(constant, labels)
  near = (to_positive < margin * to_negative) | jnp.isinf(margin)  # inf * 0 is NaN
  difference = rescaled - constant[positive]
  # Equal features, such as two zeros after a ReLU, are not to be pushed, but the gradient of jnp.abs is 1 there. Where
  # two images share a background, they differ by rounding alone, which depends on the number of devices.
  away = jnp.where(jnp.abs(difference) > ROUNDING, jnp.sign(difference), 0)
  distance = difference * jax.lax.stop_gradient(away)
  distance = distance.sum(1) if reduction == "sum" else distance.mean(1)
  return -jnp.where(near & jnp.isfinite(to_positive), distance, 0).mean()
