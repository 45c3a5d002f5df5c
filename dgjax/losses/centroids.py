"""Moving centroids of classes, and the distance between those of two domains (MSTN)."""

import jax
import jax.numpy as jnp

from dgjax.errors import UserError, nearest

ABSENT = ("keep", "shrink")


def class_means(features: jax.Array, labels: jax.Array, classes: int) -> tuple[jax.Array, jax.Array]:
  """The mean feature of each class in a batch.

  Args:
    features: (B, d) float.
    labels: (B,) int, in [0, classes).
    classes: K.

  Returns:
    (K, d) float32, zero for an absent class; and (K, 1) bool, which classes are present.

  Raises:
    ValueError: the shapes do not fit.
  """
  if features.ndim != 2 or labels.shape != features.shape[:1]:
    raise ValueError(f"need features (batch, d), labels (batch,), not {features.shape}, {labels.shape}")
  member = jax.nn.one_hot(labels, classes, axis=0)  # (K, B)
  count = member.sum(1, keepdims=True)
  return member @ features.astype(jnp.float32) / jnp.maximum(count, 1), count > 0


def move_centroids(old: jax.Array, features: jax.Array, labels: jax.Array, *, momentum: float = 0.7,
                   absent: str = "keep") -> jax.Array:
  """Centroids after a batch: momentum * old + (1 - momentum) * the batch's class means.

  Gradients flow through the means alone.

  Args:
    old: (K, d) float32.
    features: (B, d) float.
    labels: (B,) int, in [0, K).
    momentum: weight of the old; 0.7 is the paper's theta.
    absent: what happens to the centroid of a class without examples. "keep": it stays (default; DSBN's code). "shrink":
      it is multiplied by the momentum, since the class's mean counts as 0 (MSTN's released code).

  Returns:
    (K, d) float32.

  Raises:
    UserError: `absent` is not known.

  Source: Xie et al., Learning semantic representations for unsupervised domain adaptation, ICML 2018, algorithm 1.
  """
  if absent not in ABSENT:
    raise UserError(f"algorithm.absent is {absent!r}{nearest(absent, ABSENT)}")
  means, present = class_means(features, labels, len(old))
  old = jax.lax.stop_gradient(old)
  moved = momentum * old + (1 - momentum) * means
  return moved if absent == "shrink" else jnp.where(present, moved, old)


def semantic_distance(source: jax.Array, target: jax.Array) -> jax.Array:
  """Mean over classes and units of the squared difference of two domains' centroids.

  Args:
    source: (K, d) float32.
    target: the same shape.

  Returns:
    () float32, non-negative.

  Raises:
    ValueError: the shapes differ.

  Source: Xie et al., ICML 2018, Eq. 7, which sums over units; the mean is the released code's.
  """
  if source.shape != target.shape:
    raise ValueError(f"centroids differ in shape: {source.shape} and {target.shape}")
  return jnp.square(source - target).mean()
