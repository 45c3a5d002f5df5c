"""ResNet-18, -34, -50 and -101 (He et al., 2016) in torchvision's layout and names.

Stages: conv1 (convolution, BatchNorm, ReLU), maxpool, layer1 ... layer4, avgpool, fc.

Convolutions and norms are constructor arguments:
- `norm(dtype=, name=)` is called as `norm(h, train)`;
- `conv(features, kernel_size=, strides=, padding=, dtype=, name=)` makes the stem, the 1x1 and the
  downsampling convolutions, and is called as `conv(h)`;
- `block_conv(features, strides=, dtype=, name=)` makes the 3x3 convolutions of every block, and is called
  as `block_conv(h, x)` with its own input h and the *input x of its block*. A convolution whose kernel depends
  on the example (`models.dynamic`) chooses it by x; the default, `layers.BlockConv`, has one kernel for all.
"""

from functools import partial
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from dgjax.models import layers
from dgjax.models.network import Constructor, Network, Stage

MASKED = {"paper": ("layer4", "fc"), "code": ("layer3", "layer4", "fc")}
"""Where DMG's masks sit: DMG, section 4.1, and the released commands."""


class Block(nn.Module):
  """What both kinds of block share: the constructors of layers, and the shortcut.

  Attributes:
    features: channels of the 3x3 convolutions.
    strides: step of the block.
    conv, block_conv, norm: constructors of layers, see the module's documentation.
    last: name of the block's last convolution.
  """

  features: int
  strides: int
  conv: Constructor
  block_conv: Constructor
  norm: Constructor

  last: ClassVar[str]

  def shortcut(self, x: jax.Array, channels: int, train: bool) -> jax.Array:
    """The block's input, projected if the block changes its shape."""
    if self.strides == 1 and x.shape[-1] == channels:
      return x
    x = self.conv(channels, kernel_size=(1, 1), strides=self.strides, padding=0, name="downsample.0")(x)
    return self.norm(name="downsample.1")(x, train)


class BasicBlock(Block):
  """Two 3x3 convolutions (ResNet-18, -34)."""

  last = "conv2"

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """Maps (batch, height, width, channels) to (batch, height / strides, width / strides, features)."""
    h = self.block_conv(self.features, strides=self.strides, name="conv1")(x, x)
    h = nn.relu(self.norm(name="bn1")(h, train))
    h = self.block_conv(self.features, name="conv2")(h, x)
    h = self.norm(name="bn2")(h, train)
    return nn.relu(h + self.shortcut(x, self.features, train))


class Bottleneck(Block):
  """1x1, 3x3 (with the stride, as torchvision has it) and 1x1 convolution (ResNet-50, -101)."""

  last = "conv3"

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """Maps (batch, height, width, channels) to (batch, height / strides, width / strides, 4 * features)."""
    pointwise = partial(self.conv, kernel_size=(1, 1), padding=0)
    h = nn.relu(self.norm(name="bn1")(pointwise(self.features, name="conv1")(x), train))
    h = self.block_conv(self.features, strides=self.strides, name="conv2")(h, x)
    h = nn.relu(self.norm(name="bn2")(h, train))
    h = self.norm(name="bn3")(pointwise(4 * self.features, name="conv3")(h), train)
    return nn.relu(h + self.shortcut(x, 4 * self.features, train))


class Stem(nn.Module):
  """First stage: a convolution, 7x7 with stride 2 in the published networks; norm, ReLU.

  Attributes:
    conv, norm: constructors of layers, see the module's documentation.
    features: output channels.
    side: of the kernel.
    strides: step in both directions.
  """

  conv: Constructor
  norm: Constructor
  features: int = 64
  side: int = 7
  strides: int = 2

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """Maps images (batch, height, width, channels) to (batch, height / strides, width / strides, features)."""
    x = self.conv(self.features, kernel_size=(self.side, self.side), strides=self.strides, padding=self.side // 2,
                  name="conv1")(x)
    return nn.relu(self.norm(name="bn1")(x, train))


class Layer(nn.Module):
  """A stage of several blocks. The first may have a stride.

  Attributes:
    blocks: number of blocks.
    block: constructor of a block that takes `strides` and `name`.
    strides: stride of the first block.
  """

  blocks: int
  block: Constructor
  strides: int

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """Runs the blocks in order."""
    for i in range(self.blocks):
      x = self.block(strides=self.strides if i == 0 else 1, name=str(i))(x, train)
    return x


def resnet(block: type[Block], blocks: tuple[int, int, int, int], num_classes: int, *,
           dtype: Any = jnp.float32, head_init: str = "uniform", conv: Constructor = layers.Conv,
           block_conv: Constructor = layers.BlockConv, norm: Constructor = layers.BatchNorm) -> Network:
  """Builds a residual network.

  Args:
    block: BasicBlock or Bottleneck.
    blocks: number of blocks in layer1 to layer4.
    num_classes: number of logits.
    dtype: type of the computation; parameters, statistics and logits are float32.
    head_init: initialisation of fc, a key of `layers.HEAD_INITS`.
    conv, block_conv, norm: constructors of layers, see the module's documentation.

  Returns:
    The network, with DMG's placements "paper" and "code".
  """
  conv, block_conv, norm = (partial(make, dtype=dtype) for make in (conv, block_conv, norm))
  stages: list[Stage] = [
      ("conv1", partial(Stem, conv, norm)), ("maxpool", partial(layers.MaxPool, 3, 2, 1))]
  for i, count in enumerate(blocks):
    make = partial(block, features=64 * 2**i, conv=conv, block_conv=block_conv, norm=norm)
    stages.append((f"layer{i + 1}", partial(Layer, count, make, 2 if i else 1)))
  stages += [("avgpool", layers.GlobalPool), ("fc", partial(layers.Head, num_classes, head_init))]
  return Network(tuple(stages), MASKED, "avgpool", f"layer4/{blocks[-1] - 1}/{block.last}/kernel")


def resnet2(num_classes: int, *, dtype: Any = jnp.float32, head_init: str = "uniform",
            block_conv: Constructor = layers.BlockConv) -> Network:
  """Builds a residual network of two basic blocks for small images: 32 channels, then 64 at half the size.

  CrossGrad reports a "2-block ResNet" and gives no sizes, so the sizes are ours. Nothing is pooled before the blocks.

  Args:
    num_classes: number of logits.
    dtype: type of the computation; parameters, statistics and logits are float32.
    head_init: initialisation of fc, a key of `layers.HEAD_INITS`.
    block_conv: constructor of the blocks' 3x3 convolutions, see the module's documentation.

  Returns:
    The network, whose masks sit on the inputs of layer2 and fc.

  Source: CrossGrad, section 4.1, Table 5.
  """
  conv, block_conv, norm = (partial(make, dtype=dtype) for make in (layers.Conv, block_conv, layers.BatchNorm))
  block = partial(BasicBlock, conv=conv, block_conv=block_conv, norm=norm)
  stages: tuple[Stage, ...] = (
      ("conv1", partial(Stem, conv, norm, 32, 3, 1)),
      ("layer1", partial(Layer, 1, partial(block, features=32), 1)),
      ("layer2", partial(Layer, 1, partial(block, features=64), 2)),
      ("avgpool", layers.GlobalPool), ("fc", partial(layers.Head, num_classes, head_init)))
  return Network(stages, {"paper": ("layer2", "fc"), "code": ("layer1", "layer2", "fc")}, "avgpool",
                 "layer2/0/conv2/kernel")


resnet18 = partial(resnet, BasicBlock, (2, 2, 2, 2))
resnet34 = partial(resnet, BasicBlock, (3, 4, 6, 3))
resnet50 = partial(resnet, Bottleneck, (3, 4, 6, 3))
resnet101 = partial(resnet, Bottleneck, (3, 4, 23, 3))
