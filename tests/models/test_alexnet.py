"""What is AlexNet's own: its flattening, its dropout and its smallest image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dgjax.errors import UserError
from dgjax.models import alexnet, build, defaults, layers


def test_flattening_keeps_pytorchs_order():
  x = np.random.default_rng(0).normal(size=(2, 6, 6, 4)).astype(np.float32)
  flat = alexnet.Flatten().apply({}, x, False)
  for c, i, j in np.ndindex(4, 6, 6):
    np.testing.assert_array_equal(flat[:, c * 36 + i * 6 + j], x[:, i, j, c])
  assert alexnet.Flatten().apply({}, x[:, :2, :2], False).shape == (2, 4 * 36)


def test_dropout_drops_half_of_the_inputs_in_training_only():
  x = jnp.ones((4, 200))
  hidden = layers.Hidden(5, 0.5, jnp.float32)
  params = {"kernel": jnp.ones((200, 5)) / 200, "bias": jnp.zeros(5)}
  def run(train, layer=hidden, key=0):
    return layer.apply({"params": params}, x, train, rngs={"dropout": jax.random.key(key)})
  np.testing.assert_allclose(run(False), 1, rtol=1e-6)
  kept = run(True)[:, 0] / 2  # what is kept is scaled by two
  assert abs(kept - 0.5).max() < 0.15 and kept.std() > 0
  assert (run(True, key=1) != run(True)).any()
  np.testing.assert_array_equal(run(True, layers.Hidden(5, 0.0, jnp.float32)), run(False))
  rates = [build(defaults("alexnet"), 7, dropout=on).stages[2][1](name="classifier.1").dropout for on in (True, False)]
  assert rates == [0.5, 0.0]


def test_images_that_are_too_small_are_told():
  network = alexnet.alexnet(7)
  def init(side):
    return jax.eval_shape(lambda x: network.init(jax.random.key(0), x), jnp.zeros((1, side, side, 3)))
  init(63)
  with pytest.raises(UserError, match=r"at least 63x63 pixels, got 62x62: set data\.image_size"):
    init(62)
