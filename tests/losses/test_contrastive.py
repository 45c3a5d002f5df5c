import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jax.test_util import check_grads

from dgjax.errors import UserError
from dgjax.losses.contrastive import POOLINGS, REDUCTIONS, RESCALES, min_max, neighbours, reverse_contrastive

LABELS = np.array([0, 1, 0, 2, 1, 0, 1, 3], np.int32)  # classes 2 and 3 have one example each


def features(seed=0, rows=8, scale=1.0):
  return (scale * np.random.default_rng(seed).normal(size=(rows, 2, 3, 4)) + 0.5).astype(np.float32)


def loop_min_max(x, rescale):
  x, out = x.astype(np.float64), np.empty(x.shape)
  for row, column, channel in np.ndindex(x.shape[1:]):
    values = {"batch": x, "channel": x[..., channel], "feature": x[:, row, column, channel]}[rescale]
    low, high = values.min(), values.max()
    for i in range(len(x)):
      out[i, row, column, channel] = (x[i, row, column, channel] - low) / (high - low + 1e-8)
  return out


def loop_loss(x, labels, margin, rescale="batch", reduction="sum"):
  """Algorithm 1, example by example; also which examples are pushed, and from where."""
  x = loop_min_max(x, rescale).reshape(len(x), -1)
  distance = lambda a, b: np.abs(x[a] - x[b]).sum() / (x.shape[1] if reduction == "mean" else 1)  # noqa: E731
  total, pushed = 0.0, {}
  for a in range(len(x)):
    same = [(distance(a, b), b) for b in range(len(x)) if b != a and labels[b] == labels[a]]
    others = [distance(a, b) for b in range(len(x)) if labels[b] != labels[a]]
    if same and (margin == np.inf or not others or min(same)[0] < margin * min(others)):
      total -= min(same)[0]
      pushed[a] = min(same)[1]
  return total / len(x), pushed


@pytest.mark.parametrize("rescale", RESCALES)
def test_min_max_spans_the_unit_interval(rescale):
  x = features()
  np.testing.assert_allclose(min_max(x, rescale), loop_min_max(x, rescale), atol=1e-6)


@pytest.mark.parametrize("rescale", RESCALES)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_loss_is_algorithm_1(rescale, reduction):
  x = features()
  counts = set()
  for margin in (0.0, 0.7, 0.9, 1.0, 1.1, np.inf):
    expected, pushed = loop_loss(x, LABELS, margin, rescale, reduction)
    counts.add(len(pushed))
    found = reverse_contrastive(x, LABELS, margin, rescale=rescale, reduction=reduction)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
  assert {0, 6} < counts  # the margins tell examples apart; those alone in their class never count


def loop_pool(x, pooling):
  if pooling == "none":
    return x
  out = np.empty((len(x), 1, 1, x.shape[-1]), x.dtype)
  for i, channel in np.ndindex(len(x), x.shape[-1]):
    values = [x[i, row, column, channel] for row, column in np.ndindex(x.shape[1:3])]
    out[i, 0, 0, channel] = max(values) if pooling == "max" else sum(values) / len(values)
  return out


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("rescale", ["batch", "feature"])
def test_a_map_is_pooled_before_it_is_rescaled(pooling, rescale):
  """The readings of docs/decisions.md: a mean or maximum over positions, with one range or one for each channel."""
  x = features()
  for margin in (1.1, np.inf):
    expected, pushed = loop_loss(loop_pool(x, pooling), LABELS, margin, rescale)
    assert pushed or margin < np.inf
    found = reverse_contrastive(x, LABELS, margin, rescale=rescale, pooling=pooling)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_equal_neighbours_count_under_an_infinite_margin():
  """The nearest example of another class at distance 0: inf * 0 would not be a number."""
  x = np.array([[0.0, 0], [0, 0], [0, 1], [1, 1]], np.float32)
  labels = np.array([0, 1, 0, 1])
  assert loop_loss(x[:, None, None], labels, np.inf)[0] == pytest.approx(-1.5)
  value, gradient = jax.value_and_grad(lambda x: reverse_contrastive(x, labels, jnp.float32(np.inf)))(x)
  assert value == pytest.approx(-1.5) and np.isfinite(gradient).all()


def test_one_class_is_pushed_without_limit_and_classes_of_one_not_at_all():
  x = features()
  for labels, margin in ((np.zeros(8, np.int32), 0.5), (np.arange(8), np.inf)):
    np.testing.assert_allclose(reverse_contrastive(x, labels, margin), loop_loss(x, labels, margin)[0], rtol=1e-5)
  value, gradient = jax.value_and_grad(reverse_contrastive)(x, np.arange(8), np.inf)
  assert value == 0 and not gradient.any()


@pytest.mark.parametrize("rescale", RESCALES)
def test_features_that_are_all_equal_have_no_loss_and_no_gradient(rescale):
  value, gradient = jax.value_and_grad(lambda x: reverse_contrastive(x, LABELS, np.inf, rescale=rescale))(
      np.full((8, 2, 3, 4), 0.3, np.float32))
  assert value == 0 and not gradient.any()


def test_rounding_alone_tells_nothing_apart():
  """A background that all images share, but for the last bit: it does not move, and hides no real difference."""
  rng = np.random.default_rng(2)
  x = rng.uniform(0.2, 1.0, (8, 6)).astype(np.float32)
  x[:, 3:] = np.float32(0.5) + rng.choice([-1, 1], (8, 3)) * np.float32(6e-8)
  x[0, 0], x[1, 0] = 0, 2  # the range, apart from these
  gradient = jax.grad(lambda x: reverse_contrastive(x, LABELS, np.inf))(x)
  assert np.unique(x[:, 3:]).size > 1 and not gradient[:, 3:].any() and gradient[:, 1:3].any()


def test_gradient_is_of_the_chosen_pairs_with_the_positive_constant():
  """In closed form: the range by hand, the sign of the difference for the anchor alone."""
  x = features()
  _, pushed = loop_loss(x, LABELS, 1.1)
  rescaled, span = loop_min_max(x, "batch"), float(x.max() - x.min())
  direct = np.zeros(x.shape)
  for anchor, positive in pushed.items():
    direct[anchor] -= np.sign(rescaled[anchor] - rescaled[positive]) / len(x)
  expected = direct / span
  expected[np.unravel_index(x.argmin(), x.shape)] -= (direct * (1 - rescaled)).sum() / span
  expected[np.unravel_index(x.argmax(), x.shape)] -= (direct * rescaled).sum() / span
  gradient = jax.grad(lambda x: reverse_contrastive(x, LABELS, 1.1))(x)
  assert 0 < len(pushed) < 6
  np.testing.assert_allclose(gradient, expected, atol=1e-6)


@pytest.mark.parametrize("rescale", RESCALES)
def test_gradient_of_rescaling(rescale):
  weights = np.random.default_rng(1).normal(size=(8, 2, 3, 4)).astype(np.float32)
  check_grads(lambda x: (weights * min_max(x, rescale)).sum(), (features(),), order=1, modes=["rev"], atol=2e-2,
              rtol=2e-2, eps=1e-3)


def test_half_precision_features_are_compared_in_float32():
  x = jnp.asarray(features(), jnp.bfloat16)
  found = reverse_contrastive(x, LABELS, 1.0)
  assert found.dtype == jnp.float32
  np.testing.assert_allclose(found, reverse_contrastive(x.astype(jnp.float32), LABELS, 1.0))


def test_vmap_over_margins_and_features():
  margins, x = jnp.array([0.7, 1.0, jnp.inf]), jnp.stack([features(seed) for seed in range(3)])
  together = jax.vmap(lambda x, margin: reverse_contrastive(x, LABELS, margin))(x, margins)
  alone = [loop_loss(np.asarray(a), LABELS, m)[0] for a, m in zip(x, margins, strict=True)]
  np.testing.assert_allclose(together, alone, rtol=1e-5)


@pytest.mark.parametrize("devices", [1, 4])
def test_a_large_batch_is_compared_without_holding_all_differences(devices):
  """Also with the batch spread over devices, and with the neighbours of the whole batch."""
  rows, size = 64, 512
  x = jax.random.normal(jax.random.key(0), (rows, 1, 1, size))
  labels = jnp.arange(rows) % 5
  mesh = jax.make_mesh((devices,), ("data",), axis_types=(AxisType.Auto,))
  x, labels = jax.device_put((x, labels), NamedSharding(mesh, PartitionSpec("data")))
  compiled = jax.jit(jax.value_and_grad(lambda x, y: reverse_contrastive(x, y, jnp.inf))).lower(x, labels).compile()
  assert compiled.memory_analysis().temp_size_in_bytes < 16 * rows * size * 4 < rows * rows * size * 4
  found, _ = compiled(x, labels)
  np.testing.assert_allclose(found, loop_loss(np.asarray(x), np.asarray(labels), np.inf)[0], rtol=1e-5)


def test_neighbours_by_hand():
  x = jnp.array([[0.0], [1], [3], [10]])
  index, to_positive, to_negative = neighbours(x, jnp.array([0, 1, 0, 0]))
  assert index[0] == 2 and index[2] == 0 and index[3] == 2
  np.testing.assert_array_equal(to_positive, [3, np.inf, 3, 7])
  np.testing.assert_array_equal(to_negative, [1, 1, 2, 9])


def test_wrong_settings_and_shapes_are_told():
  with pytest.raises(UserError, match=r"'chanel' \(did you mean 'channel'\?\)"):
    reverse_contrastive(features(), LABELS, 1.0, rescale="chanel")
  with pytest.raises(UserError, match=r"'men' \(did you mean 'mean'\?\)"):
    reverse_contrastive(features(), LABELS, 1.0, reduction="men")
  with pytest.raises(UserError, match=r"'men' \(did you mean 'mean'\?\)"):
    reverse_contrastive(features(), LABELS, 1.0, pooling="men")
  with pytest.raises(ValueError, match="labels"):
    reverse_contrastive(features(), LABELS[:5], 1.0)
