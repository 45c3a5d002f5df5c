"""Gradient reversal, with the schedules of its coefficient."""

import dataclasses

import jax
import jax.numpy as jnp


@jax.custom_vjp
def reverse_gradient(x: jax.Array, coefficient: jax.Array) -> jax.Array:
  """Returns x. Its gradient is multiplied by -coefficient on the way back.

  Args:
    x: any shape, float.
    coefficient: () float, at least 0; gets no gradient.

  Source: Ganin et al., Domain-adversarial training of neural networks, JMLR 2016, section 4.2.
  """
  del coefficient
  return x


def _forward(x, coefficient):
  return x, coefficient


def _backward(coefficient, grad):
  return (-coefficient * grad).astype(grad.dtype), jnp.zeros_like(coefficient)


reverse_gradient.defvjp(_forward, _backward)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ramp:
  """Coefficient that rises from 0 towards 1: 2 / (1 + exp(-slope * p)) - 1, with p = max(step - delay, 0) / length.

  Source: Ganin et al., 2016, section 5.2.2 (slope 10, length the whole run); CrossGrad's released DAN has slope 15,
    length 50,000 and delay 2,000.

  Attributes:
    slope: steepness of the rise.
    length: number of steps in which p goes from 0 to 1. It goes on beyond 1.
    delay: number of steps at coefficient 0.
  """

  slope: float = 10.0
  length: float = 1.0
  delay: float = 0.0

  def __call__(self, step: jax.Array) -> jax.Array:
    """The coefficient at `step`, () float32 in [0, 1]. `step` is an integer scalar that counts updates from zero."""
    p = jnp.maximum(step.astype(jnp.float32) - self.delay, 0) / self.length
    return jnp.tanh(self.slope * p / 2)  # the same function
