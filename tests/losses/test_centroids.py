import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dgjax.errors import UserError
from dgjax.losses.centroids import class_means, move_centroids, semantic_distance

RNG = np.random.default_rng(0)
OLD, FEATURES = RNG.normal(size=(4, 3)).astype(np.float32), RNG.normal(size=(6, 3)).astype(np.float32)
LABELS = np.array([0, 2, 0, 2, 2, 3], np.int32)  # class 1 is absent


def expected(absent):
  moved = np.zeros_like(OLD)
  for k in range(4):
    members = [feature for feature, label in zip(FEATURES, LABELS, strict=True) if label == k]
    if members:
      moved[k] = 0.7 * OLD[k] + 0.3 * np.mean(members, axis=0)
    else:
      moved[k] = OLD[k] if absent == "keep" else 0.7 * OLD[k]
  return moved


@pytest.mark.parametrize("absent", ["keep", "shrink"])
def test_against_a_loop(absent):
  np.testing.assert_allclose(move_centroids(OLD, FEATURES, LABELS, absent=absent), expected(absent), rtol=1e-5)


def test_means_and_presence():
  means, present = class_means(FEATURES, LABELS, 4)
  np.testing.assert_allclose(means[2], FEATURES[[1, 3, 4]].mean(0), rtol=1e-5)
  assert present[:, 0].tolist() == [True, False, True, True] and not means[1].any()


def test_the_distance_is_a_mean_over_classes_and_units():
  other, total = OLD[::-1], 0.0
  for k in range(4):
    for unit in range(3):
      total += (OLD[k, unit] - other[k, unit]) ** 2 / 12
  np.testing.assert_allclose(semantic_distance(OLD, other), total, rtol=1e-5)
  assert semantic_distance(OLD, OLD) == 0


def test_gradient_flows_through_the_batch_alone():
  def loss(old, features):
    return move_centroids(old, features, LABELS).sum()

  by_old, by_features = jax.grad(loss, (0, 1))(OLD, FEATURES)
  assert not by_old.any()
  count = np.bincount(LABELS, minlength=4)[LABELS]
  np.testing.assert_allclose(by_features, np.broadcast_to(0.3 / count[:, None], (6, 3)), rtol=1e-5)


def test_wrong_arguments():
  with pytest.raises(UserError, match=r"algorithm.absent is 'keeps' \(did you mean 'keep'"):
    move_centroids(OLD, FEATURES, LABELS, absent="keeps")
  with pytest.raises(ValueError, match="need features"):
    class_means(jnp.zeros((4, 2)), jnp.zeros(3, int), 2)
  with pytest.raises(ValueError, match="differ in shape"):
    semantic_distance(OLD, OLD[:2])
