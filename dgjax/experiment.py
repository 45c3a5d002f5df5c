"""The parts of a run: everything that follows from a config and a data set, assembled in one place."""

import dataclasses
import functools
import importlib.metadata
import math
import platform
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

import dgjax
from dgjax import algorithms, data, models, ops, parallel
from dgjax.algorithms import Algorithm, TrainState
from dgjax.config import check
from dgjax.data import Dataset, pipeline
from dgjax.errors import UserError, nearest
from dgjax.evaluation.evaluator import Counts, Measured, Split
from dgjax.parallel import Devices


@dataclasses.dataclass(frozen=True, eq=False)
class Experiment:
  """The parts of a run. Training, opening a finished run, benchmarks and notebooks all get them from here.

  Attributes:
    config: the config of one run, with one target domain and one seed.
    dataset: the run's data set. For an opened run it may be the description alone (`Dataset.from_facts`).
    sources: the domains that are trained on, in the data set's order.
    algorithm: the method, with its network and optimiser.
    devices: the devices that compute the run.
    steps: number of updates in the whole run.
    steps_per_epoch: length of a pass over the sources' training examples in updates, in general no whole number.
  """

  config: ConfigDict
  dataset: Dataset
  sources: tuple[str, ...]
  algorithm: Algorithm
  devices: Devices
  steps: int
  steps_per_epoch: float

  @classmethod
  def build(cls, config: ConfigDict, dataset: Dataset | None = None) -> "Experiment":
    """Assembles a run.

    Args:
      config: as `dgjax.load_config` returns it, with `target` naming one domain.
      dataset: the data set; default: the one that `config.data` names, which is prepared if necessary.

    Raises:
      UserError: a value, name or domain is not known or does not fit, or the data cannot be used.
    """
    check(config)
    dataset = dataset or data.load(config.data, config.seed)
    sources = source_domains(config, dataset)
    steps_per_epoch = sum(dataset.splits[domain]["train"] for domain in sources) / config.batch_size
    steps = config.steps or math.ceil(config.epochs * steps_per_epoch)
    devices = parallel.make(config.parallel, config.devices, config.batch_size, target_batch_size(config))
    algorithm = algorithms.build(config, classes=len(dataset.classes), domains=len(dataset.groups or sources),
                                 steps_per_epoch=steps_per_epoch, steps=steps)
    algorithm = dataclasses.replace(algorithm, axis=devices.axis)
    return cls(config, dataset, sources, algorithm, devices, steps, steps_per_epoch)

  @property
  def target(self) -> str:
    """The domain that is scored. Training never sees its labels."""
    return self.config.target

  def normalise(self, batch: Mapping[str, Any]) -> dict[str, Any]:
    """Normalises the images, or arrays, of a batch or of its parts to float32, on the device."""
    return normalise(self.dataset, batch)

  def batches(self) -> pipeline.TrainStream:
    """The endless stream of this process's training batches.

    Raises:
      UserError: a split is empty, or a batch size does not divide.
    """
    config = self.config
    options = {"seed": config.seed, "image_size": config.data.image_size, "augment": config.data.augment,
               "process_index": jax.process_index(), "process_count": jax.process_count(),
               "threads": config.data.threads, "prefetch": config.data.prefetch}
    stream = pipeline.train(self.dataset, self.sources, batch_size=config.batch_size, mixing=config.data.mixing,
                            **options)
    if not self.algorithm.adapts:
      return stream
    return pipeline.with_target(stream, pipeline.unlabelled(self.dataset, self.target,
                                                            batch_size=target_batch_size(config), **options))

  def check_splits(self) -> None:
    """Refuses empty splits, and batches larger than the data, before anything is compiled.

    Raises:
      UserError: the message names the split or the setting.
    """
    pipeline.check_splits(self.dataset, self.sources, self.target, self.algorithm.adapts, self.config.batch_size,
                          target_batch_size(self.config), self.validates)

  @property
  def validates(self) -> bool:
    """Whether the sources are validated on. They are, unless none has a validation split and the last state counts."""
    config = self.config
    held_out = any(self.dataset.splits[domain]["val"] for domain in self.sources)
    return held_out or config.report != "last" or config.early_stop > 0

  def batch_shapes(self, size: int = 2) -> dict[str, Any]:
    """Shapes and dtypes of a normalised batch, from which a state is made. Any batch size will do for that."""
    shape, _ = self.dataset.example(self.config.data.image_size)
    return batch_shapes(shape, self.algorithm.adapts, size)

  def first_state(self, init: Callable[[jax.Array], TrainState] | None = None) -> TrainState:
    """The run's state before the first update, with published weights where the config names a file.

    Args:
      init: the compiled `init` of another run of the same shape; default: this run's.

    Raises:
      UserError: the weights cannot be read, or do not fit the network.
    """
    state = (init or self.init)(jax.random.key(self.config.seed))
    if not self.config.model.weights:
      return state
    network = self.algorithm.network
    head = network.names[network.index(network.head):]
    apart = head if len(head) > 1 else ()  # behind a bottleneck no published network has weights
    networks = {"params": state.params["network"], "batch_stats": state.batch_stats["network"]}
    published = {kind: {name: tree[name] for name in tree if name not in apart} for kind, tree in networks.items()}
    loaded = models.weights.load(self.config.model.weights, published, fresh_head=head[-1],
                                 fresh=models.dynamic.PATTERN)
    state = state.replace(
        params={**state.params, "network": {**networks["params"], **loaded["params"]}},
        batch_stats={**state.batch_stats, "network": {**networks["batch_stats"], **loaded["batch_stats"]}})
    return jax.device_put(state, self.devices.replicated)

  def state_shapes(self) -> TrainState:
    """The state's shapes and dtypes, with the sharding of training. A checkpoint is read into them."""
    shapes = jax.eval_shape(lambda: self.algorithm.init(
        jax.random.key(0), jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), self.batch_shapes())))
    where = self.devices.replicated
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), shapes)

  @functools.cached_property
  def init(self) -> Callable[[jax.Array], TrainState]:
    """The compiled function from a key to a fresh state, without published weights."""
    return self.devices.init(self.algorithm, self.batch_shapes())

  @property
  def known(self) -> bool:
    """Whether the sources' held-out examples are of domains that were trained on."""
    return self.dataset.groups is None

  @property
  def members(self) -> tuple[str, ...]:
    """Names of the domains that were trained on, as a method's `domain` counts them."""
    return self.dataset.groups or self.sources

  def scored(self) -> list[Split]:
    """The scored splits: those held out of the sources, and the target's test and validation splits."""
    splits = [Split(domain, "val", self.known) for domain in self.sources if self.validates]
    if self.dataset.source_test:
      splits += [Split(domain, "test", self.known) for domain in self.sources]
      if self.dataset.splits[self.target]["val"]:
        splits.append(Split(self.target, "val", False))
    return [*splits, Split(self.target, "test", False)]

  def evaluation_batches(self, domain: str, split: str) -> pipeline.EvalBatches:
    """Every image of a split exactly once, in batches that the devices divide.

    Raises:
      UserError: the split is empty.
    """
    size = math.ceil(self.config.eval_batch_size / self.devices.mesh.size) * self.devices.mesh.size
    index = self.sources.index(domain) if domain in self.sources else 0
    return pipeline.evaluate(self.dataset, domain, split, batch_size=size, image_size=self.config.data.image_size,
                             domain_index=index, process_index=jax.process_index(),
                             process_count=jax.process_count(), threads=self.config.data.threads)

  def measured(self, counts: Mapping[Split, Counts]) -> Measured:
    """The outcome of an evaluation, from the counts of every split of `scored`."""
    validation = (self.known and self.algorithm.validation) or self.algorithm.prediction
    return Measured(counts, self.sources, self.target, self.members, validation, self.algorithm.prediction,
                    self.dataset.source_test)

  def evaluates(self, step: int) -> bool:
    """Whether an evaluation follows `step` updates: every `eval_every` steps, or after each epoch, and at the end."""
    return due(step, self.steps, self.config.eval_every, self.steps_per_epoch)

  def describe(self, runs: int = 1) -> str:
    """One line that says what is trained on which domains, how long and on which devices."""
    shapes = self.state_shapes().params
    several = f"{runs} runs of " if runs > 1 else ""
    domains = f"{', '.join(self.sources)} -> {self.target}"
    return (f"{several}{self.config.algorithm.name} on {self.dataset.name}, {domains}: {self.steps} steps of "
            f"{self.config.batch_size} examples ({self.steps_per_epoch:.1f} an epoch), "
            f"{sum(x.size for x in jax.tree.leaves(shapes))} parameters, {self.config.parallel} over "
            f"{self.devices.mesh.size} device(s), {ops.describe() if self.devices.mesh.size == 1 else 'xla'}")

  def record(self) -> dict[str, Any]:
    """What a run's folder keeps so that its states can be opened without the data; see `from_record`."""
    return {"data": self.dataset.facts(), "sources": list(self.sources), "target": self.target,
            "image_size": self.config.data.image_size, "prediction": self.algorithm.prediction,
            "versions": versions()}

  @classmethod
  def from_record(cls, config: ConfigDict, record: Mapping[str, Any]) -> "Experiment":
    """Assembles a run again, on one device, from what its folder records. The data need not be there.

    Args:
      config: the config as the run resolved it.
      record: what `record` returned.
    """
    config = config.copy_and_resolve_references()
    config.devices, config.parallel = 1, "jit"
    return cls.build(config, Dataset.from_facts(record["data"]))


def due(step: int, total: int, every: int, steps_per_epoch: float) -> bool:
  """Whether an evaluation follows `step` updates: every `every` steps, or after each epoch, and at the end."""
  if step == total:
    return True
  if every:
    return step > 0 and step % every == 0
  return math.floor(step / steps_per_epoch) > math.floor((step - 1) / steps_per_epoch) and step > 0


def kept(state: TrainState) -> TrainState:
  """The part of a state that evaluation and prediction need: everything but the optimiser's moments."""
  return state.replace(opt_state=())


def source_domains(config: ConfigDict, dataset: Dataset) -> tuple[str, ...]:
  """The source domains of a run, in the data set's order.

  Raises:
    UserError: the target or a source is not a domain that can have this use, or they overlap.
  """
  named = [name.strip() for name in config.sources.split(",")] if config.sources else None
  can_train, can_test = dataset.sources or dataset.domains, dataset.targets or dataset.domains
  wanted = [("target", config.target, can_test), *[("sources", name, can_train) for name in named or ()]]
  for key, domain, possible in wanted:
    if domain not in dataset.domains:
      raise UserError(f"config.{key} is {domain!r}, no domain of {dataset.name}{nearest(domain, dataset.domains)}")
    if domain not in possible:
      raise UserError(f"config.{key} is {domain!r}, which {dataset.name} has for another use: "
                      f"use {' or '.join(possible)}")
  if named and config.target in named:
    raise UserError(f"config.sources names {config.target!r}, which is the target")
  return tuple(name for name in can_train if name != config.target and (named is None or name in named))


def target_batch_size(config: ConfigDict) -> int:
  """Number of target images in a batch; 0 for methods that do not adapt."""
  if not algorithms.adapts(config.algorithm.name):
    return 0
  return config.target_batch_size or config.batch_size


def normalise(dataset: Dataset, batch: Mapping[str, Any]) -> dict[str, Any]:
  """Normalises a batch by a data set's mean and standard deviation.

  Args:
    dataset: the data set, whose `mean` and `std` are used.
    batch: a dict with `image`, (..., channels) uint8 or float32, or a dict of parts that are such batches.

  Returns:
    The batch with float32 images. uint8 images are divided by 255 first.
  """
  if "image" not in batch:
    return {part: normalise(dataset, batch[part]) for part in batch}
  image = batch["image"]
  mean, std = (jnp.asarray(values, jnp.float32).reshape(1, 1, -1, image.shape[-1])
               for values in (dataset.mean, dataset.std))
  scaled = image.astype(jnp.float32) / 255 if image.dtype == jnp.uint8 else image
  return {**batch, "image": (scaled - mean) / std}


def batch_shapes(shape: tuple[int, ...], adapts: bool, size: int = 2) -> dict[str, Any]:
  """Shapes and dtypes of a normalised batch.

  Args:
    shape: of one example, (h, w, c).
    adapts: whether the batch has a target part.
    size: number of examples in the batch, or in each part.
  """
  image = jax.ShapeDtypeStruct((size, *shape), jnp.float32)
  number = jax.ShapeDtypeStruct((size,), jnp.int32)
  labelled = {"image": image, "label": number, "domain": number}
  return {"source": labelled, "target": {"image": image}} if adapts else labelled


def versions() -> dict[str, str]:
  """Versions of Python, of this package and of what its numbers depend on."""
  return {"python": platform.python_version(), "dgjax": dgjax.__version__,
          **{name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "flax", "optax", "numpy")}}
