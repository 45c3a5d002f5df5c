import grain
import numpy as np
import pytest

from dgjax.data.shuffle import Order, permutation


@pytest.mark.parametrize("length", [1, 2, 7, 256, 3900, 70_000])
@pytest.mark.parametrize("seed", [0, 5, 2**32 - 1])
def test_orders_are_grains(length, seed):
  grains = grain.MapDataset.range(length).seed(seed).shuffle().repeat()
  positions = np.concatenate([np.arange(20), np.arange(20) + max(length - 10, 0), 7 * length + np.arange(20)])
  assert Order(length, seed)[positions].tolist() == [grains[int(position)] for position in positions]


def test_shapes_and_epochs():
  order = Order(30, 0)
  positions = np.arange(180).reshape(2, 3, 30)
  assert order[positions].shape == (2, 3, 30)
  epochs = order[positions].reshape(6, 30)
  assert (np.sort(epochs, axis=1) == np.arange(30)).all()
  assert len({epoch.tobytes() for epoch in epochs}) == 6
  assert order[positions[0, 0, :3]].tolist() == epochs[0, :3].tolist()


@pytest.mark.parametrize("length", [65_536, 65_537])
def test_lengths_around_a_whole_block(length):
  assert (np.sort(permutation(length, 3)) == np.arange(length)).all()
