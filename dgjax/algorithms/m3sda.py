"""Moment matching for multi-source domain adaptation, with a pair of heads per source (M3SDA-beta)."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from dgjax.algorithms.ensembles import ensemble
from dgjax.algorithms.mcd import MCD
from dgjax.distributions import LogUniform
from dgjax.errors import UserError
from dgjax.losses.moments import OFFICIAL_SOURCES, moment_distance, moments, official_moment_distance


@dataclasses.dataclass(frozen=True, kw_only=True)
class M3SDA(MCD):
  """MCD with a pair of heads for each source domain; step A adds `moment_weight` times the distance of moments.

  A pair's cross-entropy is the mean over the batch's examples of its own domain. Cross-entropies, discrepancies and
  class balances are summed over pairs. The features whose moments are compared are the input of the heads. A domain
  that a batch lacks counts nothing in it.

  The paper has a pair for each source and the raw moments 1 and 2 (`raw=True`, `orders=2`). The released code has one
  pair for all sources, moments up to 5 of centred features, whose sums over domains have slips, and a weight of 0.0005.
  Here the pairs are the paper's; the orders, the centring and the weight are the code's. The distance is
  `moment_distance`, or with `official` the code's own. The latter needs four sources, as many images of each as of the
  target (`data.mixing=balanced`, `target_batch_size` a quarter of `batch_size`), and one batch on all devices
  (`parallel=jit`). If the domains of a batch are not of one size, the loss is NaN. The code passes each domain through
  the network separately, so that BatchNorm normalises each by itself; here all sources are one batch. The paper's vote,
  weighted by each source's accuracy, is left out: `prediction` is the mean of all heads' probabilities.

  Source: Peng et al., Moment matching for multi-source domain adaptation, ICCV 2019, section 4 and Eq. 1 and 4.

  Attributes:
    moment_weight: weight of the distance of moments.
    orders: number of moments, at least 1.
    raw: whether moments from the second on are E[x^k] (the paper's Eq. 1) rather than central moments.
    official: whether to use the released code's distance, slips included (`official_moment_distance`).
  """

  prediction: str = "prob_ens"
  moment_weight: float = 5e-4
  orders: int = 5
  raw: bool = False
  official: bool = False

  swept: ClassVar[tuple[str, ...]] = (*MCD.swept, "moment_weight")
  searched: ClassVar = {**MCD.searched, "moment_weight": LogUniform(5e-5, 5e-3)}

  def __post_init__(self):
    super().__post_init__()
    if self.orders < 1:
      raise UserError(f"algorithm.orders is {self.orders}: it must be at least 1")
    if self.official and self.raw:
      raise UserError("algorithm.raw and algorithm.official exclude each other: the released code centres its features")
    if self.official and self.domains != OFFICIAL_SOURCES:
      raise UserError(f"algorithm.official is for {OFFICIAL_SOURCES} source domains, and there are {self.domains}")

  @property
  def pairs(self):
    return self.domains

  def member(self, batch):
    return jax.nn.one_hot(batch["source"]["domain"], self.domains)

  def official_distance(self, source: jax.Array, target: jax.Array, domains: jax.Array) -> jax.Array:
    """`official_moment_distance` of features (S, d) and (T, d); the sources' domains are (S,)."""
    if len(source) != self.domains * len(target) or self.axis is not None:
      raise UserError(f"algorithm.official compares as many images of each source as of the target, under "
                      f"parallel=jit: set target_batch_size to {len(source) // self.domains}, and data.mixing to "
                      "'balanced'")
    by_domain = source[jnp.argsort(domains, stable=True)].reshape(self.domains, *target.shape)
    alike = (jnp.bincount(domains, length=self.domains) == len(target)).all()
    return jnp.where(alike, official_moment_distance(by_domain, target, self.orders), jnp.nan)

  def alignment(self, state, batch, source, target):
    if self.official:
      distance = self.official_distance(source.reshape(len(source), -1), target.reshape(len(target), -1),
                                        batch["source"]["domain"])
      return state.hparams["moment_weight"] * distance, {"moment_distance": distance}
    of_source, of_target = (
        moments(features.reshape(len(features), -1), member, self.orders, self.average, central=not self.raw)
        for features, member in ((source, self.member(batch)), (target, jnp.ones((len(target), 1)))))
    distance = moment_distance(of_source, of_target)
    return state.hparams["moment_weight"] * distance, {"moment_distance": distance}

  def outputs(self, state, images, domain=None):
    """The outputs of `MCD`, over all heads, and two more.

    "first_ens": the mean of the probabilities of each pair's first head. "known": the mean of the probabilities of the
    pair of the image's own domain (only with `domain`).
    """
    logits = self.head_logits(state, images)
    outputs = super().outputs(state, images, domain) | {"first_ens": ensemble(logits[::2])["prob_ens"]}
    if domain is not None:
      pairs = jnp.stack([ensemble(logits[i:i + 2])["prob_ens"] for i in range(0, len(logits), 2)])
      outputs["known"] = ensemble(pairs, domain)["known"]
    return outputs
