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
    hidden: units of the discriminator's hidden layers; () is one linear layer.
    norm: whether these are normalised over the batch, that of both domains where there are two, before their ReLU.
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
    """The stage whose input is aligned; None: the network's output is."""
    return self.network.embedding

  def discriminate(self, params: Any, features: jax.Array) -> jax.Array:
    """The discriminator's logits (B, outputs) of features (B, d)."""
    logits: Any = self.discriminator.apply({"params": params["discriminator"]}, features)
    return logits


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reversing(Discriminating):
  """What those share whose features come to the discriminator through gradient reversal.

  Attributes:
    adversarial_weight: of the discriminator's loss; with 0 nothing is aligned.
    ramp: schedule of the reversal's coefficient, in steps; a `length` of 0 is the whole run.
  """

  adversarial_weight: float = 1.0
  ramp: Ramp = Ramp()

  swept: ClassVar[tuple[str, ...]] = ("adversarial_weight",)
  # DomainBed's, of its lambda
  searched: ClassVar[Mapping[str, Distribution]] = {"adversarial_weight": LogUniform(0.01, 100)}

  def coefficient(self, ramp: Ramp, step: jax.Array) -> jax.Array:
    """What `ramp` is at `step`, over the run where it has no length of its own; () float32 in [0, 1].

    Raises:
      UserError: it depends on the run's length, which is not known.
    """
    if not ramp.length:
      if not self.steps:
        raise UserError("a ramp of length 0 is over the whole run, whose length is not known: give its length in steps")
      ramp = dataclasses.replace(ramp, length=float(self.steps))
    return ramp(step)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DAN(Reversing):
  """Domain-adversarial network over the source domains, CrossGrad's baseline of that name.

  Mean label cross-entropy + `adversarial_weight` times the mean cross-entropy of a discriminator of all source domains.
  It sees the input of stage `network.embedding` through gradient reversal, whose coefficient is `ramp`'s. With a weight
  of 0 it is ERM.

  Source: CrossGrad, section 4, and its released code: the schedule, the weight, and the discriminator's widths. The
    code hands the discriminator the embedding twice, side by side, which is a linear layer with two kernels that are
    added, and is not done here.
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
    """Centroids before the first batch: zero, (classes, units) float32 of "source" and "target"."""
    return {name: jnp.zeros((classes, units)) for name in ("source", "target")}  # one buffer cannot be donated twice

  def move(self, old: Mapping[str, jax.Array], features: jax.Array, logits: jax.Array,
           labels: jax.Array) -> dict[str, jax.Array]:
    """Centroids after a batch: by label in the sources, by the largest logit in the target.

    Args:
      old: as `init` returns them.
      features: (S + T, units), of sources and then of the target.
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

  Mean label cross-entropy of the sources + `adversarial_weight` times the cross-entropy of a discriminator of sources
  and target, which sees the features through gradient reversal. Source domains are merged. Source and target go
  through the network as one batch, so that BatchNorm's statistics are of both.

  The default schedule is TLL's, 2 / (1 + exp(-step / 1000)) - 1; the paper's, over the whole run, is a slope of 10 and
  a length of 0. The loss averages the two domains (see `losses.adversarial`): the papers' sum is a weight of 2. With a
  weight of 0 it is training on the sources alone, but for BatchNorm's statistics.

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
    """The features (B, d) that are aligned, the logits (B, classes), and the statistics as `forward` returns them."""
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
      coefficient: of the reversal.

    Returns:
      (S + T, 1) float32.
    """
    return self.discriminate(params, reverse_gradient(features, coefficient))

  @property
  def centroids(self) -> Centroids | None:
    """How centroids of classes are drawn together; None, as here: they are not."""
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
  """Moving semantic transfer network: DANN, and the centroids of each class in both domains drawn together.

  Centroids are of the features that the discriminator sees, by label in the sources and by the network's own prediction
  in the target. They start at zero, are in `state.extra`, and under pmap are averaged over devices. The term is
  `semantic_weight` times `semantic_ramp` times `losses.centroids.semantic_distance`.

  Defaults are the released code's: a ramp of slope 10 over 10,000 steps for both terms (a length of 0 is the run's),
  and a tenth of the sum of the discriminator's two losses, which is 0.2 of their average. Its digits are aligned by
  their logits (`aligned`) with hidden layers of 500 and 500.

  Source: Xie et al., Learning semantic representations for unsupervised domain adaptation, ICML 2018.

  Attributes:
    semantic_weight: of the centroids' distance; 0 is DANN.
    semantic_ramp: schedule of it, in steps; a `length` of 0 is the whole run.
    momentum: weight of the old centroids.
    absent: what becomes of a class without an example in a batch, see `losses.centroids.move_centroids`.
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
