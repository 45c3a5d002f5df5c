import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dgjax.errors import UserError
from dgjax.losses.permutation import all_permutations, shuffle_tiles


def loop_shuffle(images, orders, n):
  out = np.empty_like(images)
  height, width = images.shape[1] // n, images.shape[2] // n
  for image, order, result in zip(images, orders, out, strict=True):
    for place, tile in enumerate(order):
      (i, j), (k, m) = divmod(place, n), divmod(tile, n)
      result[i * height:(i + 1) * height, j * width:(j + 1) * width] = (
          image[k * height:(k + 1) * height, m * width:(m + 1) * width])
  return out


def test_all_24_orders_of_four_tiles():
  orders = all_permutations(4)
  assert orders.shape == (24, 4) and len({tuple(order) for order in orders}) == 24
  assert (np.sort(orders, 1) == np.arange(4)).all() and tuple(orders[0]) == (0, 1, 2, 3)


@pytest.mark.parametrize("n, size", [(1, (3, 5)), (2, (4, 6)), (3, (9, 3))])
def test_tiles_go_where_the_order_says(n, size):
  rng = np.random.default_rng(n)
  images = rng.normal(size=(5, *size, 2)).astype(np.float32)
  orders = np.stack([rng.permutation(n * n) for _ in range(5)]).astype(np.int32)
  shuffled = shuffle_tiles(jnp.asarray(images), jnp.asarray(orders))
  np.testing.assert_array_equal(shuffled, loop_shuffle(images, orders, n))
  back = shuffle_tiles(shuffled, jnp.asarray(np.argsort(orders, 1)))
  np.testing.assert_array_equal(back, images)


def test_gradient_goes_back_to_the_tiles_own_place():
  images = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4, 4, 1)), jnp.float32)
  orders = jnp.asarray(all_permutations(4)[[5, 17, 23]])
  weights = jnp.arange(48, dtype=jnp.float32).reshape(3, 4, 4, 1)
  gradient = jax.grad(lambda x: (weights * shuffle_tiles(x, orders)).sum())(images)
  np.testing.assert_array_equal(gradient, shuffle_tiles(weights, jnp.argsort(orders, 1)))


def test_sizes_that_do_not_divide_and_wrong_orders_are_told():
  with pytest.raises(UserError, match=r"5x4 pixels cannot be cut into 2x2 .* data\.image_size to a multiple of 2"):
    shuffle_tiles(jnp.zeros((1, 5, 4, 3)), jnp.zeros((1, 4), jnp.int32))
  for orders in ((2, 4), (1, 5)):
    with pytest.raises(ValueError, match="order"):
      shuffle_tiles(jnp.zeros((1, 4, 4, 3)), jnp.zeros(orders, jnp.int32))
