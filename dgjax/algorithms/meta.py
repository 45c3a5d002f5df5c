"""Meta-learning by episodes over the source domains: MLDG and MetaReg, DMG's baselines."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from dgjax.algorithms.alternating import Alternating
from dgjax.algorithms.base import Algorithm, Batch, Params, Phase, TrainState, accuracy
from dgjax.algorithms.ensembles import ensemble
from dgjax.distributions import LogUniform
from dgjax.errors import UserError
from dgjax.losses.classification import cross_entropies, cross_entropy


@dataclasses.dataclass(frozen=True, kw_only=True)
class Episodic(Algorithm):
  """What episodes need: losses by domain, and steps of gradient descent that can be differentiated."""

  def by_domain(self, logits: jax.Array, labels: jax.Array, domains: jax.Array) -> jax.Array:
    """Mean cross-entropy of each domain's examples in the batch, 0 for a domain that has none.

    Args:
      logits: (B, classes).
      labels, domains: (B,) int32.

    Returns:
      (domains,) float32; under pmap over the examples of all devices.
    """
    member = jax.nn.one_hot(domains, self.domains)
    totals, counts = self.average((cross_entropies(logits, labels) @ member, member.sum(0)))
    return totals / jnp.where(counts > 0, counts, 1)

  def inner_step(self, params: Params, grads: Params, rate: jax.Array) -> Params:
    """params - rate * grads. Under pmap the gradients are those of the whole batch."""
    return jax.tree.map(lambda p, g: p - rate * g, params, self.average(grads))

  def draw(self, state: Any, count: int) -> jax.Array:
    """Draws `count` different source domains for this step's episode: (count,) int32, the same on every device."""
    return jax.random.permutation(self.step_key(state, shared=True), self.domains)[:count]


@dataclasses.dataclass(frozen=True, kw_only=True)
class MLDG(Episodic):
  """In each step one source domain, drawn at random, is held out to test a gradient step on the others.

  The loss is F(theta) + meta_weight * G(theta - inner_rate * grad F(theta)), where F is the sum of the mean
  cross-entropies of the other domains and G that of the held-out one. Its gradient goes through the inner step unless
  `first_order`. The sum is the released code's, with which the defaults were tuned. The paper's F is a mean over the n
  other domains. To have it, divide the learning rate and `inner_rate` by n and multiply `meta_weight` by n.

  The released code draws 64 examples of each domain a step (`data.mixing=balanced`, `batch_size` 64 times the domains).
  Here each of the two passes runs the whole batch and counts the examples of its own domains, so that any mixture and
  any number of devices will do. A domain that a batch lacks counts 0. BatchNorm sees the whole batch.

  Source: Li et al., Learning to generalize: Meta-learning for domain generalization, AAAI 2018, Algorithm 1; defaults
    of the authors' code (alpha 0.5, beta 1).

  Attributes:
    inner_rate: learning rate alpha of the inner step.
    meta_weight: weight beta of the held-out domain's loss. 0 is ERM with the sum of the other domains' losses.
    first_order: whether the inner gradient is treated as a constant.
  """

  inner_rate: float = 0.5
  meta_weight: float = 1.0
  first_order: bool = False

  swept: ClassVar[tuple[str, ...]] = ("inner_rate", "meta_weight")
  searched: ClassVar = {"meta_weight": LogUniform(0.1, 10)}  # DomainBed's, of its mldg_beta

  def losses(self, params: Params, state: Any, batch: Any, key: jax.Array) -> tuple[jax.Array, Any]:
    """Each domain's loss (domains,), and a pair: running statistics and logits."""
    logits, batch_stats = self.forward(params, state, batch["image"], key)
    return self.by_domain(logits, batch["label"], batch["domain"]), (batch_stats, logits)

  def loss(self, params, state, batch, key):
    train_key, test_key = jax.random.split(key)
    held_out = jax.nn.one_hot(self.draw(state, 1)[0], self.domains)

    def meta_train(params):
      losses, aux = self.losses(params, state, batch, train_key)
      return losses @ (1 - held_out), aux

    (train_loss, (batch_stats, logits)), grads = jax.value_and_grad(meta_train, has_aux=True)(params)
    if self.first_order:
      grads = jax.lax.stop_gradient(grads)
    fast = self.inner_step(params, grads, state.hparams["inner_rate"])
    losses, (batch_stats, _) = self.losses(fast, state.replace(batch_stats=batch_stats), batch, test_key)
    test_loss = losses @ held_out
    loss = train_loss + state.hparams["meta_weight"] * test_loss
    metrics = {"loss": loss, "meta_train": train_loss, "meta_test": test_loss,
               "accuracy": accuracy(logits, batch["label"])}
    return loss, ({"batch_stats": batch_stats}, metrics)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MetaReg(Alternating, Episodic):
  """Learns a weighted L1 regulariser of the classifier by episodes, then trains a fresh classifier with it.

  R(theta) = sum_j phi_j |theta_j|, phi_j >= 0, over the parameters theta of the task network, which are the stages from
  `task` on. Each step of the first phase, `meta_share` of the run,

  - trains the trunk, and a task network per source domain, on the sum of the domains' mean cross-entropies, each under
    its own task network;
  - draws domains a and b and takes `inner_steps` steps down the loss on a's examples plus R, starting from a's new task
    network, on the new trunk's features;
  - updates phi by the loss on b's examples, differentiating through the inner steps. The trunk is fixed in these.

  In the second phase phi stays as it is and the optimiser's moments start anew. A fresh task network is trained with
  the trunk on all sources, on cross-entropy plus R. Until then predictions are those of the untrained task network.

  The authors' code could not be found. The algorithm is the paper's, as DMG and others recount it. The paper's loop
  over domains takes a step for each; here one step descends the sum of their gradients, all taken where the step
  starts, as the indices of the paper's updates have it. The following choices are ours. An episode's examples are those
  of the step's own batch. Its pass through the trunk leaves the running statistics alone. The trunk goes on from where
  the first phase left it. phi starts at `initial` and is clipped at 0. All rates are ours too.

  Source: Balaji et al., MetaReg: Towards domain generalization using meta-regularization, NeurIPS 2018, Algorithm 1.
    DMG, section 4.1, trains it with SGD, as Adam failed.

  Attributes:
    task: first stage of the task network, whose stages must have no BatchNorm; default: the network's last stage.
    meta_share: share of the run in which the regulariser is learned, in (0, 1).
    inner_steps: number l of steps in an episode.
    inner_rate: learning rate of an episode's steps.
    regulariser_rate: learning rate of phi.
    initial: initial value of every phi_j, at least 0.
  """

  task: str = ""
  meta_share: float = 0.5
  inner_steps: int = 1
  inner_rate: float = 0.1
  regulariser_rate: float = 0.1
  initial: float = 0.0

  swept: ClassVar[tuple[str, ...]] = ("inner_rate", "regulariser_rate")
  searched: ClassVar = {"regulariser_rate": LogUniform(0.01, 1)}

  def __post_init__(self):
    if not 0 < self.meta_share < 1:
      raise UserError(f"algorithm.meta_share is {self.meta_share}: it must be between 0 and 1")
    if self.inner_steps < 1:
      raise UserError(f"algorithm.inner_steps is {self.inner_steps}: it must be at least 1")
    if self.domains < 2:
      raise UserError("algorithm.name=metareg needs at least two source domains")

  @property
  def first_task_stage(self) -> str:
    """Name of the stage at which the task network begins."""
    return self.task or self.network.names[-1]

  @property
  def meta_steps(self) -> int:
    """Number of steps in which the regulariser is learned."""
    if not self.steps:
      raise ValueError("MetaReg has to know the length of the run: set `steps`")
    return round(self.meta_share * self.steps)

  def split(self, network: Params) -> tuple[Params, Params]:
    """Splits a network's parameters into those of the trunk and those of the task network."""
    return self.network.split(network, self.first_task_stage)

  def init_params(self, key, images):
    network_key, task_key = jax.random.split(key)
    params, batch_stats = super().init_params(network_key, images)
    if self.split(batch_stats["network"])[1]:
      raise UserError(f"algorithm.task is {self.first_task_stage!r}: the task network must be without BatchNorm")
    features = self.entering(params, batch_stats, images, self.first_task_stage)
    fresh = lambda key: self.network.init(key, features, start=self.first_task_stage)["params"]  # noqa: E731
    params["tasks"] = jax.vmap(fresh)(jax.random.split(task_key, self.domains))
    return params, batch_stats

  def init_extra(self, params):
    return {"regulariser": jax.tree.map(lambda x: jnp.full_like(x, self.initial), self.split(params["network"])[1])}

  def task_logits(self, task: Params, features: jax.Array, key: jax.Array) -> jax.Array:
    """Logits (B, classes) of a task network in training."""
    logits: Any = self.network.apply({"params": task}, features, start=self.first_task_stage, train=True,
                                     rngs={"dropout": key})
    return logits

  def penalty(self, regulariser: Params, task: Params) -> jax.Array:
    """R: the weighted L1 norm of a task network; () float32."""
    terms = jax.tree.map(lambda phi, theta: (phi * jnp.abs(theta)).sum(), regulariser, task)
    return jax.tree.reduce(jnp.add, terms)

  def episode(self, regulariser: Params, tasks: Params, features: jax.Array, batch: Any, pair: jax.Array,
              inner_rate: jax.Array, key: jax.Array) -> jax.Array:
    """Loss on domain b after inner steps on domain a.

    Args:
      regulariser: phi, which the result is differentiated by.
      tasks: task networks of all domains, stacked.
      features: (B, ...), output of the trunk.
      batch: supplies `label` and `domain`.
      pair: (2,) int32, a and b.
      inner_rate: () float32.
      key: PRNG key of dropout.

    Returns:
      () float32.
    """
    def on(domain, task):
      return self.by_domain(self.task_logits(task, features, key), batch["label"], batch["domain"])[domain]

    task = jax.tree.map(lambda leaf: leaf[pair[0]], tasks)
    for _ in range(self.inner_steps):
      grads = jax.grad(lambda task: on(pair[0], task) + self.penalty(regulariser, task))(task)
      task = self.inner_step(task, grads, inner_rate)
    return on(pair[1], task)

  def task_losses(self, params, state, batch, key):
    """The first phase's loss: the sum over domains of the mean cross-entropy under the domain's own task network."""
    trunk_key, task_key = jax.random.split(key)
    features, batch_stats = self.forward(params, state, batch["image"], trunk_key, stop=self.first_task_stage)
    each = jax.vmap(lambda task: self.task_logits(task, features, task_key))(params["tasks"])
    logits = ensemble(each, batch["domain"])["known"]
    loss = self.by_domain(logits, batch["label"], batch["domain"]).sum()
    return loss, ({"batch_stats": batch_stats}, {"loss": loss, "accuracy": accuracy(logits, batch["label"])})

  def learn_regulariser(self, state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, jax.Array]]:
    """A step of the first phase."""
    step_key = self.step_key(state)
    keys = [jax.random.fold_in(step_key, i) for i in range(3)]
    after, metrics = self.descend(self.task_losses, ("network", "tasks"), state, batch, keys[0])
    # Without a gradient, weight decay would still move the second phase's task network.
    trunk, task = self.split(after.params["network"])[0], self.split(state.params["network"])[1]
    after = after.replace(params={**after.params, "network": {**trunk, **task}})

    features, _ = self.forward(after.params, after, batch["image"], keys[1], stop=self.first_task_stage)
    phi = state.extra["regulariser"]
    meta_loss, by_phi = jax.value_and_grad(self.episode)(phi, after.params["tasks"], features, batch,
                                                         self.draw(state, 2), state.hparams["inner_rate"], keys[2])
    phi = jax.tree.map(lambda phi, g: jnp.maximum(phi - state.hparams["regulariser_rate"] * g, 0), phi,
                       self.average(by_phi))
    return after.replace(step=state.step + 1, extra={"regulariser": phi}), {**metrics, "meta_loss": meta_loss}

  def start_anew(self, state: TrainState) -> TrainState:
    """The optimiser's moments start anew."""
    return state.replace(opt_state=self.moments(state.params, state.hparams, state.step))

  def loss(self, params, state, batch, key):
    """The second phase's loss: cross-entropy plus R of the fresh task network."""
    logits, batch_stats = self.forward(params, state, batch["image"], key)
    penalty = self.penalty(state.extra["regulariser"], self.split(params["network"])[1])
    loss = cross_entropy(logits, batch["label"]) + penalty
    return loss, ({"batch_stats": batch_stats}, {"loss": loss, "penalty": penalty,
                                                 "accuracy": accuracy(logits, batch["label"])})

  def train(self, state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, jax.Array]]:
    """A step of the second phase."""
    state, metrics = self.descend(self.loss, ("network",), state, batch, self.step_key(state))
    return state.replace(step=state.step + 1), metrics

  @property
  def phases(self):
    return (Phase("regulariser", 0, self.learn_regulariser),
            Phase("training", self.meta_steps, self.train, self.start_anew))

  def arrays(self, state):
    flat = traverse_util.flatten_dict(state.extra["regulariser"], sep="/")
    return {"regulariser": {name: np.asarray(value) for name, value in flat.items()}}
