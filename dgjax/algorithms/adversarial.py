"""Domain-adversarial training: a discriminator on the embedding, whose gradient is reversed (Ganin et al., 2016)."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from dgjax.algorithms.base import Algorithm, accuracy
from dgjax.distributions import Distribution, LogUniform
from dgjax.errors import UserError, nearest
from dgjax.losses.adversarial import domain_cross_entropy
from dgjax.losses.centroids import ABSENT, move_centroids, semantic_distance
from dgjax.losses.classification import cross_entropy
from dgjax.models.mlp import MLP
from dgjax.ops.reversal import Ramp, reverse_gradient

FEATURES = ("embedding", "logits")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Discriminating(Algorithm):
  """What all methods with a discriminator share.

  Attributes:
    hidden: numbers of units of the discriminator's hidden layers; () makes it one linear layer.
    norm: whether the hidden layers have BatchNorm before their ReLU, over the batch of both domains where there are
      two.
  """

  hidden: tuple[int, ...] = ()
  norm: bool = False

  roles: ClassVar = {"discriminator": "discriminator"}

  @property
  def discriminator(self) -> MLP:
    """Maps features to one logit for each source domain."""
    return MLP(tuple(self.hidden), self.domains, self.norm)

  def init_params(self, key, images):
    network_key, discriminator_key = jax.random.split(key)
    params, batch_stats = super().init_params(network_key, images)
    features = self.entering(params, batch_stats, images, self.aligned_stage)
    params["discriminator"] = self.discriminator.init(discriminator_key, features)["params"]
    return params, batch_stats

  @property
  def aligned_stage(self) -> str | None:
    """The stage whose input is aligned. None: the network's output is aligned."""
    return self.network.embedding

  def discriminate(self, params: Any, features: jax.Array) -> jax.Array:
    """The discriminator's logits (B, outputs) of features (B, d)."""
    logits: Any = self.discriminator.apply({"params": params["discriminator"]}, features)
    return logits


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reversing(Discriminating):
  """What methods share whose features reach the discriminator through gradient reversal.

  Attributes:
    adversarial_weight: weight of the discriminator's loss. With 0 nothing is aligned.
    ramp: schedule of the coefficient of gradient reversal, in steps. A `length` of 0 means the whole run.
  """

  adversarial_weight: float = 1.0
  ramp: Ramp = Ramp()

  swept: ClassVar[tuple[str, ...]] = ("adversarial_weight",)
  # DomainBed's, of its lambda
  searched: ClassVar[Mapping[str, Distribution]] = {"adversarial_weight": LogUniform(0.01, 100)}

  def coefficient(self, ramp: Ramp, step: jax.Array) -> jax.Array:
    """The value of `ramp` at `step`, () float32 in [0, 1]. A ramp of length 0 lasts for the whole run.

    Raises:
      UserError: the ramp depends on the run's length, which is not known.
    """
    if not ramp.length:
      if not self.steps:
        raise UserError("a ramp of length 0 lasts for the whole run, whose length is not known here: give the ramp a "
                        "length in steps")
      ramp = dataclasses.replace(ramp, length=float(self.steps))
    return ramp(step)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DAN(Reversing):
  """Domain-adversarial network over the source domains, CrossGrad's baseline of that name.

  Mean label cross-entropy + `adversarial_weight` times the mean cross-entropy of a discriminator of all source domains.
  The discriminator sees the input of stage `network.embedding` through gradient reversal, with the coefficient `ramp`.
  With a weight of 0 the method is ERM.

  Source: CrossGrad, section 4, and its released code: the schedule, the weight, and the discriminator's widths. The
    code gives the discriminator the embedding twice, side by side. That amounts to a linear layer with two kernels that
    are added, and is not done here.
  """

  hidden: tuple[int, ...] = (256, 128, 128, 128)
  ramp: Ramp = Ramp(slope=15.0, length=50_000.0, delay=2_000.0)

  def loss(self, params, state, batch, key):
    embedding, logits, batch_stats = self.forward_through(params, state, batch["image"], key, self.network.embedding)
    classification = cross_entropy(logits, batch["label"])
    domain_logits = self.discriminate(params, reverse_gradient(embedding, self.coefficient(self.ramp, state.step)))
    adversarial = cross_entropy(domain_logits, batch["domain"])
    loss = classification + state.hparams["adversarial_weight"] * adversarial
    metrics = {"loss": loss, "cross_entropy": classification, "domain_cross_entropy": adversarial,
               "accuracy": accuracy(logits, batch["label"]),
               "domain_accuracy": accuracy(domain_logits, batch["domain"])}
    return loss, ({"batch_stats": batch_stats}, metrics)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Centroids:
  """Moving centroids of classes in both domains.

  Attributes:
    ramp, momentum, absent: see `MSTN`.
  """

  ramp: Ramp
  momentum: float
  absent: str

  def init(self, classes: int, units: int) -> dict[str, jax.Array]:
    """Centroids before the first batch: zeros, (classes, units) float32, for "source" and for "target"."""
    return {name: jnp.zeros((classes, units)) for name in ("source", "target")}  # one buffer cannot be donated twice

  def move(self, old: Mapping[str, jax.Array], features: jax.Array, logits: jax.Array,
           labels: jax.Array) -> dict[str, jax.Array]:
    """Centroids after a batch. Classes are labels in the sources, and the largest logits in the target.

    Args:
      old: as `init` returns them.
      features: (S + T, units), those of the sources first.
      logits: (S + T, classes) of them.
      labels: (S,) of the sources.
    """
    count = len(labels)
    move = functools.partial(move_centroids, momentum=self.momentum, absent=self.absent)
    return {"source": move(old["source"], features[:count], labels),
            "target": move(old["target"], features[count:], logits[count:].argmax(-1))}


@dataclasses.dataclass(frozen=True, kw_only=True)
class DANN(Reversing):
  """Domain-adversarial adaptation to an unlabelled target.

  The loss is the mean label cross-entropy of the sources + `adversarial_weight` times the cross-entropy of a
  discriminator of sources and target. The discriminator sees the features through gradient reversal. Source domains are
  merged. Source and target go through the network as one batch, so BatchNorm's statistics are of both.

  The default schedule is TLL's, 2 / (1 + exp(-step / 1000)) - 1. The paper's lasts for the whole run: a slope of 10 and
  a length of 0. The loss averages the two domains (see `losses.adversarial`), so a weight of 2 is the papers' sum. With
  a weight of 0 the method trains on the sources alone, except that BatchNorm's statistics are of both domains.

  Source: Ganin et al., Domain-adversarial training of neural networks, JMLR 2016, sections 4.2 and 5.2.2; the
    discriminator's widths are TLL's (Transfer-Learning-Library), which has BatchNorm between them (`norm`).

  Attributes:
    aligned: what the discriminator sees: "embedding", the input of stage `network.embedding`, or "logits".
  """

  hidden: tuple[int, ...] = (1024, 1024)
  ramp: Ramp = Ramp(slope=1.0, length=1000.0)
  aligned: str = "embedding"

  adapts = True

  def __post_init__(self):
    if self.aligned not in FEATURES:
      raise UserError(f"algorithm.aligned is {self.aligned!r}{nearest(self.aligned, FEATURES)}")

  @property
  def discriminator(self):
    return MLP(tuple(self.hidden), 1, self.norm)

  @property
  def aligned_stage(self):
    return self.network.embedding if self.aligned == "embedding" else None

  def classify(self, params: Any, state: Any, images: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array, Any]:
    """The aligned features (B, d), the logits (B, classes), and the statistics as `forward` returns them."""
    if self.aligned_stage is None:
      logits, batch_stats = self.forward(params, state, images, key)
      return logits, logits, batch_stats
    return self.forward_through(params, state, images, key, self.aligned_stage)

  def confuse(self, params: Any, features: jax.Array, logits: jax.Array, labels: jax.Array,
              coefficient: jax.Array) -> jax.Array:
    """The discriminator's logits, through gradient reversal.

    Args:
      params: of the method.
      features: (S + T, d), of sources and then of the target.
      logits: (S + T, classes) of them.
      labels: (S,) of the sources.
      coefficient: that of gradient reversal, () float32.

    Returns:
      (S + T, 1) float32.
    """
    return self.discriminate(params, reverse_gradient(features, coefficient))

  @property
  def centroids(self) -> Centroids | None:
    """How the class centroids of the two domains are drawn together. None: they are not."""
    return None

  def init(self, key, batch):
    state = super().init(key, batch)
    if self.centroids is None:
      return state
    features, logits, _ = jax.eval_shape(lambda key: self.classify(state.params, state, batch["source"]["image"], key),
                                         key)
    return state.replace(extra=self.centroids.init(logits.shape[1], features.shape[1]))

  def loss(self, params, state, batch, key):
    source, target = batch["source"], batch["target"]
    count, labels = len(source["label"]), source["label"]
    features, logits, batch_stats = self.classify(params, state, jnp.concatenate([source["image"], target["image"]]),
                                                  key)
    classification = cross_entropy(logits[:count], labels)
    domain_logits = self.confuse(params, features, logits, labels, self.coefficient(self.ramp, state.step))[:, 0]
    adversarial = domain_cross_entropy(domain_logits[:count], domain_logits[count:])
    loss = classification + state.hparams["adversarial_weight"] * adversarial
    changes: dict[str, Any] = {"batch_stats": batch_stats}
    metrics = {}
    if self.centroids is not None:
      changes["extra"] = self.centroids.move(state.extra, features, logits, labels)
      metrics["semantic"] = semantic_distance(**changes["extra"])
      loss += (state.hparams["semantic_weight"] * self.coefficient(self.centroids.ramp, state.step)
               * metrics["semantic"])
    right = ((domain_logits[:count] > 0).mean(dtype=jnp.float32) + (domain_logits[count:] <= 0).mean(dtype=jnp.float32))
    metrics = {"loss": loss, "cross_entropy": classification, "domain_cross_entropy": adversarial,
               "accuracy": accuracy(logits[:count], labels), "domain_accuracy": right / 2, **metrics}
    return loss, (changes, metrics)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MSTN(DANN):
  """Moving semantic transfer network: DANN with a term that draws together each class's centroids in both domains.

  Centroids are means of the features that the discriminator sees. Classes are labels in the sources, and the network's
  own predictions in the target. Centroids start at zero, are kept in `state.extra`, and under pmap are averaged over
  devices. The term is `semantic_weight` times `semantic_ramp` times `losses.centroids.semantic_distance`.

  Defaults are the released code's: a ramp of slope 10 over 10,000 steps for both terms, and a tenth of the sum of the
  discriminator's two losses, which is 0.2 of their average. For digits the code aligns the logits (`aligned`), with
  hidden layers of 500 and 500 units.

  Source: Xie et al., Learning semantic representations for unsupervised domain adaptation, ICML 2018.

  Attributes:
    semantic_weight: weight of the centroids' distance. 0 is DANN.
    semantic_ramp: schedule of that weight, in steps. A `length` of 0 means the whole run.
    momentum: weight of the old centroids.
    absent: what happens to the centroid of a class that a batch lacks; see `losses.centroids.move_centroids`.
  """

  adversarial_weight: float = 0.2
  ramp: Ramp = Ramp(slope=10.0, length=10_000.0)
  semantic_weight: float = 1.0
  semantic_ramp: Ramp = Ramp(slope=10.0, length=10_000.0)
  momentum: float = 0.7
  absent: str = "keep"

  swept: ClassVar = (*DANN.swept, "semantic_weight")
  searched: ClassVar[Mapping[str, Distribution]] = {**DANN.searched, "semantic_weight": LogUniform(0.01, 100)}

  def __post_init__(self):
    super().__post_init__()
    if self.absent not in ABSENT:
      raise UserError(f"algorithm.absent is {self.absent!r}{nearest(self.absent, ABSENT)}")
    if not 0 <= self.momentum < 1:
      raise UserError(f"algorithm.momentum is {self.momentum}: it must be at least 0 and below 1")

  @property
  def centroids(self):
    return Centroids(ramp=self.semantic_ramp, momentum=self.momentum, absent=self.absent)
