"""Predictions averaged over members: the masks or the heads of the source domains."""

import jax
import jax.numpy as jnp


def ensemble(members: jax.Array, domain: jax.Array | None = None) -> dict[str, jax.Array]:
  """Logits (B, classes) of an ensemble under each rule, by the rule's name.

  Source: DMG, section 3.2 and appendix 7.3, which average "predictions". The released code averages logits.

  Args:
    members: (domains, B, classes), the logits under each source domain's member.
    domain: (B,) int in [0, domains), each example's own domain, if it is known.

  Returns:
    "pred_ens": the mean of the logits. "prob_ens": the log of the mean of the probabilities. "known": the logits of the
    example's own member (only with `domain`). "member/0" and so on: the logits of each member alone, which reports use
    for source domains.
  """
  outputs = {"pred_ens": members.mean(0),
             "prob_ens": jax.nn.logsumexp(jax.nn.log_softmax(members), 0) - jnp.log(members.shape[0])}
  if domain is not None:
    outputs["known"] = jnp.take_along_axis(members, domain[None, :, None], axis=0)[0]
  return outputs | {f"member/{i}": logits for i, logits in enumerate(members)}
