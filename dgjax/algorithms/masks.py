"""Domain-specific masks: logits per source domain, and the gates made from them."""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from dgjax.errors import UserError, nearest
from dgjax.models.network import Network

TRAINING = ("sample", "greedy", "soft")
INITS = ("uniform", "constant")
Masks = Mapping[str, jax.Array]  # stage name -> (masks, channels of the stage's input)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskSettings:
  """Where masks are, how they start, and how they act in training.

  Attributes:
    placement: which stages' inputs are masked. The network gives the names their meaning: "paper" (ResNet: layer4, fc)
      or "code" (as in the released runs: layer3, layer4, fc).
    init: "uniform": logits are drawn from U(0, 1) (DMG, section 7.5); or "constant": all logits are `init_value`.
    init_value: the initial logit under "constant".
    training: "sample": each example draws its own mask (DMG, section 3.2); "greedy": masks are thresholded at 0.5;
      "soft": inputs are multiplied by the probabilities.
  """

  placement: str = "paper"
  init: str = "uniform"
  init_value: float = 1.0
  training: str = "sample"

  def __post_init__(self):
    for key, known in (("init", INITS), ("training", TRAINING)):
      if getattr(self, key) not in known:
        raise UserError(f"algorithm.masks.{key} is {getattr(self, key)!r}{nearest(getattr(self, key), known)}")


def masked_stages(network: Network, placement: str) -> tuple[str, ...]:
  """The stages whose inputs carry a mask.

  Raises:
    UserError: the network has no such placement.
  """
  if placement not in network.masked:
    raise UserError(f"algorithm.masks.placement is {placement!r}{nearest(placement, network.masked)}")
  return tuple(network.masked[placement])


def init_logits(key: jax.Array, settings: MaskSettings, widths: Mapping[str, int], domains: int) -> Masks:
  """Mask logits of every masked stage.

  Args:
    key: typed PRNG key.
    settings: say how the logits start.
    widths: stage name -> channels of its input.
    domains: number p of source domains.

  Returns:
    stage name -> (p, channels) float32.
  """
  if settings.init == "constant":
    return {name: jnp.full((domains, width), settings.init_value, jnp.float32) for name, width in widths.items()}
  return {name: jax.random.uniform(jax.random.fold_in(key, i), (domains, width))
          for i, (name, width) in enumerate(sorted(widths.items()))}


def probabilities(logits: Masks) -> Masks:
  """Probability that a unit is on, m = sigmoid(logit); in (0, 1)."""
  return {name: jax.nn.sigmoid(value) for name, value in logits.items()}


def straight_through(hard: jax.Array, probs: jax.Array) -> jax.Array:
  """Exactly `hard` in value, `probs` in gradient (DMG, section 3.2)."""
  return jax.lax.stop_gradient(hard) + (probs - jax.lax.stop_gradient(probs))


def of_domain(masks: Masks, domain: jax.Array) -> Masks:
  """Each example's row of its own domain: stage name -> (B, channels), for `domain` (B,) int."""
  return {name: value[domain] for name, value in masks.items()}


def sampled(key: jax.Array, probs: Masks) -> Masks:
  """Bernoulli masks with the straight-through gradient. Each example draws its own in each stage.

  Args:
    key: typed PRNG key.
    probs: stage name -> (B, channels) in [0, 1].

  Returns:
    stage name -> (B, channels) of zeros and ones.
  """
  return {name: straight_through(jax.random.bernoulli(jax.random.fold_in(key, i), value).astype(value.dtype), value)
          for i, (name, value) in enumerate(sorted(probs.items()))}


def greedy(probs: Masks) -> Masks:
  """Masks thresholded at 0.5, with the straight-through gradient; same shapes as `probs`."""
  return {name: straight_through((value > 0.5).astype(value.dtype), value) for name, value in probs.items()}


def training_gates(key: jax.Array, settings: MaskSettings, probs: Masks, domain: jax.Array) -> Masks:
  """The gates of a training batch: stage name -> (B, channels).

  Args:
    key: this step's PRNG key.
    settings: `training` says how.
    probs: stage name -> (p, channels).
    domain: (B,) int, each example's source domain.
  """
  own = of_domain(probs, domain)
  if settings.training == "sample":
    return sampled(key, own)
  return greedy(own) if settings.training == "greedy" else own
