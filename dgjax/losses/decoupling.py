"""Spectral decoupling: a penalty on the logits instead of the weights."""

import jax
import jax.numpy as jnp

from dgjax.errors import UserError, nearest

FORMS = ("mean", "norm")


def spectral_decoupling(logits: jax.Array, form: str = "mean") -> jax.Array:
  """The mean of the squared logits.

  Args:
    logits: (B, C) float.
    form: "mean": over examples and classes, as in the released code and later benchmarks (default). "norm": half the
      squared norm of each example's logits, averaged over examples, as in the paper; C / 2 times as much.

  Returns:
    () float32, non-negative.

  Raises:
    UserError: `form` is neither.

  Source: Pezeshki et al. 2021, the penalty lambda / 2 ||y||^2; used by Duboudin et al. 2021 (RCL), section 5.1, which
    does not say which form its weight of 5 is for.
  """
  if form not in FORMS:
    raise UserError(f"unknown form of spectral decoupling: {form!r}{nearest(form, FORMS)}")
  squares = jnp.square(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)))
  return squares.mean() if form == "mean" else squares.sum(1).mean() / 2
