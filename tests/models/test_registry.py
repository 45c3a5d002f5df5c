"""Every network of the registry, by shapes alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dgjax import models, ops
from dgjax.errors import UserError
from dgjax.models import layers

FACTS = {  # parameters with 1000 classes as torchvision counts them; channels of the masked inputs (DMG)
    "alexnet": (61_100_840, {"classifier.1": 9216, "classifier.4": 4096, "classifier.6": 4096}),
    "convnet2": (None, {"fc1": 28800, "fc2": 120, "fc3": 84}),
    "digitnet": (None, {"fc1": 32_768, "fc2": 3072, "fc3": 2048}),
    "digitnet_small": (None, {"fc1": 8192, "fc2": 768, "fc3": 512}),
    "kwsnet": (None, {"fc": 65536}),
    "lenet3": (None, {"fc1": 8192, "fc2": 128, "fc3": 64}),
    "lenet4": (None, {"fc1": 2048, "fc2": 128, "fc3": 128, "fc4": 64}),
    "resnet2": (None, {"layer1": 32, "layer2": 32, "fc": 64}),
    "mnistnet": (24_436_584, {"fc1": 21_632, "fc2": 1024, "fc3": 1024}),  # of 64 pixels; counted by hand
    "resnet18": (11_689_512, {"layer3": 128, "layer4": 256, "fc": 512}),
    "resnet34": (21_797_672, {"layer3": 128, "layer4": 256, "fc": 512}),
    "resnet50": (25_557_032, {"layer3": 512, "layer4": 1024, "fc": 2048}),
    "resnet101": (44_549_160, {"layer3": 512, "layer4": 1024, "fc": 2048}),
    "smallnet": (None, {"conv2": 16, "conv3": 32, "fc": 64}),
}


def shapes(network, images, **arguments):
  """Shapes of the variables and of the output for float32 `images`."""
  def run(x):
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    return network.init_with_output(keys, x, **arguments)
  output, variables = jax.eval_shape(run, jax.ShapeDtypeStruct(images, jnp.float32))
  return variables, output


@pytest.mark.parametrize("name", models.NETWORKS)
def test_shapes_types_and_placements(name):
  parameters, channels = FACTS[name]
  network = models.build({**models.defaults(name), "dtype": "bfloat16"}, 1000)
  variables, logits = shapes(network, (2, 64, 64, 3), train=True)
  assert (logits.shape, logits.dtype) == ((2, 1000), jnp.float32)
  assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
  if parameters:
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == parameters
  assert set(network.masked) == {"paper", "code"}
  assert set(network.masked["paper"]) <= set(network.masked["code"]) == set(channels)
  features = shapes(network, (2, 64, 64, 3), stop=network.features)[1].shape
  assert len(features) == 4
  kernel = variables["params"]
  for part in network.features_kernel.split("/"):
    kernel = kernel[part]
  assert len(kernel.shape) == 4 and kernel.shape[-1] == features[-1]
  for stage, count in channels.items():
    assert shapes(network, (2, 64, 64, 3), stop=stage)[1].shape[-1] == count


def test_every_layer_goes_through_ops(monkeypatch):
  calls = {"conv_general_dilated": 0, "dot_general": 0, "max_pool": 0}

  def count(function, original):
    def counted(*args, **kwargs):
      calls[function] += 1
      return original(*args, **kwargs)
    monkeypatch.setattr(ops, function, counted)

  for function in calls:
    count(function, getattr(ops, function))
  shapes(models.build(models.defaults("resnet50"), 7), (2, 64, 64, 3))
  assert calls == {"conv_general_dilated": 53, "dot_general": 1, "max_pool": 1}
  shapes(models.build(models.defaults("alexnet"), 7), (2, 64, 64, 3))
  assert calls == {"conv_general_dilated": 58, "dot_general": 4, "max_pool": 4}


def test_settings_are_checked():
  config = models.defaults("resnet18")
  for key, wrong, message in (("name", "resnet20", r"unknown network 'resnet20' in config.model.name.*resnet"),
                              ("dtype", "bfloat", r"model.dtype.*did you mean 'bfloat16'"),
                              ("head_init", "norm", r"model.head_init.*did you mean 'normal'")):
    with pytest.raises(UserError, match=message):
      models.build({**config, key: wrong}, 7)
  with pytest.raises(UserError, match="did you mean 'alexnet'"):
    models.defaults("alexnett")
  head = models.build({**config, "head_init": "normal"}, 7).stages[-1][1](name="fc")
  assert isinstance(head, layers.Head) and head.head_init == "normal"


def test_logits_through_a_relu():
  x = np.random.default_rng(0).normal(size=(3, 16, 16, 3)).astype(np.float32)
  plain, cut = (models.build({**models.defaults("smallnet"), "relu_logits": relu}, 7) for relu in (False, True))
  variables = plain.init(jax.random.key(0), x)
  logits = plain.apply(variables, x)
  assert (logits < 0).any()
  np.testing.assert_array_equal(cut.apply(variables, x), np.maximum(logits, 0))


def test_a_bottleneck_before_the_last_stage():
  network = models.build({**models.defaults("smallnet"), "bottleneck": 24}, 7)
  assert network.names[-2:] == ("bottleneck", "fc") and network.embedding == "fc"
  variables = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((2, 16, 16, 3)))
  params = variables["params"]
  assert params["bottleneck"]["linear"]["kernel"].shape == (64, 24) and params["fc"]["kernel"].shape == (24, 7)
  assert variables["batch_stats"]["bottleneck"]["bn"]["mean"].shape == (24,)
