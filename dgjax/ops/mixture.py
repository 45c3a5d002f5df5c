"""Mixes channels by one matrix for each example, a mixture of a few shared matrices. Its gradients are mixtures too."""
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.interpreters import batching

from dgjax.ops import primitives

FEW_POSITIONS = 16
"""Of an example: up to so many, a matrix for each example is larger than what it is multiplied with, and costs more to
put together and read than a product with every shared matrix (docs/performance.md)."""


# In jax.numpy, which XLA partitions over devices. Matrices are kept flat where they are mixed: for the gradient of an
# einsum over both of their axes XLA would transpose the largest arrays there are.

def _mixed(routing, phi):
  """The matrix of every example, (batch, in, out)."""
  return jnp.einsum("bk,kn->bn", routing, phi.reshape(phi.shape[0], -1)).reshape(-1, *phi.shape[1:])


def _plain_mix(x, routing, phi, *, transposed):
  if x.shape[1] > FEW_POSITIONS:
    return jnp.einsum("bro,bio->bri" if transposed else "bri,bio->bro", x, _mixed(routing, phi))
  if transposed:
    return (jnp.einsum("bro,kio->brki", x, phi) * routing[:, None, :, None]).sum(2)
  return jnp.einsum("brki,kio->bro", routing[:, None, :, None] * x[:, :, None], phi)


def _plain_gradients(x, dy, routing, phi):
  if x.shape[1] > FEW_POSITIONS:
    products = jnp.einsum("bri,bro->bio", x, dy).reshape(x.shape[0], -1)
    flat = phi.reshape(phi.shape[0], -1)
    return products @ flat.T, jnp.einsum("bk,bn->kn", routing, products).reshape(phi.shape)
  d_routing = (jnp.einsum("bro,kio->brki", dy, phi) * x[:, :, None]).sum((1, 3))
  return d_routing, jnp.einsum("brki,bro->kio", routing[:, None, :, None] * x[:, :, None], dy)


def _mix_aval(x, routing, phi, *, transposed):
  return x.update(shape=(*x.shape[:2], phi.shape[1 if transposed else 2]), weak_type=False)


def _gradients_avals(x, dy, routing, phi):
  return routing.update(weak_type=False), phi.update(weak_type=False)


def _lower(target, context, *operands, **attributes):
  if context.avals_in[0].dtype != jnp.float32:
    return None
  attributes = {name: np.bool_(value) for name, value in attributes.items()}
  return jax.ffi.ffi_lowering(target)(context, *operands, **attributes)


def _make(name, shape, plain, multiple):
  primitive = primitives.make(f"dgjax_{name}", shape=shape, plain=plain, multiple=multiple,
                              lower=functools.partial(_lower, f"dgjax_native_{name}"))

  def batched(operands, axes, **params):
    results = jax.vmap(functools.partial(plain, **params), axes)(*operands)
    return results, (0, 0) if multiple else 0

  batching.primitive_batchers[primitive] = batched
  return primitive


_mix_p = _make("mix", _mix_aval, _plain_mix, False)
_gradients_p = _make("mix_gradients", _gradients_avals, _plain_gradients, True)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _mix(x, routing, phi, transposed):
  return _mix_p.bind(x, routing, phi, transposed=transposed)


@jax.custom_vjp
def _gradients(x, dy, routing, phi):
  """Those of <x mixed, dy> by routing and phi: with G = x^T dy of an example, <G, phi_k> and the sum of routing_k G."""
  return tuple(_gradients_p.bind(x, dy, routing, phi))


def _mix_backward(transposed, operands, dy):
  x, routing, phi = operands
  first, second = (dy, x) if transposed else (x, dy)
  return _mix(dy, routing, phi, not transposed), *_gradients(first, second, routing, phi)


def _gradients_backward(operands, cotangents):
  x, dy, routing, phi = operands
  d_routing, d_phi = cotangents
  # The cotangent of G is a mixture itself, of twice as many matrices.
  both = jnp.concatenate([d_routing, routing], 1), jnp.concatenate([phi, d_phi])
  return _mix(dy, *both, True), _mix(x, *both, False), *_gradients(x, dy, d_routing, d_phi)


_mix.defvjp(lambda x, routing, phi, transposed: (_mix(x, routing, phi, transposed), (x, routing, phi)), _mix_backward)
_gradients.defvjp(lambda *operands: (_gradients(*operands), operands), _gradients_backward)


def mix_channels(x: jax.Array, routing: jax.Array, phi: jax.Array) -> jax.Array:
  """Multiplies every example's positions by the example's own matrix, M_b = sum_k routing_bk phi_k.

  On a CPU, float32 arrays go to code that never holds all examples' matrices at once, where the package dgjax-native is
  installed and the computation is for one device. It differentiates in reverse mode, to any order.

  Args:
    x: (batch, positions, in).
    routing: (batch, k), of x's dtype.
    phi: (k, in, out), of x's dtype.

  Returns:
    (batch, positions, out), sum_k routing_bk x_b phi_k.

  Raises:
    ValueError: the shapes or types do not fit together.
  """
  fits = (x.ndim, routing.ndim, phi.ndim) == (3, 2, 3) and routing.shape == (x.shape[0], phi.shape[0])
  if not fits or x.shape[2] != phi.shape[1] or not x.dtype == routing.dtype == phi.dtype:
    raise ValueError(f"x {x.dtype}{x.shape}, routing {routing.dtype}{routing.shape} and phi {phi.dtype}{phi.shape} do "
                     "not fit together")
  if primitives.needs_lax(x, routing, phi) or 0 in (*x.shape, *phi.shape):
    return _plain_mix(x, routing, phi, transposed=False)
  return _mix(*primitives.same_variance(x, routing, phi), False)
