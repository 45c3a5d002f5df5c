import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from dgjax.losses.moments import moment_distance, moments, official_moment_distance

RNG = np.random.default_rng(0)
X = (RNG.normal(size=(9, 3)) + 1).astype(np.float32)
T = (RNG.normal(size=(5, 3)) - 1).astype(np.float32)
DOMAINS = np.array([0, 2, 1, 0, 2, 0, 1, 1, 2])
MEMBER = np.eye(3, dtype=np.float32)[DOMAINS]
EVERYONE = np.ones((5, 1), np.float32)


def loop_moments(rows, orders, central=True):
  """Order by order and unit by unit."""
  out = np.zeros((orders, rows.shape[1]))
  for u in range(rows.shape[1]):
    mean = sum(rows[:, u]) / len(rows)
    out[0, u] = mean
    for k in range(2, orders + 1):
      out[k - 1, u] = sum((x - mean * central) ** k for x in rows[:, u]) / len(rows)
  return out


def loop_distance(x, domains, t, orders):
  names = sorted(set(domains.tolist()))
  sources, target = [loop_moments(x[domains == d], orders) for d in names], loop_moments(t, orders)
  total = 0.0
  for k in range(orders):
    total += sum(np.linalg.norm(s[k] - target[k]) for s in sources) / len(sources)
    pairs = [(i, j) for i in range(len(sources)) for j in range(i + 1, len(sources))]
    if pairs:
      total += sum(np.linalg.norm(sources[i][k] - sources[j][k]) for i, j in pairs) / len(pairs)
  return total


def distance(x, t, member=MEMBER, orders=5):
  return moment_distance(moments(x, member, orders), moments(t, EVERYONE, orders))


@pytest.mark.parametrize("orders,central", [(1, True), (2, True), (5, True), (2, False), (5, False)])
def test_moments_against_loops(orders, central):
  got, present = moments(X, MEMBER, orders, central=central)
  assert got.shape == (orders, 3, 3) and present.tolist() == [1, 1, 1]
  for d in range(3):
    np.testing.assert_allclose(got[:, d], loop_moments(X[d == DOMAINS].astype(np.float64), orders, central), rtol=1e-4,
                               atol=1e-5)


@pytest.mark.parametrize("orders", [1, 2, 5])
def test_distance_against_loops(orders):
  expected = loop_distance(X.astype(np.float64), DOMAINS, T.astype(np.float64), orders)
  np.testing.assert_allclose(distance(X, T, orders=orders), expected, rtol=1e-4)


def test_a_domain_without_examples_is_left_out():
  domains = np.where(DOMAINS == 1, 0, DOMAINS)
  expected = loop_distance(X.astype(np.float64), domains, T.astype(np.float64), 5)
  np.testing.assert_allclose(distance(X, T, np.eye(3, dtype=np.float32)[domains]), expected, rtol=1e-4)


def test_one_source_has_the_target_alone_to_compare_with():
  expected = loop_distance(X.astype(np.float64), np.zeros(9), T.astype(np.float64), 2)
  np.testing.assert_allclose(distance(X, T, np.ones((9, 1), np.float32), 2), expected, rtol=1e-4)


def test_equal_domains_have_a_finite_gradient():
  value, gradient = jax.value_and_grad(lambda x: distance(x, x[:5]))(jnp.ones((9, 3)))
  assert value < 1e-4 and np.isfinite(gradient).all()


def test_over_devices_it_is_that_of_the_whole_batch():
  mean = lambda tree: jax.lax.pmean(tree, "data")  # noqa: E731
  halves, member = X[:8].reshape(2, 4, 3), MEMBER[:8].reshape(2, 4, 3)
  got, present = jax.vmap(lambda x, m: moments(x, m, 3, mean), axis_name="data")(halves, member)
  expected, _ = moments(X[:8], MEMBER[:8], 3)
  np.testing.assert_allclose(got[0], expected, atol=1e-5)
  assert present[1].tolist() == [1, 1, 1]


def test_gradients():
  check_grads(lambda x, t: distance(x, t, orders=3), (X, T), order=1, modes=["rev"], atol=2e-2, rtol=2e-2, eps=1e-2)


def test_shapes_are_checked():
  with pytest.raises(ValueError, match=r"\(9, 3\), \(5, 1\)"):
    moments(X, EVERYONE, 2)
  with pytest.raises(ValueError, match="orders is 0"):
    moments(X, MEMBER, 0)
  with pytest.raises(ValueError, match=r"\(2, 3, 3\), \(3, 1, 3\)"):
    moment_distance(moments(X, MEMBER, 2), moments(T, EVERYONE, 3))


def test_the_released_codes_distance_against_loops():
  """Pair by pair: the fourth source is not centred, averaged or raised; it meets the second twice, the third never."""
  rng = np.random.default_rng(3)
  s, t = rng.normal(size=(4, 6, 3)) + np.arange(4).reshape(4, 1, 1), rng.normal(size=(6, 3))
  total = 0.0
  for k in (1, 2, 3):
    def part(x, k=k):
      x = x - x.mean(0)
      return x if k == 1 else np.tile((x**k).mean(0), (6, 1))
    a, b, c, target = part(s[0]), part(s[1]), part(s[2]), part(t)
    for x, y in ((a, target), (b, target), (c, target), (a, b), (a, c), (b, c)):
      total += np.sqrt(((x - y) ** 2).sum() / (1 if k == 1 else 6))  # of means once, not once an example
    for y in (target, a, b, b):
      total += np.sqrt(((s[3] - y) ** 2).sum())
  got = official_moment_distance(s.astype(np.float32), t.astype(np.float32), 3)
  np.testing.assert_allclose(got, total / 6, rtol=1e-5)
  with pytest.raises(ValueError, match=r"need sources \(4, B, units\)"):
    official_moment_distance(s[:3], t)
