"""Representation self-challenging: mutes the features that speak most for the right class (Huang et al., ECCV 2020)."""

import dataclasses
import math

import jax
import jax.numpy as jnp

from dgjax.algorithms.base import Algorithm, accuracy
from dgjax.errors import UserError, nearest
from dgjax.losses.classification import cross_entropy

FORMS = ("channel", "original")
SPATIAL, CHANNELS = 3, 3.2  # of positions and of channels one in so many is muted, in the released code
MARGIN = 1e-4  # by which muting must lower the right class's probability, there


@dataclasses.dataclass(frozen=True, kw_only=True)
class RSC(Algorithm):
  """Mutes the parts of the last convolutional map to which the true class's logit is most sensitive.

  The form "channel" is that of RCL, section 5.1: a share r ~ U(0, 1) of the channels, drawn each step, is muted in
  every example. The form "original" is that of the released code: a third of the positions, or 10 of 32 channels (drawn
  for each batch), is muted in the share of examples whose class loses most probability by it. That share grows by
  epoch. In the paper it is constant, a third: `share=1/3`, `share_growth=0`. The code doubles the batch by mirrored
  copies; here that is left to augmentation.

  Scores come from the classifier in evaluation mode, as in the released code, and the mask is a constant. Draws and
  shares are over the whole batch; under pmap over a device's own part of it.

  Attributes:
    form: "channel" or "original".
    share: share of the examples that are challenged at the start, in the form "original".
    share_growth: what is added to `share` every `share_epochs` epochs.
    share_epochs: number of epochs between two additions of `share_growth`.
  """

  form: str = "channel"
  share: float = 0.3
  share_growth: float = 0.2
  share_epochs: float = 10.0

  def __post_init__(self):
    if self.form not in FORMS:
      raise UserError(f"algorithm.form is {self.form!r}{nearest(self.form, FORMS)}")
    if not (0 <= self.share <= 1 and self.share_growth >= 0 and self.share_epochs > 0):
      raise UserError("algorithm.share must be in [0, 1], share_growth at least 0 and share_epochs above 0")

  def loss(self, params, state, batch, key):
    labels, mask_key = batch["label"], jax.random.fold_in(key, 1)
    mute = self.mute_channels if self.form == "channel" else self.mute_original
    _, logits, batch_stats = self.forward_through(
        params, state, batch["image"], key, self.network.features,
        lambda features: features * mute(state, jax.lax.stop_gradient(features), labels, mask_key))
    loss = cross_entropy(logits, labels)
    return loss, ({"batch_stats": batch_stats}, {"loss": loss, "accuracy": accuracy(logits, labels)})

  def classify(self, state, features: jax.Array) -> jax.Array:
    """Logits of features in evaluation mode."""
    return self.evaluate(state, features, start=self.network.features)

  def sensitivity(self, state, features: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The gradient of the true classes' logits by the features, float32 of their shape, and the logits."""
    def right(features):
      logits = self.classify(state, features)
      return jnp.take_along_axis(logits, labels[:, None], 1).sum(), logits

    gradient, logits = jax.grad(right, has_aux=True)(features)
    return gradient.astype(jnp.float32), logits

  def mute_channels(self, state, features: jax.Array, labels: jax.Array, key: jax.Array) -> jax.Array:
    """The mask of the form "channel": (B, 1, 1, channels) of zeros and ones."""
    gradient, _ = self.sensitivity(state, features, labels)
    channels = features.shape[-1]
    count = jnp.minimum(jnp.floor(jax.random.uniform(key) * channels), channels - 1)
    return (ranks(gradient.mean((1, 2), keepdims=True)) >= count).astype(features.dtype)

  def mute_original(self, state, features: jax.Array, labels: jax.Array, key: jax.Array) -> jax.Array:
    """The mask of the form "original": (B, height, width, channels) of zeros and ones."""
    gradient, logits = self.sensitivity(state, features, labels)
    batch, height, width, channels = features.shape
    weights = gradient.mean((1, 2))
    positions = jnp.einsum("bhwc,bc->bhw", features.astype(jnp.float32), weights).reshape(batch, -1)
    spatial = ~above(positions, math.ceil(height * width / SPATIAL)).reshape(batch, height, width, 1)
    channel = ~above(weights, math.ceil(channels / CHANNELS)).reshape(batch, 1, 1, channels)
    mask = jnp.where(jax.random.bernoulli(key), jnp.broadcast_to(spatial, features.shape),
                     jnp.broadcast_to(channel, features.shape))

    muted = self.classify(state, features * mask.astype(features.dtype))
    before, after = (jnp.take_along_axis(jax.nn.softmax(x), labels[:, None], 1)[:, 0] for x in (logits, muted))
    drop = jnp.maximum(0, before - after - MARGIN)
    epochs = jnp.floor(state.step / self.optimizer.steps_per_epoch)
    share = jnp.minimum(1, self.share + self.share_growth * jnp.floor(epochs / self.share_epochs))
    chosen = above(drop[None], jnp.round(batch * share).astype(jnp.int32))[0]
    return (mask | ~chosen.reshape(batch, 1, 1, 1)).astype(features.dtype)


def ranks(scores: jax.Array) -> jax.Array:
  """The rank of every score in descending order along the last axis, from 0. Of equal scores the first comes first."""
  return jnp.argsort(jnp.argsort(-scores, axis=-1), axis=-1)


def above(scores: jax.Array, count: jax.Array | int) -> jax.Array:
  """Which scores are strictly above the one of rank `count`: the `count` largest, but for ties.

  Args:
    scores: (rows, n) float.
    count: int scalar; more than n - 1 is taken as n - 1.

  Returns:
    (rows, n) bool.
  """
  place = jnp.minimum(count, scores.shape[-1] - 1)
  threshold = jnp.take(jnp.sort(scores, axis=-1, descending=True), place, axis=-1)
  return scores > threshold[:, None]
