"""Layers with PyTorch's arithmetic: parameters and statistics in float32, computation in `dtype`.

Convolutions, pooling and matrix products go through `dgjax.ops`, where a platform's fast path is chosen.
"""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.nn import initializers

from dgjax import ops
from dgjax.errors import UserError

Initializer = Callable[..., jax.Array]

kaiming_normal: Initializer = initializers.variance_scaling(2.0, "fan_out", "normal")
"""He et al.'s initialisation for the backward pass, torchvision's choice for ResNets: N(0, 2 / fan_out)."""

uniform_fan_in: Initializer = initializers.variance_scaling(1 / 3, "fan_in", "uniform")
"""PyTorch's default for convolutions and linear layers: U(-1/sqrt(fan_in), 1/sqrt(fan_in))."""

small_normal: Initializer = initializers.normal(0.001)
"""N(0, 0.001^2), the "custom" last layer of DMG's released configurations."""

truncated_normal: Initializer = initializers.truncated_normal(0.1)
"""N(0, 0.1^2) within two deviations, every layer of CrossGrad's released code."""

wider_normal: Initializer = initializers.normal(0.01)
"""N(0, 0.01^2), the heads of DRT's released code. It draws their biases too, and BatchNorm's scales from
N(1, 0.01^2); here these are 0 and 1."""

HEAD_INITS: dict[str, Initializer] = {
    "uniform": uniform_fan_in, "normal": small_normal, "normal_0.01": wider_normal, "truncated": truncated_normal}
"""Initialisations of a last layer; all but "uniform" go with a zero bias."""


def uniform_bias(fan_in: int) -> Initializer:
  """PyTorch's default initialisation of a bias: U(-1/sqrt(fan_in), 1/sqrt(fan_in))."""
  bound = 1 / np.sqrt(fan_in)
  return lambda key, shape, dtype=jnp.float32: jax.random.uniform(key, shape, dtype, -bound, bound)


class Conv(nn.Module):
  """Two-dimensional convolution.

  Attributes:
    features: output channels.
    kernel_size: height and width of the kernel.
    strides: step in both directions.
    padding: zeros added on each side, or "SAME" for an output of the input's size.
    use_bias: whether to add a bias, drawn as PyTorch draws it.
    zero_bias: start the bias at zero instead.
    kernel_init: initialiser of the kernel (height, width, in, out).
    dtype: type of the computation and of the output.
  """

  features: int
  kernel_size: tuple[int, int] = (3, 3)
  strides: int = 1
  padding: int | str = 1
  use_bias: bool = False
  zero_bias: bool = False
  kernel_init: Initializer = kaiming_normal
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Convolves x (batch, height, width, in) to (batch, height', width', features)."""
    shape = (*self.kernel_size, x.shape[-1], self.features)
    kernel = self.param("kernel", self.kernel_init, shape)
    x = convolve(x, kernel, self.strides, self.padding, self.dtype)
    if self.use_bias:
      bias_init = initializers.zeros if self.zero_bias else uniform_bias(int(np.prod(shape[:-1])))
      bias = self.param("bias", bias_init, (self.features,))
      x = add_bias(x, bias)
    return x


class BlockConv(nn.Module):
  """A convolution that gets its own input and that of its block. Its kernel is the same for every example.

  A convolution that replaces it (`models.dynamic`) may choose its kernel by the block's input.

  Attributes:
    features: output channels.
    side: of the kernel, odd; zeros keep the map's size.
    strides: step in both directions.
    kernel_init: initialiser of the kernel (side, side, in, features).
    dtype: type of the computation and of the output.
  """

  features: int
  side: int = 3
  strides: int = 1
  kernel_init: Initializer = kaiming_normal
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, h: jax.Array, block_input: jax.Array) -> jax.Array:
    """Convolves h (batch, height, width, in); `block_input` is for convolutions that depend on the example."""
    conv = Conv(self.features, (self.side, self.side), self.strides, self.side // 2, kernel_init=self.kernel_init,
                dtype=self.dtype)
    nn.share_scope(self, conv)
    return conv(h)


class ConvTranspose(nn.Module):
  """Transposed two-dimensional convolution, PyTorch's ConvTranspose2d and its initialisation.

  Attributes:
    features: output channels.
    kernel_size: side of the kernel.
    strides: factor by which the map grows.
    padding: cells taken off each side.
    dtype: type of the computation and of the output.
  """

  features: int
  kernel_size: int
  strides: int
  padding: int
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps x (batch, n, ..., in) to (batch, (n - 1) * strides + kernel_size - 2 * padding, ..., features)."""
    # The kernel is that of the convolution whose transpose this is: PyTorch's fan-in is then its fan-in too.
    shape = (self.kernel_size, self.kernel_size, self.features, x.shape[-1])
    kernel = self.param("kernel", uniform_fan_in, shape).astype(self.dtype)
    bias = self.param("bias", uniform_bias(int(np.prod(shape[:-1]))), (self.features,))

    def convolution(y):
      return ops.conv_general_dilated(
          y, kernel, window_strides=(self.strides, self.strides), padding=((self.padding, self.padding),) * 2,
          dimension_numbers=("NHWC", "HWIO", "NHWC"))

    size = ((n - 1) * self.strides + self.kernel_size - 2 * self.padding for n in x.shape[1:3])
    output = jax.ShapeDtypeStruct((x.shape[0], *size, self.features), self.dtype)
    y, = jax.linear_transpose(convolution, output)(x.astype(self.dtype))
    return add_bias(y, bias)


class Dense(nn.Module):
  """Linear layer.

  Attributes:
    features: output units.
    kernel_init: initialiser of the kernel (in, out).
    use_bias: whether to add a bias, drawn as PyTorch draws it.
    zero_bias: start the bias at zero instead.
    dtype: type of the computation and of the output.
  """

  features: int
  kernel_init: Initializer = uniform_fan_in
  use_bias: bool = True
  zero_bias: bool = False
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps x (batch, in) to (batch, features)."""
    kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features))
    y = ops.dot_general(x.astype(self.dtype), kernel.astype(self.dtype), (((1,), (0,)), ((), ())))
    if self.use_bias:
      bias_init = initializers.zeros if self.zero_bias else uniform_bias(x.shape[-1])
      y = add_bias(y, self.param("bias", bias_init, (self.features,)))
    return y


class Hidden(nn.Module):
  """Dropout, linear layer, ReLU. A gate on this stage multiplies before the dropout.

  Attributes:
    features: output units.
    dropout: share of inputs dropped in training, by the "dropout" stream of keys.
    dtype: type of the computation.
  """

  features: int
  dropout: float
  dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """Maps (batch, in) to (batch, features)."""
    x = nn.Dropout(self.dropout)(x, deterministic=not train)
    dense = Dense(self.features, dtype=self.dtype)
    nn.share_scope(self, dense)
    return nn.relu(dense(x))


class Head(nn.Module):
  """Last stage: float32 logits, whatever the type of the network below.

  Attributes:
    num_classes: number of logits.
    head_init: a key of HEAD_INITS.
    relu: whether a ReLU follows, so that no logit is below 0.
  """

  num_classes: int
  head_init: str = "uniform"
  relu: bool = False

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """Maps features x (batch, in) to logits (batch, num_classes), float32."""
    dense = Dense(self.num_classes, HEAD_INITS[self.head_init], zero_bias=self.head_init != "uniform")
    nn.share_scope(self, dense)
    return nn.relu(dense(x)) if self.relu else dense(x)


class BatchNorm(nn.Module):
  """Batch normalisation with PyTorch's semantics.

  The batch is normalised by its biased variance, and the running variance takes the unbiased one. Flax keeps the biased
  one; in a ResNet's last stage at small images the two differ by several percent. Mean and variance are computed in two
  passes in float32, because E[x^2] - E[x]^2 cancels if a channel's mean is large against its deviation, and is no
  faster. Under jit with a sharded batch the statistics are those of the global batch. Under pmap they are a device's
  own, and are averaged outside.

  Attributes:
    momentum: weight of the old running statistics (PyTorch's momentum is one minus this).
    epsilon: added to the variance.
    dtype: type of the output; statistics and their arithmetic are float32.
  """

  momentum: float = 0.9
  epsilon: float = 1e-5
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """Normalises x (batch, ..., channels); if `train`, by the batch's statistics, which update the running ones."""
    shape = x.shape[-1:]
    scale = self.param("scale", initializers.ones, shape)
    bias = self.param("bias", initializers.zeros, shape)
    running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32)
    running_var = self.variable("batch_stats", "var", jnp.ones, shape, jnp.float32)
    wide = (1,) * (x.ndim - 1) + shape
    axes = tuple(range(x.ndim - 1))
    x = x.astype(jnp.float32)
    if train:
      mean = x.mean(axes)
      centred = x - mean.reshape(wide)
      var = jnp.square(centred).mean(axes)
      if not self.is_initializing():
        count = x.size // x.shape[-1]
        unbiased = var * (count / max(count - 1, 1))
        running_mean.value = self.momentum * running_mean.value + (1 - self.momentum) * mean
        running_var.value = self.momentum * running_var.value + (1 - self.momentum) * unbiased
    else:
      centred, var = x - running_mean.value.reshape(wide), running_var.value
    factor = scale * jax.lax.rsqrt(var + self.epsilon)
    return (centred * factor.reshape(wide) + bias.reshape(wide)).astype(self.dtype)


class Bottleneck(nn.Module):
  """Linear layer, BatchNorm and ReLU before the head, as in networks for adaptation; float32.

  Source: Transfer-Learning-Library's bottleneck, whose linear layer starts as PyTorch's does.

  Attributes:
    features: output units.
  """

  features: int

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """Maps (batch, in) to (batch, features)."""
    return nn.relu(BatchNorm(name="bn")(Dense(self.features, name="linear")(x), train))


class MaxPool(nn.Module):
  """Max-pooling as a stage.

  Attributes:
    window: side of the square window.
    strides: step in both directions.
    padding: cells added on each side, which never win.
  """

  window: int
  strides: int
  padding: int = 0

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """Pools x (batch, height, width, channels)."""
    return max_pool(x, self.window, self.strides, self.padding)


class GlobalPool(nn.Module):
  """Average over space, as a stage; always float32, since features feed float32 heads and losses."""

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """Averages x (batch, height, width, channels) to (batch, channels), float32."""
    return x.astype(jnp.float32).mean((1, 2))


def convolve(x: jax.Array, kernel: jax.Array, strides: int, padding: int | str, dtype: Any) -> jax.Array:
  """Convolves x (batch, height, width, in) with a kernel (height, width, in, out), in `dtype`.

  Args:
    x: images or maps.
    kernel: what to convolve with.
    strides: step in both directions.
    padding: zeros added on each side, or "SAME" for an output of the input's size.
    dtype: type of the computation and of the result.

  Returns:
    (batch, height', width', out).
  """
  steps = (strides, strides)
  if isinstance(padding, str):
    pads = jax.lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], steps, padding)
  else:
    pads = [(padding, padding)] * 2
  return ops.conv_general_dilated(x.astype(dtype), kernel.astype(dtype), window_strides=steps, padding=tuple(pads),
                                  dimension_numbers=("NHWC", "HWIO", "NHWC"))


def add_bias(x: jax.Array, bias: jax.Array) -> jax.Array:
  """x (..., features) + bias (features,), of x's dtype. The sum, and so the bias's gradient, is in float32.

  A sum over all positions in bfloat16 would lose bits, and XLA's CPU backend computes it at a tenth of the speed.
  """
  wide = jnp.promote_types(x.dtype, jnp.float32)
  return (x.astype(wide) + bias.reshape((1,) * (x.ndim - 1) + bias.shape)).astype(x.dtype)


def max_pool(x: jax.Array, window: int, strides: int, padding: int = 0) -> jax.Array:
  """Maximum over square windows of x (batch, height, width, channels), symmetrically padded."""
  return ops.max_pool(x, (window, window), (strides, strides), ((padding, padding), (padding, padding)))


def check_left(stage: str | None, size: Sequence[int], more: int) -> None:
  """Refuses images that are too small for a stage.

  Args:
    stage: the stage's name.
    size: height and width of the stage's input.
    more: how many rows, or columns if they are fewer, the input has beyond what one output position needs.

  Raises:
    UserError: `more` is negative.
  """
  if more < 0:
    raise UserError(f"stage {stage}: nothing is left of an input of {size[0]}x{size[1]}: "
                    "set data.image_size higher, or take another model.name")


def adaptive_average_pool(x: jax.Array, size: int) -> jax.Array:
  """Averages x onto a grid of size x size cells, PyTorch's AdaptiveAvgPool2d.

  Cell i covers rows floor(i * height / size) to ceil((i + 1) * height / size): a smaller input is spread out.

  Args:
    x: (batch, height, width, channels).
    size: side of the grid.

  Returns:
    (batch, size, size, channels) of x's type.
  """
  def weights(length):
    i = np.arange(size)[:, None]
    j = np.arange(length)[None]
    inside = (j >= i * length // size) & (j < -(-(i + 1) * length // size))
    return (inside / inside.sum(1, keepdims=True)).astype(np.float32)

  if x.shape[1:3] == (size, size):
    return x
  # Written as two products with constant matrices: cells overlap when the sizes do not divide.
  return jnp.einsum("ih,jw,bhwc->bijc", weights(x.shape[1]), weights(x.shape[2]), x.astype(jnp.float32),
                    precision="highest").astype(x.dtype)
