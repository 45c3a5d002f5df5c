"""Maximum classifier discrepancy: two heads disagree on the target where its features are far from the source's."""

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from dgjax.algorithms.alternating import Alternating
from dgjax.algorithms.base import Batch, Params, TrainState, accuracy
from dgjax.algorithms.ensembles import ensemble
from dgjax.algorithms.self_training import SelfTrained, labelled
from dgjax.distributions import Distribution, LogUniform
from dgjax.errors import UserError, nearest
from dgjax.losses.classification import smoothed_cross_entropies
from dgjax.losses.discrepancy import class_balance, discrepancy
from dgjax.models.layers import HEAD_INITS
from dgjax.models.mlp import NormedHidden
from dgjax.models.network import Network
from dgjax.ops.reversal import reverse_gradient

FORMS = ("three_step", "one_step")
PASSES = ("separate", "joint")


@dataclasses.dataclass(frozen=True, kw_only=True)
class MCD(SelfTrained, Alternating):
  """A trunk and two heads. The heads learn to disagree on the target, and the trunk learns to make them agree.

  CE is the sum of both heads' cross-entropies on the source, D the mean absolute difference of their probabilities on
  the target, and H the sum of both heads' `class_balance` on the target. A step of the form "three_step" is

  A. all parameters descend CE + balance_weight * H;
  B. the heads descend CE + balance_weight * H - discrepancy_weight * D;
  C. the trunk descends discrepancy_weight * D, `generator_steps` times.

  Trunk and heads have optimisers of their own: parameters that a step does not train stay as they are. By default
  source and target pass through the network one after the other, and step C passes the target alone, as in the released
  code for digits. BatchNorm normalises each by its own statistics, and the running statistics see every pass in turn.
  With `passes="joint"` source and target are one batch in all three steps, as in TLL and in the released code for
  VisDA, whose networks are ResNets. In the latter the trunk's SGD has no momentum (`generator_momentum=False`).

  In the form "one_step" all parameters descend CE + balance_weight * H - discrepancy_weight * D. For D the features
  reach the heads through gradient reversal with coefficient `reversal`, so the trunk descends `reversal` times D.
  Source and target pass through the network together, whatever `passes` says. The target's features then pass through
  the heads once more, for D.

  Source: Saito et al., Maximum classifier discrepancy for unsupervised domain adaptation, CVPR 2018, section 3.3, and
    its code: 4 generator steps, separate optimisers, D as a mean over classes, and H (in the code for VisDA, with
    weight 0.01). The form "one_step" is that of the released code of Li et al. 2021 (DRT), with discrepancy_weight 50,
    reversal 4, balance_weight 0.01, label_smoothing 0.01 (0.1 where infograph or quickdraw is the target), heads of
    `hidden` 1000 and 1000, and prediction "max_logit". Of these DRT's paper states only the 50. It was tuned for 345
    classes, and D is at most 2 / classes.

  Attributes:
    form: "three_step" or "one_step".
    passes: how source and target go through the network in the form "three_step": "separate", one after the other, or
      "joint", as one batch.
    head: the stage at which a head begins; default: `network.embedding`.
    hidden: numbers of units of further layers at the beginning of a head; each is dropout of 0.5, linear, BatchNorm and
      ReLU.
    hidden_init: initialisation of these layers; values as for `model.head_init`.
    generator_steps: how often step C is taken, at least 0.
    generator_momentum: whether the trunk's optimiser has the momentum that the heads' optimiser has.
    discrepancy_weight: weight of the discrepancy D.
    reversal: coefficient of gradient reversal in the form "one_step".
    balance_weight: weight of the class balance H.
    label_smoothing: label smoothing of CE, in [0, 1); see `smoothed_cross_entropies`.
  """

  prediction: str = "pred_ens"
  form: str = "three_step"
  passes: str = "separate"
  head: str = ""
  hidden: tuple[int, ...] = ()
  hidden_init: str = "uniform"
  generator_steps: int = 4
  generator_momentum: bool = True
  discrepancy_weight: float = 1.0
  reversal: float = 4.0
  balance_weight: float = 0.0
  label_smoothing: float = 0.0

  swept: ClassVar[tuple[str, ...]] = ("discrepancy_weight", "reversal", "balance_weight", "label_smoothing")
  searched: ClassVar[Mapping[str, Distribution]] = {"discrepancy_weight": LogUniform(0.1, 100)}

  def __post_init__(self):
    for key, known in (("form", FORMS), ("passes", PASSES), ("hidden_init", HEAD_INITS)):
      if getattr(self, key) not in known:
        raise UserError(f"algorithm.{key} is {getattr(self, key)!r}{nearest(getattr(self, key), known)}")
    if self.generator_steps < 0:
      raise UserError(f"algorithm.generator_steps is {self.generator_steps}: it must be at least 0")
    if not self.generator_momentum and self.optimizer.name not in ("sgd", "rmsprop"):
      raise UserError(f"algorithm.generator_momentum is false, but {self.optimizer.name} has no momentum to leave out: "
                      "set optimizer.name=sgd, or leave generator_momentum true")

  def optimizer_of(self, name):
    without = name == "network" and not self.generator_momentum
    return dataclasses.replace(self.optimizer, momentum=0.0) if without else self.optimizer

  @property
  def scalars(self):
    scalars = super().scalars
    if self.form != "one_step":
      del scalars["reversal"]  # which three steps do not have
    return scalars

  @property
  def first_head_stage(self) -> str:
    """The name of the stage at which a head begins."""
    return self.head or self.network.embedding

  @property
  def pairs(self) -> int:
    """Number of pairs of heads."""
    return 1

  @property
  def classifier(self) -> Network:
    """One head, as a network of its own."""
    stages = self.network.stages[self.network.index(self.first_head_stage):]
    hidden = [(f"hidden{i}", partial(NormedHidden, width, linear_init=self.hidden_init))
              for i, width in enumerate(self.hidden, 1)]
    return Network((*hidden, *stages), {}, self.first_head_stage)

  def init_params(self, key, images):
    network_key, head_key = jax.random.split(key)
    params, batch_stats = super().init_params(network_key, images)
    features = self.entering(params, batch_stats, images, self.first_head_stage)
    heads = jax.vmap(lambda key: self.classifier.init(key, features))(jax.random.split(head_key, 2 * self.pairs))
    trunk = lambda tree: self.network.split(tree["network"], self.first_head_stage)[0]  # noqa: E731
    return ({"network": trunk(params), "heads": heads["params"]},
            {"network": trunk(batch_stats), "heads": heads.get("batch_stats", {})})

  def heads(self, params: Params, state: TrainState, features: jax.Array, key: jax.Array) -> tuple[jax.Array, Any]:
    """Runs every head in training, each with its own dropout.

    Returns:
      Logits (pairs, 2, B, classes), and the state's statistics with those of the heads updated.
    """
    def one(params, batch_stats, key):
      logits, new = self.classifier.apply({"params": params, "batch_stats": batch_stats}, features, train=True,
                                          mutable=["batch_stats"], rngs={"dropout": key})
      return logits, new.get("batch_stats", {})

    keys = jax.random.split(key, 2 * self.pairs)
    logits, new = jax.vmap(one)(params["heads"], state.batch_stats["heads"], keys)
    return logits.reshape(self.pairs, 2, *logits.shape[1:]), {**state.batch_stats, "heads": new}

  def run(self, params: Params, state: TrainState, images: jax.Array,
          key: jax.Array) -> tuple[jax.Array, jax.Array, Any]:
    """Runs images in training: features (B, ...), logits (pairs, 2, B, classes) and updated statistics."""
    trunk_key, head_key = jax.random.split(key)
    features, batch_stats = self.forward(params, state, images, trunk_key, stop=self.first_head_stage)
    logits, batch_stats = self.heads(params, state.replace(batch_stats=batch_stats), features, head_key)
    return features, logits, batch_stats

  def run_joint(self, params: Params, state: TrainState, batch: Batch, key: jax.Array) -> Any:
    """Runs source and target as one batch in training: features and logits of each, and updated statistics."""
    count = len(batch["source"]["image"])
    images = jnp.concatenate([batch["source"]["image"], batch["target"]["image"]])
    features, logits, batch_stats = self.run(params, state, images, key)
    return (features[:count], logits[:, :, :count]), (features[count:], logits[:, :, count:]), batch_stats

  def run_in_turn(self, params: Params, state: TrainState, batch: Batch, key: jax.Array) -> Any:
    """Runs the source, then the target, in training. Returns what `run_joint` returns."""
    source_key, target_key = jax.random.split(key)
    *source, batch_stats = self.run(params, state, batch["source"]["image"], source_key)
    state = state.replace(batch_stats=batch_stats)
    *target, batch_stats = self.run(params, state, batch["target"]["image"], target_key)
    return source, target, batch_stats

  def member(self, batch: Batch) -> jax.Array:
    """Which pair of heads learns each source example, (B, pairs) float32 of 0 and 1."""
    return jnp.ones((len(batch["source"]["label"]), 1), jnp.float32)

  def classification(self, state: TrainState, batch: Batch, source: jax.Array, target: jax.Array) -> jax.Array:
    """CE: the sum over heads of the mean cross-entropy over each head's examples.

    In self-training confident target images are examples of every pair. A pair without examples counts 0.

    Args:
      state: holds the label smoothing.
      batch: as `update` takes it.
      source: logits (pairs, 2, S, classes).
      target: logits (pairs, 2, T, classes).

    Returns:
      () float32; under pmap over the examples of all devices.
    """
    logits, labels, weights = labelled(batch, source, target)
    losses = jax.vmap(jax.vmap(lambda logits: smoothed_cross_entropies(logits, labels,
                                                                       state.hparams["label_smoothing"])))(logits)
    member = self.member(batch)
    member = jnp.pad(member, ((0, len(labels) - len(member)), (0, 0)), constant_values=1) * weights.reshape(-1, 1)
    totals, counts = self.average((jnp.einsum("pib,bp->p", losses, member), member.sum(0)))
    return (totals / jnp.where(counts > 0, counts, 1)).sum()

  def disagreement(self, target: jax.Array) -> jax.Array:
    """D, summed over pairs, of logits (pairs, 2, T, classes)."""
    return jax.vmap(lambda pair: discrepancy(*pair))(target).sum()

  def alignment(self, state: TrainState, batch: Batch, source: jax.Array,
                target: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
    """A further term of step A that aligns features (S, ...) and (T, ...), and its metrics; here none."""
    return jnp.zeros(()), {}

  def fit(self, state: TrainState, batch: Batch, source: tuple[jax.Array, jax.Array],
          target: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The loss without D, and metrics, from features and logits of the source and of the target."""
    hparams = state.hparams
    cross_entropy = self.classification(state, batch, source[1], target[1])
    each = target[1].reshape(-1, *target[1].shape[2:])
    balance = jax.vmap(lambda logits: class_balance(logits, self.average))(each).sum()
    alignment, metrics = self.alignment(state, batch, source[0], target[0])
    loss = cross_entropy + hparams["balance_weight"] * balance + alignment
    return loss, {"cross_entropy": cross_entropy, "balance": balance, **metrics,
                  "accuracy": accuracy(source[1].mean((0, 1)), batch["source"]["label"])}

  def three_step_loss(self, params: Params, state: TrainState, batch: Batch, key: jax.Array,
                      weight: jax.Array) -> tuple[jax.Array, Any]:
    """The loss of steps A (`weight` 0) and B (the weight of D)."""
    run = self.run_joint if self.passes == "joint" else self.run_in_turn
    source, target, batch_stats = run(params, state, batch, key)
    fit, metrics = self.fit(state, batch, source, target)
    distance = self.disagreement(target[1])
    loss = fit - weight * distance
    return loss, ({"batch_stats": batch_stats}, {"loss": loss, "discrepancy": distance, **metrics})

  def generator_loss(self, params: Params, state: TrainState, batch: Batch, key: jax.Array) -> tuple[jax.Array, Any]:
    """The loss of step C."""
    if self.passes == "joint":
      _, (_, logits), batch_stats = self.run_joint(params, state, batch, key)
    else:
      _, logits, batch_stats = self.run(params, state, batch["target"]["image"], key)
    loss = state.hparams["discrepancy_weight"] * self.disagreement(logits)
    return loss, ({"batch_stats": batch_stats}, {})

  def one_step_loss(self, params: Params, state: TrainState, batch: Batch, key: jax.Array) -> tuple[jax.Array, Any]:
    """The loss of the form "one_step". The trunk's gradient of D is reversed."""
    key, again_key = jax.random.split(key)
    source, target, batch_stats = self.run_joint(params, state, batch, key)
    fit, metrics = self.fit(state, batch, source, target)
    again, batch_stats = self.heads(params, state.replace(batch_stats=batch_stats),
                                    reverse_gradient(target[0], state.hparams["reversal"]), again_key)
    distance = self.disagreement(again)
    loss = fit - state.hparams["discrepancy_weight"] * distance
    return loss, ({"batch_stats": batch_stats}, {"loss": loss, "discrepancy": distance, **metrics})

  def update(self, state, batch):
    keys = jax.random.split(self.step_key(state), 3)
    everything = ("network", "heads")
    if self.form == "one_step":
      state, metrics = self.descend(self.one_step_loss, everything, state, batch, keys[0])
    else:
      state, metrics = self.descend(self.three_step_loss, everything, state, batch, keys[0], jnp.zeros(()))
      state, _ = self.descend(self.three_step_loss, ("heads",), state, batch, keys[1],
                              state.hparams["discrepancy_weight"])
      for key in jax.random.split(keys[2], self.generator_steps):  # XLA's convolutions on CPU are slow inside a scan
        state, _ = self.descend(self.generator_loss, ("network",), state, batch, key)
    return state.replace(step=state.step + 1), metrics

  def head_logits(self, state: TrainState, images: jax.Array) -> jax.Array:
    """Logits (2 * pairs, B, classes) of images under every head in evaluation."""
    features = self.evaluate(state, images, stop=self.first_head_stage)

    def one(params, batch_stats):
      return self.classifier.apply({"params": params, "batch_stats": batch_stats}, features)

    return jax.vmap(one)(state.params["heads"], state.batch_stats["heads"])

  def outputs(self, state, images, domain=None):
    """Logits (B, classes) under every way to predict.

    "pred_ens" and "prob_ens" average over the heads. "max_logit" takes, for each image, the head that is surest.
    "head/0" and so on are the heads alone.
    """
    logits = self.head_logits(state, images)
    surest = logits.max(-1).argmax(0)
    together = ensemble(logits)
    return {"pred_ens": together["pred_ens"], "prob_ens": together["prob_ens"],
            "max_logit": jnp.take_along_axis(logits, surest[None, :, None], axis=0)[0],
            **{f"head/{i}": head for i, head in enumerate(logits)}}
