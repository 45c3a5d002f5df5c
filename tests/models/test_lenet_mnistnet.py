"""The MNIST network of RCL against its arithmetic, and its sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dgjax.errors import UserError
from dgjax.models import lenet


def variables_of(side, draw):
  network = lenet.mnistnet(10)
  return network, draw(network, side)


@pytest.mark.parametrize("side, features", [(28, 2048), (32, 3200), (16, 128)])
def test_features_of_every_size(side, features, random_variables):
  network, variables = variables_of(side, random_variables)
  images = jnp.zeros((2, side, side, 3))
  assert jax.eval_shape(lambda: network.apply(variables, images, stop="flatten")).shape[-1] == 128
  assert jax.eval_shape(lambda: network.apply(variables, images, stop="fc1")).shape == (2, features)
  assert jax.eval_shape(lambda: network.apply(variables, images)).shape == (2, 10)


def test_the_pass_is_convolutions_pools_and_products(random_variables):
  network, variables = variables_of(16, random_variables)
  params = jax.tree.map(lambda x: np.asarray(x, np.float64), variables["params"])
  images = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype(np.float32)
  x = images.astype(np.float64)
  for name in ("conv1", "conv2"):
    kernel, side = params[name]["kernel"], x.shape[1] - 4
    y = np.stack([np.stack([np.tensordot(x[:, i:i + 5, j:j + 5], kernel, 3) for j in range(side)], 1)
                  for i in range(side)], 1) + params[name]["bias"]
    y = np.maximum(y, 0)
    x = np.stack([np.stack([y[:, i:i + 2, j:j + 2].max((1, 2)) for j in range(0, side - 1, 2)], 1)
                  for i in range(0, side - 1, 2)], 1)
  np.testing.assert_allclose(network.apply(variables, images, stop="flatten"), x, rtol=1e-3, atol=1e-3)
  x = x.reshape(2, -1)
  for name in ("fc1", "fc2", "fc3"):
    x = x @ params[name]["kernel"] + params[name]["bias"]
    x = x if name == "fc3" else np.maximum(x, 0)
  np.testing.assert_allclose(network.apply(variables, images), x, rtol=1e-3, atol=1e-3)


def test_layers_start_as_pytorchs():
  params = jax.jit(lenet.mnistnet(10).init)(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))["params"]
  for name, fan_in in (("conv1", 75), ("conv2", 1600), ("fc1", 3200), ("fc2", 1024), ("fc3", 1024)):
    for leaf in params[name].values():
      assert 0.7 / np.sqrt(fan_in) < np.abs(leaf).max() <= 1 / np.sqrt(fan_in)
    np.testing.assert_allclose(params[name]["kernel"].std(), 1 / np.sqrt(3 * fan_in), rtol=0.05)


@pytest.mark.parametrize("side", [15, 9, 4])
def test_images_that_are_too_small_are_told(side):
  with pytest.raises(UserError, match=r"nothing is left of an input of .*: set data\.image_size"):
    jax.eval_shape(lambda: lenet.mnistnet(10).init(jax.random.key(0), jnp.zeros((1, side, side, 3))))
