import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dgjax import models
from dgjax.errors import UserError
from dgjax.models import lenet


def shapes(name, images, classes=10):
  """Name of each stage -> shape of its input, and the number of parameters."""
  network = models.build(models.defaults(name), classes)
  x = jax.ShapeDtypeStruct(images, jnp.float32)
  variables = jax.eval_shape(lambda x: network.init(jax.random.key(0), x), x)
  inside = {stage: jax.eval_shape(lambda v, x, stage=stage: network.apply(v, x, stop=stage), variables, x).shape[1:]
            for stage in network.names[1:]}
  return network, inside, sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


def test_lenet3_is_the_papers():
  network, inside, parameters = shapes("lenet3", (2, 32, 32, 1), 36)
  assert inside == {"conv2": (16, 16, 32), "conv3": (8, 8, 64), "flatten": (4, 4, 128), "fc1": (2048,), "fc2": (128,),
                    "fc3": (64,)}
  convs = 25 * (32 + 32 * 64 + 64 * 128) + 32 + 64 + 128
  assert parameters == convs + 2049 * 128 + 129 * 64 + 65 * 36
  assert (network.features, network.embedding) == ("flatten", "fc2")


def test_lenet4_is_the_released_dans():
  network, inside, _ = shapes("lenet4", (2, 32, 32, 1))
  assert inside["flatten"] == (2, 2, 128) and inside["fc2"] == inside["fc3"] == (128,)
  assert network.embedding == "fc2"


def test_convnet2_is_motiians():
  _, inside, parameters = shapes("convnet2", (2, 16, 16, 1))
  assert inside == {"conv2": (14, 14, 32), "flatten": (6, 6, 32), "fc1": (1152,), "fc2": (120,), "fc3": (84,)}
  assert parameters == 10 * 32 + 289 * 32 + 1153 * 120 + 121 * 84 + 85 * 10


def test_kwsnet_keeps_maps_of_even_kernels():
  """98 frames of 40 coefficients, 20x8 and 10x4 kernels padded as TensorFlow pads them."""
  _, inside, parameters = shapes("kwsnet", (2, 98, 40, 1), 12)
  assert inside == {"conv2": (49, 20, 64), "flatten": (49, 20, 64), "fc": (49 * 20 * 64,)}
  assert parameters == 161 * 64 + (40 * 64 + 1) * 64 + (62720 + 1) * 12


def test_resnet2_halves_once():
  _, inside, _ = shapes("resnet2", (2, 16, 16, 1))
  assert inside == {"layer1": (16, 16, 32), "layer2": (16, 16, 32), "avgpool": (8, 8, 64), "fc": (64,)}


def test_conv_pool_against_loops():
  """SAME padding of an even kernel puts the odd zero after; then ReLU and the maximum of 2x2."""
  module = lenet.ConvPool(2, (4, 3))
  rng = np.random.default_rng(0)
  x = rng.normal(size=(1, 4, 4, 3)).astype(np.float32)
  variables = module.init(jax.random.key(0), x, False)
  kernel, bias = np.asarray(variables["params"]["kernel"]), rng.normal(size=2).astype(np.float32)
  got = module.apply({"params": {"kernel": kernel, "bias": bias}}, x, False)
  padded = np.pad(x, ((0, 0), (1, 2), (1, 1), (0, 0)))
  conv = np.zeros((4, 4, 2))
  for i, j, o in np.ndindex(conv.shape):
    conv[i, j, o] = max((padded[0, i:i + 4, j:j + 3] * kernel[..., o]).sum() + bias[o], 0)
  for i, j, o in np.ndindex(2, 2, 2):
    np.testing.assert_allclose(got[0, i, j, o], conv[2 * i:2 * i + 2, 2 * j:2 * j + 2, o].max(), rtol=1e-5)


def test_initialisation_is_a_cut_normal_with_zero_bias():
  network = models.build({**models.defaults("lenet3"), "head_init": "truncated"}, 36)
  params = network.init(jax.random.key(0), jnp.zeros((1, 32, 32, 1)))["params"]
  for stage in params.values():
    assert not stage["bias"].any() and np.abs(stage["kernel"]).max() <= 0.2 + 1e-6
    assert 0.08 < stage["kernel"].std() < 0.096  # 0.88 of 0.1, what the cut leaves


def test_dropout_is_where_the_papers_have_it(random_variables):
  x = jnp.ones((2, 16, 16, 1))
  for name in ("lenet3", "convnet2", "kwsnet"):
    on, off = (models.build(models.defaults(name), 10, dropout=dropout) for dropout in (True, False))
    variables = random_variables(on, 16, channels=1)

    def run(network, variables, train):
      return network.apply(variables, x, train=train, rngs={"dropout": jax.random.key(1)})

    got = {(network, train): jax.jit(functools.partial(run, network, train=train))(variables)
           for network, train in ((on, True), (on, False), (off, True))}
    assert not np.array_equal(got[on, True], got[on, False])
    np.testing.assert_array_equal(got[off, True], got[on, False])


def test_an_image_too_small_is_named():
  network = models.build(models.defaults("lenet3"), 10)
  with pytest.raises(UserError, match=r"stage conv3: nothing is left of an input of 1x1: set data\.image_size"):
    jax.eval_shape(lambda: network.init(jax.random.key(0), jnp.zeros((1, 4, 4, 1))))
