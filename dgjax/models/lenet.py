"""Networks of a few convolutions and linear layers, without normalisation, that CrossGrad and RCL train."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.nn import initializers

from dgjax.models import layers
from dgjax.models.network import Network, Stage

glorot_uniform = initializers.glorot_uniform()


class ConvPool(nn.Module):
  """Convolution, ReLU, dropout and max-pooling, as a stage.

  Attributes:
    features: output channels.
    kernel_size: height and width of the kernel.
    padding: zeros added on each side, or "SAME".
    pool: side and stride of the pooling; 1: none.
    dropout: share of outputs dropped in training, before pooling, by the "dropout" stream of keys.
    kernel_init: initialiser of the kernel.
    zero_bias: start the bias at zero instead of as PyTorch draws it.
    dtype: type of the computation.
  """

  features: int
  kernel_size: tuple[int, int]
  padding: int | str = "SAME"
  pool: int = 2
  dropout: float = 0.0
  kernel_init: layers.Initializer = layers.truncated_normal
  zero_bias: bool = True
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """Maps (batch, height, width, channels) to (batch, height', width', features).

    Raises:
      UserError: nothing of the image would be left.
    """
    conv = layers.Conv(self.features, self.kernel_size, padding=self.padding, use_bias=True,
                       zero_bias=self.zero_bias, kernel_init=self.kernel_init, dtype=self.dtype)
    nn.share_scope(self, conv)
    taken = [0 if isinstance(self.padding, str) else k - 1 - 2 * self.padding for k in self.kernel_size]
    left = min(n - k for n, k in zip(x.shape[1:3], taken, strict=True))
    layers.check_left(self.name, x.shape[1:3], left - self.pool)
    x = nn.Dropout(self.dropout)(nn.relu(conv(x)), deterministic=not train)
    return layers.max_pool(x, self.pool, self.pool) if self.pool > 1 else x


class Flatten(nn.Module):
  """All positions and channels in one row, channels fastest; then dropout.

  Attributes:
    dropout: share dropped in training.
  """

  dropout: float = 0.0

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """Maps (batch, height, width, channels) to (batch, height * width * channels)."""
    return nn.Dropout(self.dropout)(x.reshape(x.shape[0], -1), deterministic=not train)


class Hidden(nn.Module):
  """Linear layer, ReLU, dropout.

  Attributes:
    features: output units.
    dropout: share of outputs dropped in training.
    kernel_init: initialiser of the kernel; the bias starts at zero.
    dtype: type of the computation.
  """

  features: int
  dropout: float = 0.0
  kernel_init: layers.Initializer = layers.truncated_normal
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """Maps (batch, in) to (batch, features)."""
    dense = layers.Dense(self.features, self.kernel_init, zero_bias=True, dtype=self.dtype)
    nn.share_scope(self, dense)
    return nn.Dropout(self.dropout)(nn.relu(dense(x)), deterministic=not train)


def _network(stages: list[Stage], embedding: str) -> Network:
  """A network whose linear layers' inputs are masked, as in AlexNet (DMG, section 4.1)."""
  names = [name for name, _ in stages]
  masked = tuple(names[names.index("flatten") + 1:])
  last = names[names.index("flatten") - 1]
  return Network(tuple(stages), {"paper": masked, "code": masked}, "flatten", f"{last}/kernel", embedding)


def lenet3(num_classes: int, *, dtype: Any = jnp.float32, head_init: str = "uniform", dropout: bool = True) -> Network:
  """Builds the LeNet of the fonts and handwriting experiments.

  5x5 convolutions of 32, 64 and 128 channels with ReLU and 2x2 pooling, then 128 units with dropout 0.5 (the
  embedding), 64 units, and logits. Every layer starts from a normal distribution of deviation 0.1, cut at two
  deviations, with a bias of 0; `head_init="truncated"` does so for the last. The released CrossGrad has a ReLU on the
  logits, its DAN has none; `model.relu_logits` chooses.

  Args:
    num_classes: number of logits.
    dtype: type of the computation; parameters and logits are float32.
    head_init: initialisation of fc3, a key of `layers.HEAD_INITS`.
    dropout: whether the dropout layer is on in training.

  Returns:
    The network, for images of at least 8x8.

  Source: CrossGrad, section 4 (three pooled convolutions, ReLU); sizes from the released code.
  """
  convs: list[Stage] = [(f"conv{i}", partial(ConvPool, width, (5, 5), dtype=dtype))
                        for i, width in enumerate((32, 64, 128), 1)]
  return _network([*convs, ("flatten", Flatten),
                   ("fc1", partial(Hidden, 128, 0.5 * dropout, dtype=dtype)), ("fc2", partial(Hidden, 64, dtype=dtype)),
                   ("fc3", partial(layers.Head, num_classes, head_init))], embedding="fc2")


def lenet4(num_classes: int, *, dtype: Any = jnp.float32, head_init: str = "uniform", dropout: bool = True) -> Network:
  """Builds the deeper LeNet of the released DAN: a fourth convolution of 128 channels and a second layer of 128 units.

  The code takes the discriminator's input from a layer of 128 units. There are two such layers; here it is the first.

  Args:
    num_classes, dtype, head_init, dropout: as of `lenet3`.

  Returns:
    The network, for images of at least 16x16.

  Source: CrossGrad's released code.
  """
  convs: list[Stage] = [(f"conv{i}", partial(ConvPool, width, (5, 5), dtype=dtype))
                        for i, width in enumerate((32, 64, 128, 128), 1)]
  wide = partial(Hidden, 128, 0.5 * dropout, dtype=dtype)
  return _network([*convs, ("flatten", Flatten), ("fc1", wide), ("fc2", wide),
                   ("fc3", partial(Hidden, 64, dtype=dtype)),
                   ("fc4", partial(layers.Head, num_classes, head_init))], embedding="fc2")


def convnet2(num_classes: int, *, dtype: Any = jnp.float32, head_init: str = "uniform",
             dropout: bool = True) -> Network:
  """Builds the network of the rotated-MNIST rows, made for images of 16x16.

  Two 3x3 convolutions of 32 channels without padding, pooling, dropout 0.25, 120 units, 84 units, dropout 0.5, logits;
  Glorot's initialisation.

  Args:
    num_classes, dtype, head_init: as of `lenet3`.
    dropout: whether the dropout layers are on in training.

  Returns:
    The network, for images of at least 6x6.

  Source: Motiian et al., Unified deep supervised domain adaptation and generalization, ICCV 2017, released code;
    CrossGrad, section 4.
  """
  conv = partial(ConvPool, 32, (3, 3), 0, kernel_init=glorot_uniform, dtype=dtype)
  hidden = partial(Hidden, kernel_init=glorot_uniform, dtype=dtype)
  return _network([("conv1", partial(conv, pool=1)), ("conv2", conv), ("flatten", partial(Flatten, 0.25 * dropout)),
                   ("fc1", partial(hidden, 120)), ("fc2", partial(hidden, 84, 0.5 * dropout)),
                   ("fc3", partial(layers.Head, num_classes, head_init))], embedding="fc3")


def kwsnet(num_classes: int, *, dtype: Any = jnp.float32, head_init: str = "uniform", dropout: bool = True) -> Network:
  """Builds the small-footprint keyword network, for maps of (98 frames, 40 coefficients, 1).

  Convolutions of 20x8 and 10x4 (frames x coefficients), 64 channels each, with ReLU and dropout 0.5; 2x2 pooling after
  the first; logits. Kernels start from a normal of deviation 0.01, cut at two.

  Args:
    num_classes, dtype, head_init: as of `lenet3`.
    dropout: whether the dropout layers are on in training.

  Returns:
    The network.

  Source: Sainath and Parada, Convolutional neural networks for small-footprint keyword spotting, Interspeech 2015, in
    the form of TensorFlow's speech-commands tutorial ("conv"), which CrossGrad names.
  """
  conv = partial(ConvPool, 64, dropout=0.5 * dropout, kernel_init=initializers.truncated_normal(0.01), dtype=dtype)
  return _network([("conv1", partial(conv, kernel_size=(20, 8))), ("conv2", partial(conv, kernel_size=(10, 4), pool=1)),
                   ("flatten", Flatten), ("fc", partial(layers.Head, num_classes, head_init))], embedding="fc")


def mnistnet(num_classes: int, *, dtype: Any = jnp.float32, head_init: str = "uniform") -> Network:
  """Builds the network of RCL's MNIST experiments (Duboudin et al. 2021, section 5.1), there taken from JiGen's.

  The paper separates the convolutions from the linear layers and states 128 channels between them. Sizes of kernels and
  layers are those of JiGen's released code, which pools after both convolutions. Layers start as PyTorch's do. Images
  of 32 pixels give 3200 features, images of 28 pixels 2048. Domain-specific masks are on the inputs of the linear
  layers, as in AlexNet.

  Args:
    num_classes: number of logits.
    dtype: type of the computation; parameters and logits are float32.
    head_init: initialisation of fc3, a key of `layers.HEAD_INITS`.

  Returns:
    The network, for images of at least 16x16 pixels.
  """
  conv = partial(ConvPool, kernel_size=(5, 5), padding=0, kernel_init=layers.uniform_fan_in, zero_bias=False,
                 dtype=dtype)
  linear = partial(layers.Hidden, 1024, 0.0, dtype)
  return _network([("conv1", partial(conv, 64)), ("conv2", partial(conv, 128)), ("flatten", Flatten), ("fc1", linear),
                   ("fc2", linear), ("fc3", partial(layers.Head, num_classes, head_init))], embedding="fc3")
