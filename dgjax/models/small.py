"""Convolutional networks with BatchNorm for digits and other small images."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from dgjax.models import layers
from dgjax.models.lenet import Flatten
from dgjax.models.network import Constructor, Network, Stage


class ConvStage(nn.Module):
  """Convolution, BatchNorm, ReLU and max-pooling.

  Attributes:
    features: output channels.
    dtype: type of the computation.
    block_conv: constructor of the convolution, called as in `models.resnet`; the stage is its block.
    pool: window, stride and padding of the pooling; None: there is none.
  """

  features: int
  dtype: Any = jnp.float32
  block_conv: Constructor = layers.BlockConv
  pool: tuple[int, int, int] | None = (2, 2, 0)

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """Maps (batch, height, width, channels) to (batch, height', width', features).

    Raises:
      UserError: nothing of the image would be left.
    """
    if self.pool:
      layers.check_left(self.name, x.shape[1:3], min(x.shape[1:3]) + 2 * self.pool[2] - self.pool[0])
    x = self.block_conv(self.features, dtype=self.dtype, name="conv")(x, x)
    x = nn.relu(layers.BatchNorm(dtype=self.dtype, name="bn")(x, train))
    return layers.max_pool(x, *self.pool) if self.pool else x


class HiddenNorm(nn.Module):
  """Linear layer, BatchNorm, ReLU, dropout.

  Attributes:
    features: output units.
    dropout: share of outputs dropped in training, by the "dropout" stream of keys.
    dtype: type of the computation.
  """

  features: int
  dropout: float = 0.0
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """Maps (batch, in) to (batch, features)."""
    x = layers.Dense(self.features, dtype=self.dtype, name="dense")(x)
    x = nn.relu(layers.BatchNorm(dtype=self.dtype, name="bn")(x, train))
    return nn.Dropout(self.dropout)(x, deterministic=not train)


def smallnet(num_classes: int, *, dtype: Any = jnp.float32, head_init: str = "uniform",
             block_conv: Constructor = layers.BlockConv, widths: tuple[int, int, int] = (16, 32, 64)) -> Network:
  """Builds the network for digits: three convolutional stages, global average, one linear layer.

  Masks sit as in DMG's larger networks: on the input of the last convolutional stage and on that of the
  linear layer ("paper"); "code" adds the stage before.

  Args:
    num_classes: number of logits.
    dtype: type of the computation; parameters, statistics and logits are float32.
    head_init: initialisation of fc, a key of `layers.HEAD_INITS`.
    block_conv: constructor of the convolutions, see `models.resnet`; a stage is a block.
    widths: output channels of the three stages.

  Returns:
    The network, for inputs of at least 8x8.
  """
  convs: list[Stage] = [(f"conv{i}", partial(ConvStage, width, dtype, block_conv)) for i, width in enumerate(widths, 1)]
  head: list[Stage] = [("pool", layers.GlobalPool), ("fc", partial(layers.Head, num_classes, head_init))]
  return Network((*convs, *head), {"paper": ("conv3", "fc"), "code": ("conv2", "conv3", "fc")}, "pool",
                 "conv3/conv/kernel")


def digitnet(num_classes: int, *, dtype: Any = jnp.float32, head_init: str = "uniform", dropout: bool = True,
             block_conv: Constructor = layers.BlockConv,
             widths: tuple[int, int, int, int, int] = (64, 64, 128, 3072, 2048)) -> Network:
  """Builds the network that adaptation between digits is measured with, made for images of 32x32.

  Three 5x5 convolutions, the first two with 3x3 pooling by 2, then 3072 units with dropout 0.5 and 2048 units, each
  with BatchNorm and ReLU; logits. Layers start as PyTorch's do. The convolutions have no bias, which BatchNorm would
  take away again. Masks sit on the inputs of the linear layers, as in AlexNet (DMG). The embedding is the 2048
  units; classifiers that have the last hidden layer to themselves, as MCD's, start at fc2.

  Args:
    num_classes: number of logits.
    dtype: type of the computation; parameters, statistics and logits are float32.
    head_init: initialisation of fc3, a key of `layers.HEAD_INITS`.
    dropout: whether the dropout layer is on in training.
    block_conv: constructor of the convolutions, see `models.resnet`; a stage is a block.
    widths: channels of the convolutions and units of the hidden layers.

  Returns:
    The network, for images of any size (the first linear layer grows with it).

  Source: DRT, section 4.1 (LeNet, a residual on each convolution); sizes from the released code of M3SDA (Peng et
    al., ICCV 2019) and MCD (Saito et al., CVPR 2018), since DRT gives none.
  """
  conv = partial(ConvStage, dtype=dtype, block_conv=partial(block_conv, side=5, kernel_init=layers.uniform_fan_in))
  pools = ((3, 2, 1), (3, 2, 1), None)
  stages: list[Stage] = [(f"conv{i}", partial(conv, width, pool=pool))
                         for i, (width, pool) in enumerate(zip(widths[:3], pools, strict=True), 1)]
  stages += [("flatten", Flatten), ("fc1", partial(HiddenNorm, widths[3], 0.5 * dropout, dtype)),
             ("fc2", partial(HiddenNorm, widths[4], dtype=dtype)),
             ("fc3", partial(layers.Head, num_classes, head_init))]
  masked = ("fc1", "fc2", "fc3")
  return Network(tuple(stages), {"paper": masked, "code": masked}, "flatten", "conv3/conv/kernel", "fc3")


def digitnet_small(num_classes: int, *, dtype: Any = jnp.float32, head_init: str = "uniform", dropout: bool = True,
                   block_conv: Constructor = layers.BlockConv) -> Network:
  """Builds `digitnet` at a quarter of its widths, a sixteenth of its work, for runs on a CPU; in no paper.

  Args and Returns: as of `digitnet`.
  """
  return digitnet(num_classes, dtype=dtype, head_init=head_init, dropout=dropout, block_conv=block_conv,
                  widths=(16, 16, 32, 768, 512))
