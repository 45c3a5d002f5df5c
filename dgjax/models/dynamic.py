"""Dynamic residual transfer: convolutions whose kernel depends on the example (Li et al., CVPR 2021; DRT).

A convolution's kernel is W(x) = W0 + dW(x): a static kernel and a residual that a light attention branch chooses by the
input of the block (Eq. 2):
- "channel": dW = L(x) W0, with L diagonal: a gain for every output channel (Eq. 3);
- "subspace": dW = sum_k pi_k(x) Phi_k, with K static matrices on the kernel's centre tap (Eq. 4);
- "both": the sum of the two (Eq. 5).

A network that takes `block_conv` becomes dynamic by `block_conv=constructor(...)`. In ResNets every 3x3 convolution of
a block is then dynamic. In networks for digits every convolution is, and the block's input is the convolution's own.
The paper's bottlenecks (ResNet-50, -101) have one such convolution each. Basic blocks, which the paper does not use,
have two, and both are dynamic. Stem, 1x1 and downsampling convolutions stay static, as in the paper.

The static kernel keeps its name. Everything new is under "dynamic" beside it, such as `layer1/0/conv2/dynamic/phi`. It
has the role "residuals" in `config.optimizer.roles`, and published static weights lack it.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.nn import initializers

from dgjax import ops
from dgjax.errors import UserError, nearest
from dgjax.models import layers
from dgjax.models.network import Constructor

VARIANTS = ("none", "channel", "subspace", "both")
RESIDUAL = "dynamic"
"""Name of the module that holds a convolution's residual, beside its static kernel."""
PATTERN = f"/{RESIDUAL}/"
"""Regular expression that finds the parameters of attention branches and the Phi in a path."""

GATES: dict[str, Callable[[jax.Array], jax.Array]] = {
    "sigmoid": lambda a: 1 + nn.sigmoid(a),
    "hard": lambda a: nn.relu6(a + 3) / 3,
}
"""The gain 1 + L of an output channel. "sigmoid" is the paper's (section 3.3), in (1, 2); "hard", in [0, 2] and 1 at 0,
is that of a squeeze-and-excitation module which the released code has and does not use."""

REDUCTION, LEAST_UNITS = 16, 4
"""Hidden units of the attention branch: a 16th of the block input's channels as released, here at least 4, since images
have 3 channels and a single ReLU dies easily. ResNets never come below 4."""

FORMS = ("mixing", "inputs", "outputs", "kernel")


class Attention(nn.Module):
  """The residual's parameters, and its coefficients for each example.

  It has two linear layers without biases on the average over space. In "both" the gains and the mixture share the first
  layer. The coefficients are sown into "intermediates" as `gains` and `mixture`, where `analysis.coefficients` collects
  them.

  Attributes:
    features: output channels of the convolution.
    inputs: input channels of the convolution.
    variant: "channel", "subspace" or "both".
    k: number of matrices Phi.
    gate: a key of GATES.
    phi_init: initialiser of a Phi, given the shape (1, 1, in, out) of the 1x1 convolution that it is.

  Source: DRT, Fig. 3 and Eqs. 3 to 5; released code for widths, N(0, 0.01^2) in both layers, no biases and no
    temperature. That the two variants share the first layer in "both" is our reading.
  """

  features: int
  inputs: int
  variant: str
  k: int
  gate: str
  phi_init: layers.Initializer

  @nn.compact
  def __call__(self, block_input: jax.Array) -> tuple[jax.Array | None, jax.Array | None, jax.Array | None]:
    """Computes the coefficients for block_input (batch, height, width, channels), in float32.

    Returns:
      The gains (batch, features), in (1, 2) or [0, 2]; the mixture (batch, k), which sums to 1; and the matrices (k,
      inputs, features). What the variant lacks is None.
    """
    linear = partial(layers.Dense, kernel_init=initializers.normal(0.01), use_bias=False)
    pooled = block_input.astype(jnp.float32).mean((1, 2))
    hidden = nn.relu(linear(max(LEAST_UNITS, pooled.shape[-1] // REDUCTION), name="squeeze")(pooled))
    gain = routing = phi = None
    if self.variant in ("channel", "both"):
      gain = GATES[self.gate](linear(self.features, name="gain")(hidden))
      self.sow("intermediates", "gains", gain)
    if self.variant in ("subspace", "both"):
      routing = nn.softmax(linear(self.k, name="routing")(hidden))
      self.sow("intermediates", "mixture", routing)
      phi = self.param("phi", self._init_phi, (self.k, self.inputs, self.features))
    return gain, routing, phi

  def _init_phi(self, key: jax.Array, shape: tuple[int, int, int]) -> jax.Array:
    return jax.vmap(lambda key: self.phi_init(key, (1, 1, *shape[1:]))[0, 0])(jax.random.split(key, shape[0]))


class DynamicConv(nn.Module):
  """A convolution with a dynamic residual. It replaces `layers.BlockConv`, and also has its parameter.

  The four forms are the same function:
  - "mixing": the static convolution, with outputs scaled by the gains, plus a mixing of the channels of the strided
    input by one matrix for each example, which suffices because Phi sits on the centre tap;
  - "inputs": the static convolution plus one 1x1 convolution, with the K matrices stacked, of the strided input times
    each of the K coefficients;
  - "outputs": the static convolution plus the mixed outputs of K 1x1 convolutions, as in the released code;
  - "kernel": the kernel W(x) of each example is assembled and convolved with that example.

  Attributes:
    features: output channels.
    side: of the kernel, odd; zeros keep the map's size.
    strides: step in both directions.
    kernel_init: initialiser of the kernel, and of each Phi as the 1x1 convolution it is (released code).
    dtype: type of the computation and of the output; the coefficients are computed in float32.
    variant: "channel", "subspace" or "both".
    k: number of matrices Phi (4 in the paper).
    gate: a key of GATES.
    form: one of FORMS, or "auto": `ops.mix_channels`, the fastest of them at hand.

  Source: DRT, Eqs. 2 to 5, and Fig. 3.
  """

  features: int
  side: int = 3
  strides: int = 1
  kernel_init: layers.Initializer = layers.kaiming_normal
  dtype: Any = jnp.float32
  variant: str = "subspace"
  k: int = 4
  gate: str = "sigmoid"
  form: str = "auto"

  @nn.compact
  def __call__(self, h: jax.Array, block_input: jax.Array) -> jax.Array:
    """Convolves each example with its own kernel.

    Args:
      h: (batch, height, width, in), the input that is convolved.
      block_input: (batch, ..., ..., channels), the input that chooses the kernels.

    Returns:
      (batch, ceil(height / strides), ceil(width / strides), features).
    """
    inputs = h.shape[-1]
    kernel = self.param("kernel", self.kernel_init, (self.side, self.side, inputs, self.features))
    attention = Attention(self.features, inputs, self.variant, self.k, self.gate, self.kernel_init, name=RESIDUAL)
    gain, routing, phi = (x if x is None else x.astype(self.dtype) for x in attention(block_input))
    h, kernel = h.astype(self.dtype), kernel.astype(self.dtype)
    convolve = partial(layers.convolve, strides=self.strides, padding=self.side // 2, dtype=self.dtype)
    if self.form == "kernel":
      return jax.vmap(lambda image, kernel: convolve(image[None], kernel)[0])(
          h, self.kernels(kernel, gain, routing, phi))
    y = convolve(h, kernel)
    if gain is not None:
      y = y * gain[:, None, None]
    if routing is None or phi is None:
      return y
    if self.form == "outputs":
      side_by_side = jnp.einsum("kio->iko", phi).reshape(1, 1, inputs, -1)
      outputs = layers.convolve(h, side_by_side, self.strides, 0, self.dtype)
      return y + jnp.einsum("bk,bhwko->bhwo", routing, outputs.reshape(*y.shape[:3], self.k, self.features))
    # The centre tap sees every input that the stride leaves, since the padding is half the kernel's side.
    seen = h[:, ::self.strides, ::self.strides]
    if self.form == "inputs":
      copies = jnp.einsum("bk,bhwi->bhwki", routing, seen).reshape(*y.shape[:3], -1)
      return y + layers.convolve(copies, phi.reshape(1, 1, -1, self.features), 1, 0, self.dtype)
    if self.form == "mixing":
      return y + jnp.einsum("bhwi,bio->bhwo", seen, jnp.einsum("bk,kio->bio", routing, phi))
    return y + ops.mix_channels(seen.reshape(seen.shape[0], -1, inputs), routing, phi).reshape(y.shape)

  def kernels(self, kernel: jax.Array, gain: jax.Array | None, routing: jax.Array | None,
              phi: jax.Array | None) -> jax.Array:
    """W(x) of every example, (batch, side, side, in, out), from W0 and what `Attention` gives."""
    each = kernel[None]
    if gain is not None:
      each = jnp.einsum("bo,hwio->bhwio", gain, kernel)
    if routing is not None and phi is not None:
      centre = self.side // 2
      residual = jnp.einsum("bk,kio->bio", routing, phi)
      each = jnp.broadcast_to(each, (routing.shape[0], *kernel.shape)).at[:, centre, centre].add(residual)
    return each


def constructor(variant: str, k: int = 4, gate: str = "sigmoid", form: str = "auto") -> Constructor:
  """The `block_conv` that makes a network dynamic.

  Args:
    variant: one of VARIANTS; "none" gives the static convolution.
    k: number of matrices Phi, at least 1.
    gate: a key of GATES.
    form: one of FORMS or "auto".

  Raises:
    UserError: an unknown name, or k below 1; the message names the key of `config.model`.
  """
  for key, value, known in (("dynamic", variant, VARIANTS), ("dynamic_gate", gate, tuple(GATES)),
                            ("dynamic_form", form, ("auto", *FORMS))):
    if value not in known:
      raise UserError(f"model.{key}: unknown {value!r}{nearest(value, known)}")
  if k < 1:
    raise UserError(f"model.dynamic_k is {k}: it must be at least 1")
  if variant == "none":
    return layers.BlockConv
  return partial(DynamicConv, variant=variant, k=k, gate=gate, form=form)
