import grain
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dgjax.checkpoint import Checkpoints


def state(value):
  return {"w": jnp.full((3,), float(value)), "key": jax.random.key(value)}


@pytest.fixture
def iterator():
  return iter(grain.MapDataset.range(100).to_iter_dataset())


def test_keeps_the_newest_and_the_best(tmp_path, iterator):
  with Checkpoints(tmp_path) as checkpoints:
    for step, best in [(1, 1), (2, 2), (3, 2), (4, 2)]:
      next(iterator)
      checkpoints.save(step, state(step), iterator, {"step": step}, best)
  assert sorted(int(p.name) for p in tmp_path.iterdir() if p.name.isdigit()) == [2, 4]
  with Checkpoints(tmp_path) as checkpoints:  # a restart keeps them too
    checkpoints.save(5, state(5), iterator, {}, best=2)
    np.testing.assert_array_equal(checkpoints.restore_state(2, state(0))["w"], np.full(3, 2.0))
  assert sorted(int(p.name) for p in tmp_path.iterdir() if p.name.isdigit()) == [2, 5]


def test_the_best_may_be_one_saved_before_that_was_known(tmp_path, iterator):
  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(1, state(1), iterator, {}, best=1)
    checkpoints.save(2, state(2), iterator, {}, best=1)  # stopped while it was being evaluated
  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(2, state(2), iterator, {}, best=2)  # evaluated after all
    checkpoints.save(3, state(3), iterator, {}, best=2)
  assert sorted(int(p.name) for p in tmp_path.iterdir() if p.name.isdigit()) == [2, 3]


def test_restores_state_key_position_and_progress(tmp_path, iterator):
  for _ in range(7):
    next(iterator)
  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(1, state(42), iterator, {"selection": {"last": {"step": 1}}})
  other = iter(grain.MapDataset.range(100).to_iter_dataset())
  with Checkpoints(tmp_path) as checkpoints:
    assert checkpoints.latest == 1
    restored, progress = checkpoints.restore(1, state(0), other)
  assert progress == {"selection": {"last": {"step": 1}}}
  assert next(other) == 7
  assert jax.random.uniform(restored["key"]) == jax.random.uniform(jax.random.key(42))


def test_a_state_may_be_donated_once_save_returns(tmp_path, iterator):
  overwrite = jax.jit(lambda w: w + 1, donate_argnums=0)
  with Checkpoints(tmp_path) as checkpoints:
    w = jnp.zeros(2_000_000)
    checkpoints.save(1, {"w": w}, iterator, {})
    for _ in range(5):
      w = overwrite(w)
    np.testing.assert_array_equal(checkpoints.restore_state(1, {"w": jnp.ones(2_000_000)})["w"], np.zeros(2_000_000))


def test_a_step_saved_already_is_left_alone(tmp_path, iterator):
  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(1, state(1), iterator, {})
    checkpoints.save(1, state(2), iterator, {})
    np.testing.assert_array_equal(checkpoints.restore_state(1, state(0))["w"], np.ones(3))


def test_an_empty_folder_has_none(tmp_path):
  with Checkpoints(tmp_path) as checkpoints:
    assert checkpoints.latest is None
