"""WEMNet: masks of features from the weights of discriminator and classifier (WEMNet; Lee et al., ICASSP 2023)."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from dgjax.algorithms.adversarial import DANN, MSTN
from dgjax.errors import UserError, nearest
from dgjax.models.layers import Dense
from dgjax.ops.reversal import Ramp, reverse_gradient

BASES = ("dann", "mstn")
REVERSALS = ("before", "after")


def weight_mask(kernel: jax.Array) -> jax.Array:
  """Which features weigh more than the mean in each output of a linear layer. It passes no gradient.

  A feature's mask is 1 if sigmoid(|w|) is above its mean over the features. The sigmoid is concave there, so this
  differs from |w| being above the mean of |w|. Biases do not count.

  Args:
    kernel: (N_h, outputs) float, kernel of a linear layer.

  Returns:
    (outputs, N_h) float32 of 0 and 1. A row of equal weights is 0 throughout.

  Raises:
    ValueError: the kernel is no matrix.

  Source: WEMNet, Eq. 1, 2, 5 and 6, whose sigma|W| is read as sigma(|W|).
  """
  if kernel.ndim != 2:
    raise ValueError(f"need a kernel (features, outputs), not {kernel.shape}")
  magnitude = jax.nn.sigmoid(jnp.abs(jax.lax.stop_gradient(kernel).T.astype(jnp.float32)))
  # A mean of equal numbers can round to below them
  mean = jnp.clip(magnitude.mean(1, keepdims=True), magnitude.min(1, keepdims=True), magnitude.max(1, keepdims=True))
  return (magnitude > mean).astype(jnp.float32)


def class_masks(mask: jax.Array, labels: jax.Array, target_probabilities: jax.Array) -> jax.Array:
  """The mask of each example. In the sources it is that of its class; in the target, the masks' mean by probability.

  Args:
    mask: (classes, N_h), as `weight_mask` returns it.
    labels: (S,) int of source examples.
    target_probabilities: (T, classes) float, rows adding up to 1.

  Returns:
    (S + T, N_h) float32 in [0, 1].

  Source: WEMNet, Eq. 7 and 8.
  """
  return jnp.concatenate([mask[labels], target_probabilities @ mask])


def domain_error(logits: jax.Array) -> jax.Array:
  """How far a discriminator's output is from undecided: 100 |sigmoid(logit) - 0.5|.

  Args:
    logits: (B,) float.

  Returns:
    (B,) float32 in [0, 50].

  Source: WEMNet, Eq. 12.
  """
  return 100 * jnp.abs(jax.nn.sigmoid(logits.astype(jnp.float32)) - 0.5)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WEMNet(MSTN):
  """DANN or MSTN with the domain ignore module (DIM) and the semantic enhancement module (SEM).

  With f the input of the network's last stage, a linear layer: DIM classifies f - DEC(ENC(f) * M_d), where M_d is the
  `weight_mask` of a linear discriminator. SEM hands the discriminator f + DEC(ENC(f) * M_c), where M_c is each
  example's mix of the classifier's masks: by label in the sources, by the prediction's probabilities, as constants, in
  the target. ENC and DEC are linear layers of N_h units, one pair for each module. Masks follow the weights of each
  step. Without both modules it is DANN, or MSTN, at the last stage.

  The code was never released. The paper's lambda is 1, of a sum of the two domains' losses (Eq. 10 and 11). Here, as in
  TLL, the loss is their mean (see `losses.adversarial`), so that `adversarial_weight=1` is half of the equations' term
  and `adversarial_weight=2` is theirs. The schedule of the reversal is TLL's too. By Eq. 10 SEM helps the
  discriminator: the gradient is reversed before it (default).

  Source: WEMNet, section 2, Eq. 1 to 11.

  Attributes:
    base: "dann"; or "mstn", WEMNet-dagger in the paper, whose centroids are those of f.
    dim, sem: whether the module is used.
    reversal: where the gradient is reversed: "before" SEM, so that only the layers below it are adversarial; or "after"
      it.
    semantic_weight, semantic_ramp, momentum, absent: with base "mstn", see `MSTN`.
  """

  adversarial_weight: float = 1.0
  hidden: tuple[int, ...] = ()
  ramp: Ramp = DANN.ramp
  base: str = "dann"
  dim: bool = True
  sem: bool = True
  reversal: str = "before"

  swept: ClassVar = MSTN.swept
  searched: ClassVar = DANN.searched  # on DANN the weight of centroids has no effect

  def __post_init__(self):
    super().__post_init__()
    for key, known in (("base", BASES), ("reversal", REVERSALS)):
      if getattr(self, key) not in known:
        raise UserError(f"algorithm.{key} is {getattr(self, key)!r}{nearest(getattr(self, key), known)}")
    if self.dim and self.hidden:
      raise UserError(f"algorithm.hidden is {tuple(self.hidden)}: DIM takes its mask from a linear discriminator: "
                      "leave hidden empty, or set algorithm.dim=false")
    if self.aligned != "embedding":
      raise UserError(f"algorithm.aligned is {self.aligned!r}: the masks are of features; use embedding")

  @property
  def aligned_stage(self):
    return self.network.names[-1]

  @property
  def scalars(self):
    scalars = super().scalars
    if self.base != "mstn":
      del scalars["semantic_weight"]  # which DANN does not have
    return scalars

  @property
  def centroids(self):
    return super().centroids if self.base == "mstn" else None

  def init_params(self, key, images):
    base_key, *keys = jax.random.split(key, 5)
    params, batch_stats = super().init_params(base_key, images)
    width = self.classifier_kernel(params).shape[0]
    names = [(module, layer) for module in ("dim", "sem") for layer in ("encoder", "decoder")]
    for (module, layer), layer_key in zip(names, keys, strict=True):
      if getattr(self, module):
        made = Dense(width).init(layer_key, jnp.zeros((1, width)))["params"]
        params[module] = {**params.get(module, {}), layer: made}
    return params, batch_stats

  def classifier_kernel(self, params: Any) -> jax.Array:
    """The weights (N_h, classes) of the network's last stage.

    Raises:
      UserError: it is not one linear layer.
    """
    kernels = [x for x in jax.tree.leaves(params["network"][self.network.names[-1]]) if x.ndim == 2]
    if len(kernels) != 1:
      raise UserError("wemnet needs a network whose last stage is one linear layer: set model.name to another")
    return kernels[0]

  def module(self, params: Any, name: str, features: jax.Array, mask: jax.Array) -> jax.Array:
    """DEC(ENC(features) * mask) of module "dim" or "sem".

    Features and result are (B, N_h), the mask is (B or 1, N_h).
    """
    linear = Dense(features.shape[1])
    encoded: Any = linear.apply({"params": params[name]["encoder"]}, features)
    decoded: Any = linear.apply({"params": params[name]["decoder"]}, encoded * mask)
    return decoded

  def ignore_domain(self, params: Any, features: jax.Array) -> jax.Array:
    """Features (B, N_h) without their domain's part (WEMNet, Eq. 3). Without DIM they are unchanged."""
    if not self.dim:
      return features
    return features - self.module(params, "dim", features, weight_mask(params["discriminator"]["out"]["kernel"]))

  def classify(self, params, state, images, key):
    return self.forward_through(params, state, images, key, self.aligned_stage,
                                lambda features: self.ignore_domain(params, features))

  def confuse(self, params, features, logits, labels, coefficient):
    if self.reversal == "before":
      features = reverse_gradient(features, coefficient)
    if self.sem:
      probabilities = jax.nn.softmax(jax.lax.stop_gradient(logits[len(labels):]))
      mask = class_masks(weight_mask(self.classifier_kernel(params)), labels, probabilities)
      features = features + self.module(params, "sem", features, mask)
    if self.reversal == "after":
      features = reverse_gradient(features, coefficient)
    return self.discriminate(params, features)

  def outputs(self, state, images, domain=None):
    features = self.evaluate(state, images, stop=self.aligned_stage)
    return {"default": self.evaluate(state, self.ignore_domain(state.params, features), start=self.aligned_stage)}

  def domain_errors(self, state: Any, images: jax.Array) -> dict[str, jax.Array]:
    """The trained discriminator's `domain_error` on features with and without their domain's part.

    In training the discriminator saw neither of these, but features that SEM had changed.

    Args:
      state: a trained state.
      images: (B, H, W, C) float32, normalised.

    Returns:
      "with" and "without", each (B,) float32.

    Source: WEMNet, section 3.4, Table 4.
    """
    features = self.evaluate(state, images, stop=self.aligned_stage)
    return {"with": domain_error(self.discriminate(state.params, features)[:, 0]),
            "without": domain_error(self.discriminate(state.params, self.ignore_domain(state.params, features))[:, 0])}
