"""CrossGrad and LabelGrad: training on images perturbed along a loss's gradient (CrossGrad; Shankar et al., 2018)."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from dgjax.algorithms.base import Algorithm, accuracy
from dgjax.distributions import Choice, Distribution
from dgjax.errors import UserError, nearest
from dgjax.losses.classification import cross_entropy
from dgjax.models.network import Network

GRADIENTS = ("batch", "example")


def blend(alpha: jax.Array, clean: Any, moved: Any) -> Any:
  """(1 - alpha) * clean + alpha * moved, leaf by leaf."""
  return jax.tree.map(lambda a, b: (1 - alpha) * a + alpha * b, clean, moved)


@dataclasses.dataclass(frozen=True, kw_only=True)
class InputGradient(Algorithm):
  """What the two methods share: how far images are moved, and how much the moved images count.

  The paper writes x + epsilon * grad J(x), with epsilon 0.5, 1, 2 or 2.5 times an unstated base, and no clipping. The
  default is that of the released code. It takes the gradient of the batch's mean loss (so each example's gradient
  carries a factor 1 / B), clips its elements to +-0.1 and multiplies by 10, so no pixel moves by more than 1. Moved
  images are not clipped to the range of images. BatchNorm's running statistics see the clean batch, then the moved one.

  Attributes:
    alpha: weight of the loss on moved images, in [0, 1]; the clean loss has 1 - alpha. 0 is ERM.
    epsilon: factor on the gradient.
    clip: bound on the gradient's elements. 0: none.
    gradient: "batch": of the batch's mean loss; "example": of each example's own loss, which does not depend on B.
  """

  alpha: float = 0.5
  epsilon: float = 10.0
  clip: float = 0.1
  gradient: str = "batch"

  swept: ClassVar[tuple[str, ...]] = ("alpha", "epsilon", "clip")
  # The paper's grids (CrossGrad, section 4). Its multiples of epsilon are taken as multiples of the released code's 10.
  searched: ClassVar[Mapping[str, Distribution]] = {"alpha": Choice((0.1, 0.25, 0.5, 0.75, 0.9)),
                                                    "epsilon": Choice((5.0, 10.0, 20.0, 25.0))}

  def __post_init__(self):
    if self.gradient not in GRADIENTS:
      raise UserError(f"algorithm.gradient is {self.gradient!r}{nearest(self.gradient, GRADIENTS)}")

  def move(self, images: jax.Array, gradient: jax.Array, epsilon: jax.Array, clip: jax.Array) -> jax.Array:
    """Images moved along a loss's gradient, as constants: the move itself is not differentiated.

    Args:
      images: (B, H, W, C) float32; under pmap, those of one device.
      gradient: gradient of their mean loss by the images, of the same shape.
      epsilon: factor on the clipped gradient, () float32.
      clip: bound on the gradient's elements, () float32. 0: none.

    Returns:
      The same shape.
    """
    if self.gradient == "example":
      gradient = gradient * images.shape[0]
    elif self.axis is not None:
      gradient = gradient / jax.lax.axis_size(self.axis)  # now the gradient of the whole batch's mean
    bound = jnp.where(clip > 0, clip, jnp.inf)
    return jax.lax.stop_gradient(images + epsilon * jnp.clip(gradient, -bound, bound))


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelGrad(InputGradient):
  """Trains on images and on images moved along the label loss's own gradient.

  (1 - alpha) J(x) + alpha J(x + epsilon clip(grad_x J(x))), with J the mean cross-entropy. The clean pass runs once and
  gives the gradients by parameters and by images.

  Source: CrossGrad, section 4 (after Goodfellow et al., 2014). There is no released code; conventions are CrossGrad's.
  """

  def classify(self, params: Any, images: jax.Array, state: Any, labels: jax.Array,
               key: jax.Array) -> tuple[jax.Array, Any]:
    """J, and a pair: running statistics and logits."""
    logits, batch_stats = self.forward(params, state, images, key)
    return cross_entropy(logits, labels), (batch_stats, logits)

  def update(self, state, batch):
    clean_key, moved_key = jax.random.split(self.step_key(state))
    images, labels, hparams = batch["image"], batch["label"], state.hparams
    (clean, (batch_stats, logits)), (grads, by_image) = jax.value_and_grad(self.classify, (0, 1), has_aux=True)(
        state.params, images, state, labels, clean_key)
    moved_images = self.move(images, by_image, hparams["epsilon"], hparams["clip"])
    (moved, (batch_stats, _)), moved_grads = jax.value_and_grad(self.classify, has_aux=True)(
        state.params, moved_images, state.replace(batch_stats=batch_stats), labels, moved_key)

    metrics = {"loss": blend(hparams["alpha"], clean, moved), "cross_entropy": clean, "moved_cross_entropy": moved,
               "accuracy": accuracy(logits, labels)}
    grads, batch_stats, metrics = self.average((blend(hparams["alpha"], grads, moved_grads), batch_stats, metrics))
    return self.apply_gradients(state, grads).replace(batch_stats=batch_stats), metrics


@dataclasses.dataclass(frozen=True, kw_only=True)
class CrossGrad(InputGradient):
  """A label network and a domain network, each also trained on images moved along the gradient of the other's loss.

  With J_l and J_d the mean cross-entropies of labels and of domains, x_d = x + epsilon clip(grad_x J_d(x)) and
  x_l = x + domain_epsilon clip(grad_x J_l(x)), the label network descends (1 - alpha) J_l(x) + alpha J_l(x_d) and the
  domain network (1 - domain_alpha) J_d(x) + domain_alpha J_d(x_l), in one step of one optimiser. Each clean pass runs
  once and gives the gradients by parameters and by images.

  With `concatenate` the label network also sees the domain network's embedding g, beside its own, at the input of stage
  `network.embedding`. This is in the paper but not in the released code. The paper does not state which gradients pass
  through g. Here g is a constant to J_l, so that line 8 updates the label network alone and line 7 needs no pass
  through the domain network.

  Source: CrossGrad, Algorithm 1.

  Attributes:
    domain_network: classifies source domains.
    domain_alpha: alpha_d, which equals alpha in the paper.
    domain_epsilon: epsilon_l, how far images move for the domain network.
    concatenate: whether the label network sees g.
  """

  domain_network: Network
  domain_alpha: float = 0.5
  domain_epsilon: float = 10.0
  concatenate: bool = False

  needs_domain_network: ClassVar[bool] = True
  roles: ClassVar = {"domain_network": "discriminator"}
  swept: ClassVar[tuple[str, ...]] = (*InputGradient.swept, "domain_alpha", "domain_epsilon")

  def init_params(self, key, images):
    label_key, domain_key, head_key = jax.random.split(key, 3)
    params, batch_stats = super().init_params(label_key, images)
    domain = self.domain_network.init(domain_key, images)
    params["domain_network"], batch_stats["domain_network"] = domain["params"], domain.get("batch_stats", {})
    if self.concatenate:  # stages from the embedding on have wider inputs
      head = self.network.init(head_key, self.embed(params, batch_stats, images), start=self.network.embedding)
      params["network"] = {**params["network"], **head["params"]}
    return params, batch_stats

  def embed(self, params: Any, batch_stats: Any, images: jax.Array) -> jax.Array:
    """The embeddings of both networks in evaluation, side by side: (B, units + units)."""
    networks = {"network": self.network, "domain_network": self.domain_network}
    parts: Any = [network.apply({"params": params[name], "batch_stats": batch_stats[name]}, images,
                                stop=network.embedding) for name, network in networks.items()]
    return jnp.concatenate(parts, axis=-1)

  def label_loss(self, params: Any, images: jax.Array, state: Any, labels: jax.Array, key: jax.Array,
                 domain_embedding: jax.Array) -> tuple[jax.Array, Any]:
    """J_l, and a pair: running statistics and logits. `params` needs only the label network's parameters."""
    if not self.concatenate:
      logits, batch_stats = self.forward(params, state, images, key)
    else:
      middle = self.network.embedding
      own, batch_stats = self.forward(params, state, images, key, stop=middle)
      both = jnp.concatenate([own, jax.lax.stop_gradient(domain_embedding)], axis=-1)
      logits, batch_stats = self.forward(params, state.replace(batch_stats=batch_stats), both, key, start=middle)
    return cross_entropy(logits, labels), (batch_stats, logits)

  def domain_loss(self, params: Any, images: jax.Array, state: Any, domains: jax.Array,
                  key: jax.Array) -> tuple[jax.Array, Any]:
    """J_d, and a tuple: running statistics, logits and g. `params` needs only the domain network's parameters."""
    embedding, logits, batch_stats = self.forward_through(params, state, images, key, self.domain_network.embedding,
                                                          name="domain_network")
    return cross_entropy(logits, domains), (batch_stats, logits, embedding)

  def update(self, state, batch):
    keys = jax.random.split(self.step_key(state), 5)
    images, labels, domains, hparams = batch["image"], batch["label"], batch["domain"], state.hparams
    label_params, domain_params = ({name: state.params[name]} for name in ("network", "domain_network"))

    (domain, (batch_stats, domain_logits, g)), (domain_grads, by_domain) = jax.value_and_grad(
        self.domain_loss, (0, 1), has_aux=True)(domain_params, images, state, domains, keys[0])
    after = state.replace(batch_stats=batch_stats)
    (label, (batch_stats, logits)), (label_grads, by_label) = jax.value_and_grad(
        self.label_loss, (0, 1), has_aux=True)(label_params, images, after, labels, keys[1], g)

    along_domain = self.move(images, by_domain, hparams["epsilon"], hparams["clip"])
    along_label = self.move(images, by_label, hparams["domain_epsilon"], hparams["clip"])
    if self.concatenate:
      g, _ = self.forward(domain_params, after, along_domain, keys[4], stop=self.domain_network.embedding,
                          name="domain_network")
    after = state.replace(batch_stats=batch_stats)
    (moved_domain, (batch_stats, *_)), moved_domain_grads = jax.value_and_grad(self.domain_loss, has_aux=True)(
        domain_params, along_label, after, domains, keys[2])
    after = state.replace(batch_stats=batch_stats)
    (moved_label, (batch_stats, _)), moved_label_grads = jax.value_and_grad(self.label_loss, has_aux=True)(
        label_params, along_domain, after, labels, keys[3], g)

    alpha, domain_alpha = hparams["alpha"], hparams["domain_alpha"]
    grads = blend(alpha, label_grads, moved_label_grads) | blend(domain_alpha, domain_grads, moved_domain_grads)
    metrics = {"loss": blend(alpha, label, moved_label) + blend(domain_alpha, domain, moved_domain),
               "cross_entropy": label, "moved_cross_entropy": moved_label, "domain_cross_entropy": domain,
               "moved_domain_cross_entropy": moved_domain, "accuracy": accuracy(logits, labels),
               "domain_accuracy": accuracy(domain_logits, domains)}
    grads, batch_stats, metrics = self.average((grads, batch_stats, metrics))
    return self.apply_gradients(state, grads).replace(batch_stats=batch_stats), metrics

  def outputs(self, state, images, domain=None):
    if not self.concatenate:
      return super().outputs(state, images, domain)
    both = self.embed(state.params, state.batch_stats, images)
    return {"default": self.evaluate(state, both, start=self.network.embedding)}
