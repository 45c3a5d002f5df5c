"""DMG: domain-specific masks for generalisation (DMG; Chattopadhyay et al., ECCV 2020)."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from dgjax.algorithms import masks as mask_rules
from dgjax.algorithms.base import Algorithm, accuracy
from dgjax.algorithms.ensembles import ensemble
from dgjax.algorithms.masks import Masks, MaskSettings
from dgjax.algorithms.overlap import overlap_report
from dgjax.distributions import LogUniform
from dgjax.losses.classification import cross_entropy
from dgjax.losses.overlap import overlap, sparsity
from dgjax.models.layers import Dense


@dataclasses.dataclass(frozen=True, kw_only=True)
class DMG(Algorithm):
  """Learns a Bernoulli mask for each source domain on the inputs of some stages, and penalises the masks' overlap.

  Source: DMG, section 3.2, Eq. 1 and 2; appendix 7.2 for the sparsity penalty.

  Attributes:
    masks: where the masks are, how they start, and how they act in training.
    overlap_weight: weight of the overlap of masks, lambda_O of Eq. 2.
    overlap_reduction: over pairs of domains; "mean" (released code, with which 0.1 was tuned) or "sum" (Eq. 2).
    sparsity_weight: weight of the L1 norm of the mask probabilities, lambda_S of appendix 7.2.
    domain_classifier: whether a classifier of source domains is trained as well, for the prediction "weighted". The
      footnote to section 3.2 does not say what it is. Here it is a linear layer on the input of the first masked stage,
      averaged over space. Its features are constants to it, so that nothing else learns from it.
    prediction: "pred_ens", "prob_ens", "mask_ens" (one pass under the averaged mask, appendix 7.3), "weighted" (logits
      averaged by the domain classifier's probabilities, footnote to section 3.2), or a single domain's "member/0",
      "member/1" and so on. Where domains are known, `outputs` also has "known", under the mask of the image's own
      domain (Table 3, DMG-KD), and "known_greedy", under that mask thresholded, which validation uses.
  """

  prediction: str = "pred_ens"
  masks: MaskSettings = MaskSettings()
  overlap_weight: float = 0.1
  overlap_reduction: str = "mean"
  sparsity_weight: float = 0.0
  domain_classifier: bool = False

  swept: ClassVar = ("overlap_weight", "sparsity_weight")
  # DMG, section 5 and appendix 7.2: sweeps "from 0 to 1 in logarithmic increments".
  searched: ClassVar = {"overlap_weight": LogUniform(1e-5, 1), "sparsity_weight": LogUniform(1e-5, 1)}
  roles: ClassVar = {"masks": "masks"}
  dropout: ClassVar = False  # the masks take its place (DMG, section 4.1)
  validation: ClassVar = "known_greedy"

  @property
  def stages(self) -> tuple[str, ...]:
    """The masked stages, in the network's order."""
    return mask_rules.masked_stages(self.network, self.masks.placement)

  def init_params(self, key, images):
    network_key, mask_key = jax.random.split(key)
    params, batch_stats = super().init_params(network_key, images)
    widths = {stage: self.entering(params, batch_stats, images, stage).shape[-1] for stage in self.stages}
    params["masks"] = mask_rules.init_logits(mask_key, self.masks, widths, self.domains)
    if self.domain_classifier:
      features = jnp.zeros((1, widths[self.stages[0]]))
      params["domain_classifier"] = Dense(self.domains).init(jax.random.fold_in(key, 1), features)["params"]
    return params, batch_stats

  def classify_domains(self, params, inside: jax.Array) -> jax.Array:
    """The domain classifier's logits (B, domains) of what enters the first masked stage, (B, ..., channels)."""
    features = jax.lax.stop_gradient(inside).astype(jnp.float32)
    pooled = features.mean(tuple(range(1, inside.ndim - 1)))
    logits: Any = Dense(self.domains).apply({"params": params["domain_classifier"]}, pooled)
    return logits

  def loss(self, params, state, batch, key):
    dropout_key, mask_key = jax.random.split(key)
    probs = mask_rules.probabilities(params["masks"])
    gates = mask_rules.training_gates(mask_key, self.masks, probs, batch["domain"])
    inside, logits, batch_stats = self.forward_through(params, state, batch["image"], dropout_key, self.stages[0],
                                                       gates=gates)
    classification = cross_entropy(logits, batch["label"])
    penalty = overlap(probs, self.overlap_reduction)
    loss = (classification + state.hparams["overlap_weight"] * penalty
            + state.hparams["sparsity_weight"] * sparsity(probs))
    metrics = {"loss": loss, "cross_entropy": classification, "overlap": penalty,
               "accuracy": accuracy(logits, batch["label"])}
    if self.domain_classifier:
      domain_logits = self.classify_domains(params, inside)
      metrics["domain_cross_entropy"] = cross_entropy(domain_logits, batch["domain"])
      metrics["domain_accuracy"] = accuracy(domain_logits, batch["domain"])
      loss += metrics["domain_cross_entropy"]
    return loss, ({"batch_stats": batch_stats}, metrics)

  def under_masks(self, state, images: jax.Array, masks: Masks) -> jax.Array:
    """Logits of every image under each of m masks. The trunk below the first masked stage runs once.

    Args:
      state: a trained state.
      images: (B, H, W, C) float32.
      masks: stage name -> (m, channels).

    Returns:
      (m, B, classes) float32.
    """
    first, count = self.stages[0], next(iter(masks.values())).shape[0]
    trunk = self.evaluate(state, images, stop=first)
    # Each image's m copies are neighbours, so that a batch sharded over devices stays where it is.
    gates = {stage: jnp.tile(value, (trunk.shape[0], 1)) for stage, value in masks.items()}
    logits = self.evaluate(state, jnp.repeat(trunk, count, axis=0), start=first, gates=gates)
    return logits.reshape(trunk.shape[0], count, -1).swapaxes(0, 1)

  def outputs(self, state, images, domain=None):
    probs = mask_rules.probabilities(state.params["masks"])
    outputs = ensemble(self.under_masks(state, images, probs), domain)
    averaged = {stage: value.mean(0, keepdims=True) for stage, value in probs.items()}
    outputs["mask_ens"] = self.under_masks(state, images, averaged)[0]
    if self.domain_classifier:
      domains = jax.nn.softmax(self.classify_domains(state.params, self.evaluate(state, images, stop=self.stages[0])))
      members = jnp.stack([outputs[f"member/{d}"] for d in range(self.domains)])
      outputs["weighted"] = jnp.einsum("bd,dbc->bc", domains, members)
    if domain is not None:
      own = mask_rules.greedy(mask_rules.of_domain(probs, domain))
      outputs["known_greedy"] = self.evaluate(state, images, gates=own)
    return outputs

  def arrays(self, state):
    logits = {stage: np.asarray(state.params["masks"][stage]) for stage in self.stages}
    return {"masks": {stage: 1 / (1 + np.exp(-value)) for stage, value in logits.items()}}

  def measures(self, state, domains):
    return overlap_report(self.arrays(state)["masks"], domains)
