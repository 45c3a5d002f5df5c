"""Spectral decoupling: a penalty on the logits (Pezeshki et al., NeurIPS 2021; a baseline of RCL)."""

import dataclasses
from typing import ClassVar

from dgjax.algorithms.base import Algorithm, accuracy
from dgjax.distributions import LogUniform
from dgjax.errors import UserError, nearest
from dgjax.losses.classification import cross_entropy
from dgjax.losses.decoupling import FORMS, spectral_decoupling


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpectralDecoupling(Algorithm):
  """Cross-entropy plus a penalty on the squared logits, from the first step on.

  Source: RCL, section 5.1, whose weight is the default. On coloured MNIST the method's released code starts the penalty
    after 450 steps. We infer that RCL has no such delay.

  Attributes:
    logit_weight: weight of the penalty.
    form: "mean" or "norm"; see `losses.decoupling`.
  """

  logit_weight: float = 5.0
  form: str = "mean"

  swept: ClassVar = ("logit_weight",)
  searched: ClassVar = {"logit_weight": LogUniform(1e-5, 10)}  # from DomainBed's lowest to the highest of RCL

  def __post_init__(self):
    if self.form not in FORMS:
      raise UserError(f"algorithm.form is {self.form!r}{nearest(self.form, FORMS)}")

  def loss(self, params, state, batch, key):
    logits, batch_stats = self.forward(params, state, batch["image"], key)
    classification = cross_entropy(logits, batch["label"])
    penalty = spectral_decoupling(logits, self.form)
    loss = classification + state.hparams["logit_weight"] * penalty
    metrics = {"loss": loss, "cross_entropy": classification, "logits": penalty,
               "accuracy": accuracy(logits, batch["label"])}
    return loss, ({"batch_stats": batch_stats}, metrics)
