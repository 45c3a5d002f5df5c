"""The loss of a discriminator that tells source features from target features."""

import jax
import jax.numpy as jnp


def domain_cross_entropy(source: jax.Array, target: jax.Array) -> jax.Array:
  """Binary cross-entropy of a domain discriminator. Source examples are 1, target examples 0.

  The means of the two domains are averaged, as in most released code of adversarial adaptation (TLL). The papers write
  their sum, which is twice as much. The two batches may differ in size.

  Args:
    source: (S,) float logits of source examples.
    target: (T,) float logits of target examples.

  Returns:
    () float32, non-negative; log 2 if the discriminator is undecided.

  Raises:
    ValueError: the shapes do not fit.

  Source: Ganin et al., 2016, Eq. 9 and 14; WEMNet, Eq. 10, with the sign turned.
  """
  if source.ndim != 1 or target.ndim != 1:
    raise ValueError(f"need one logit an example, not {source.shape} and {target.shape}")
  source, target = (x.astype(jnp.promote_types(x.dtype, jnp.float32)) for x in (source, target))
  return (jax.nn.softplus(-source).mean() + jax.nn.softplus(target).mean()) / 2
