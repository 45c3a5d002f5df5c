"""A residual block against a NumPy loop, and convolutions that see the block's input."""

import flax.linen as nn
import jax
import numpy as np
import pytest

from dgjax.models import layers, resnet


def convolve(x, kernel, strides):
  """Convolution of one image (height, width, in) with zero padding that keeps its size, as loops."""
  side = kernel.shape[0]
  padded = np.pad(x, ((side // 2, side // 2), (side // 2, side // 2), (0, 0)))
  out = np.zeros((-(-x.shape[0] // strides), -(-x.shape[1] // strides), kernel.shape[3]))
  for i, j, c in np.ndindex(out.shape):
    for u, v, d in np.ndindex(kernel.shape[:3]):
      out[i, j, c] += padded[strides * i + u, strides * j + v, d] * kernel[u, v, d, c]
  return out


def normalise(x, params):
  """Normalisation of x (batch, height, width, channels) by its own statistics, as loops."""
  out = np.empty_like(x)
  for c in range(x.shape[-1]):
    values = x[..., c]
    mean = values.sum() / values.size
    var = ((values - mean) ** 2).sum() / values.size
    out[..., c] = (values - mean) / np.sqrt(var + 1e-5) * params["scale"][c] + params["bias"][c]
  return out


@pytest.mark.parametrize("block", [resnet.BasicBlock, resnet.Bottleneck])
def test_a_block_equals_loops(block):
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2, 5, 4, 3)).astype(np.float32)
  module = block(2, 2, layers.Conv, layers.BlockConv, layers.BatchNorm)
  shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), x, True))
  params = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes["params"])
  variables = {"params": params, "batch_stats": jax.tree.map(lambda leaf: np.ones(leaf.shape), shapes["batch_stats"])}

  def apply(conv, norm, h, strides):
    out = np.stack([convolve(image, params[conv]["kernel"], strides) for image in h])
    return normalise(out, params[norm])

  if block is resnet.BasicBlock:
    h = np.maximum(apply("conv1", "bn1", x, 2), 0)
    h = apply("conv2", "bn2", h, 1)
  else:
    h = np.maximum(apply("conv1", "bn1", x, 1), 0)
    h = np.maximum(apply("conv2", "bn2", h, 2), 0)
    h = apply("conv3", "bn3", h, 1)
  want = np.maximum(h + apply("downsample.0", "downsample.1", x, 2), 0)
  got, _ = jax.jit(lambda variables: module.apply(variables, x, True, mutable=["batch_stats"]))(variables)
  assert want.max() > 0.5
  np.testing.assert_allclose(got, want, atol=1e-4)


class InputWeighted(nn.Module):
  """A convolution scaled per example by the mean of its block's input."""

  features: int
  strides: int = 1
  dtype: type = np.float32

  @nn.compact
  def __call__(self, h, block_input):
    h = layers.Conv(self.features, strides=self.strides, dtype=self.dtype, name="static")(h)
    return h * block_input.mean((1, 2, 3), keepdims=True)


def test_block_convolutions_see_the_input_of_their_block(random_variables):
  network = resnet.resnet(resnet.BasicBlock, (1, 1, 1, 1), 3, block_conv=InputWeighted)
  x = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
  variables = random_variables(network, 32)
  assert set(variables["params"]["layer2"]["0"]) == {
      "conv1", "bn1", "conv2", "bn2", "downsample.0", "downsample.1"}
  assert set(variables["params"]["layer2"]["0"]["conv2"]) == {"static"}
  h = network.apply(variables, x, stop="layer1")
  weight = h.mean((1, 2, 3), keepdims=True)

  def conv(i, h):
    static = {"params": variables["params"]["layer1"]["0"][f"conv{i}"]["static"]}
    norm = {collection: tree["layer1"]["0"][f"bn{i}"] for collection, tree in variables.items()}
    return layers.BatchNorm().apply(norm, weight * layers.Conv(64).apply(static, h), False)

  want = nn.relu(h + conv(2, nn.relu(conv(1, h))))
  np.testing.assert_allclose(network.apply(variables, h, start="layer1", stop="layer2"), want, atol=1e-4)
