"""Reverse contrastive loss: examples of one class are pushed apart, as long as other classes stay farther (RCL)."""

import jax
import jax.numpy as jnp

from dgjax.errors import UserError, nearest

EPSILON = 1e-8  # added to the range, which is 0 where a feature is the same for all examples
RESCALES = ("batch", "feature", "channel")
REDUCTIONS = ("sum", "mean")
POOLINGS = ("none", "mean", "max")
ROUNDING = 1e-6  # of rescaled features, whose range is 1: smaller differences are float32's rounding


def min_max(features: jax.Array, rescale: str = "batch") -> jax.Array:
  """Maps features to [0, 1] by the batch's smallest and largest value; gradients flow through both.

  The paper takes them "batch-wise" and does not say over which axes; it does not say either whether gradients flow
  through them (without, training with m = inf collapses).

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
  """The easy positive and the hard negative of every example: its nearest of the same and of another class.

  Not to be differentiated: in the forward pass alone, XLA never holds the B x B x D differences, on one device or with
  the batch spread over several.

  Args:
    features: (B, D) float32.
    labels: (B,) int.

  Returns:
    Index of the positive, (B,) int; L1 distance to it, (B,) float32, inf where no other example is of the class; L1
    distance to the negative, (B,) float32, inf where all examples are of one class.
  """
  distance = jnp.abs(features[:, None] - features[None]).sum(-1)
  same = labels[:, None] == labels[None]
  positive = jnp.where(same & ~jnp.eye(len(labels), dtype=bool), distance, jnp.inf)
  return positive.argmin(1), positive.min(1), jnp.where(same, jnp.inf, distance).min(1)


def reverse_contrastive(features: jax.Array, labels: jax.Array, margin: jax.Array | float, *, rescale: str = "batch",
                        reduction: str = "sum", pooling: str = "none") -> jax.Array:
  """Minus the distance of every example to its nearest of the same class, where that is near enough.

  An example counts while d(positive) < margin * d(nearest of another class); the positive is a constant, so that only
  the example itself moves. The mean is over all examples, those that do not count adding 0. So do examples without
  another of their class; where there is no other class, nothing limits the push. The paper leaves open whether the
  distance is a sum or a mean over features, a factor of thousands: only the sum has the effect that it reports.

  Args:
    features: (B, ..., channels) float, before rescaling.
    labels: (B,) int.
    margin: scalar m in [0, inf]; inf: every example that has a positive counts.
    rescale: see `min_max`.
    reduction: "sum" (default) or "mean" of the absolute differences over features.
    pooling: of the features over their positions, before rescaling; see `pool`.

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
  near = (to_positive < margin * to_negative) | jnp.isinf(margin)  # inf * 0 is not a number
  difference = rescaled - constant[positive]
  # Where both are the same, as two zeros of a ReLU, nothing is to be pushed: the gradient of jnp.abs is 1 there. Two
  # images that share a background are told apart there by rounding alone, which the number of devices changes.
  away = jnp.where(jnp.abs(difference) > ROUNDING, jnp.sign(difference), 0)
  distance = difference * jax.lax.stop_gradient(away)
  distance = distance.sum(1) if reduction == "sum" else distance.mean(1)
  return -jnp.where(near & jnp.isfinite(to_positive), distance, 0).mean()
