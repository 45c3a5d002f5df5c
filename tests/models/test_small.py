"""Networks for digits, by shapes."""

import jax
import jax.numpy as jnp
import pytest

from dgjax import models
from dgjax.errors import UserError


def inputs(name, images):
  """The network, its variables' shapes, and stage -> shape of its input."""
  network = models.build(models.defaults(name), 10)
  x = jax.ShapeDtypeStruct(images, jnp.float32)
  variables = jax.eval_shape(lambda x: network.init(jax.random.key(0), x), x)
  shapes = {stage: jax.eval_shape(lambda v, x, stage=stage: network.apply(v, x, stop=stage), variables, x).shape[1:]
            for stage in network.names[1:]}
  return network, variables, shapes


def test_digitnet_has_the_published_sizes():
  network, variables, shapes = inputs("digitnet", (2, 32, 32, 3))
  assert shapes == {"conv2": (16, 16, 64), "conv3": (8, 8, 64), "flatten": (8, 8, 128), "fc1": (8192,), "fc2": (3072,),
                    "fc3": (2048,)}
  assert (network.features, network.embedding) == ("flatten", "fc3")
  kernels = 25 * (3 * 64 + 64 * 64 + 64 * 128) + 8192 * 3072 + 3072 * 2048 + 2048 * 10
  others = 2 * (64 + 64 + 128 + 3072 + 2048) + 3072 + 2048 + 10  # BatchNorm, and the linear layers' biases
  assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == kernels + others


def test_digitnet_small_is_a_quarter_as_wide():
  wide, narrow = (inputs(name, (2, 32, 32, 3))[2] for name in ("digitnet", "digitnet_small"))
  assert {stage: (*shape[:-1], shape[-1] // 4) for stage, shape in wide.items()} == narrow


def test_images_of_which_nothing_is_left_are_refused():
  with pytest.raises(UserError, match=r"stage conv3: nothing is left of an input of 1x1: set data.image_size higher"):
    inputs("smallnet", (2, 4, 4, 3))
  assert inputs("digitnet_small", (2, 1, 1, 3))[2]["fc1"] == (32,)
