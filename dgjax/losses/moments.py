"""Distance of the moments of several domains' features."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

TINY = 1e-12  # inside square roots, whose slope at 0 is infinite
# The pairs of sources that the released code compares: one pair twice and one never.
OFFICIAL_SOURCES, OFFICIAL_PAIRS = 4, ((0, 1), (0, 2), (1, 2), (3, 0), (3, 1), (3, 1))


def moments(features: jax.Array, member: jax.Array, orders: int,
            average: Callable[[Any], Any] = lambda tree: tree, central: bool = True) -> tuple[jax.Array, jax.Array]:
  """Mean and higher moments of each unit over the examples of each domain.

  Args:
    features: (B, units) float.
    member: (B, domains) float, 1 where an example belongs to a domain, else 0.
    orders: number of moments, at least 1: the mean, then the moments 2, 3 and so on.
    average: a function of sums over the batch, such as the mean over devices that hold parts of it.
    central: whether moments from the second on are about the mean, E[(x - E x)^k]; else raw, E[x^k].

  Returns:
    (orders, domains, units) float32, 0 for a domain without examples; and (domains,) float32, 1 for domains that have
    examples.

  Raises:
    ValueError: the shapes do not fit, or `orders` is below 1.
  """
  if features.ndim != 2 or member.ndim != 2 or len(features) != len(member):
    raise ValueError(f"need features (batch, units) and member (batch, domains), not {features.shape}, {member.shape}")
  if orders < 1:
    raise ValueError(f"orders is {orders}: it must be at least 1")
  features = features.astype(jnp.promote_types(features.dtype, jnp.float32))
  counts = average(member.sum(0))
  share = member / jnp.where(counts > 0, counts, 1).reshape(1, -1)

  def mean(values):
    return average(jnp.matmul(share.T, values, precision="highest"))

  first = mean(features)
  about = features - jnp.matmul(member, first, precision="highest") if central else features
  return jnp.stack([first, *(mean(about**order) for order in range(2, orders + 1))]), (counts > 0).astype(jnp.float32)


def moment_distance(source: tuple[jax.Array, jax.Array], target: tuple[jax.Array, jax.Array]) -> jax.Array:
  """Sum over orders of the mean distance between sources and the target plus that between sources.

  With m_k(D) the moment of order k, a vector over units: sum_k [mean_i ||m_k(S_i) - m_k(T)|| +
  mean_{i<j} ||m_k(S_i) - m_k(S_j)||]. Domains without examples are left out of the means; a mean over nothing is 0.

  Args:
    source: what `moments` returns for N source domains.
    target: what it returns for one.

  Returns:
    () float32, at least 0.

  Raises:
    ValueError: the shapes do not fit.

  Source: Peng et al., Moment matching for multi-source domain adaptation, ICCV 2019, Eq. 1, with the raw moments E[x^k]
    of orders 1 and 2; `moments` says which moments and how many there are here. The released code, whose orders are 1
    to 5, computes something else: distances of matrices of paired examples in the place of the means, and some pairs
    twice or never.
  """
  (of_sources, present), (of_target, target_present) = source, target
  if of_sources.ndim != 3 or of_target.shape != (len(of_sources), 1, of_sources.shape[-1]):
    raise ValueError(f"need moments (orders, N, units) and (orders, 1, units), not {of_sources.shape}, "
                     f"{of_target.shape}")

  def distances(a, b):
    return jnp.sqrt(jnp.square(a - b).sum(-1) + TINY).sum(0)

  def mean(values, weights):
    total = weights.sum()
    return (values * weights).sum() / jnp.where(total > 0, total, 1)

  i, j = jnp.triu_indices(of_sources.shape[1], 1)
  return (mean(distances(of_sources, of_target), present * target_present)
          + mean(distances(of_sources[:, i], of_sources[:, j]), present[i] * present[j]))


def official_moment_distance(sources: jax.Array, target: jax.Array, orders: int = 5) -> jax.Array:
  """The distance of M3SDA's released code, written for Digit-Five, slips included, in place of `moment_distance`.

  The first three sources and the target are centred. Order 1 is the sum of the pairs' Frobenius distances, example by
  example. Orders from 2 on compare means of powers, except for the fourth source. Its features are neither centred nor
  raised to a power nor averaged: each example is compared with the other domain's means. The pairs are the four of a
  source and the target, and `OFFICIAL_PAIRS`. The sum over all pairs and orders is divided by 6.

  Args:
    sources: (4, B, units) float.
    target: (B, units) float.
    orders: how many, at least 1.

  Returns:
    () float32, at least 0.

  Raises:
    ValueError: the shapes do not fit, or `orders` is below 1.

  Source: Peng et al., Moment matching for multi-source domain adaptation, ICCV 2019, its released code for digits.
  """
  if sources.ndim != 3 or len(sources) != OFFICIAL_SOURCES or target.shape != sources.shape[1:]:
    raise ValueError(f"need sources ({OFFICIAL_SOURCES}, B, units) and target (B, units), not {sources.shape}, "
                     f"{target.shape}")
  if orders < 1:
    raise ValueError(f"orders is {orders}: it must be at least 1")
  sources, target = (x.astype(jnp.promote_types(x.dtype, jnp.float32)) for x in (sources, target))
  centre = lambda x: x - x.mean(0, keepdims=True)  # noqa: E731
  centred, last = [*map(centre, (*sources[:-1], target))], sources[-1]

  def of_order(k):
    powers = centred if k == 1 else [(x**k).mean(0, keepdims=True) for x in centred]
    domains = [*powers[:-1], last, powers[-1]]
    pairs = [*((i, OFFICIAL_SOURCES) for i in range(OFFICIAL_SOURCES)), *OFFICIAL_PAIRS]
    return sum(jnp.sqrt(jnp.square(domains[i] - domains[j]).sum() + TINY) for i, j in pairs)

  return sum((of_order(k) for k in range(1, orders + 1)), jnp.zeros(())) / 6
