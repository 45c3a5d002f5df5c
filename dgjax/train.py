"""One run: train on the source domains, select by their validation splits, score the target."""

import dataclasses
import functools
import json
import logging
import math
import pathlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tqdm
from ml_collections import ConfigDict

from dgjax import algorithms, data, models, ops, parallel
from dgjax.algorithms import Algorithm, Batch, TrainState
from dgjax.checkpoint import Checkpoints
from dgjax.config import check, differences
from dgjax.data import Dataset, pipeline
from dgjax.errors import UserError, nearest
from dgjax.evaluation import selection as rules
from dgjax.evaluation.accuracy import Evaluator, accuracy, class_accuracy
from dgjax.preemption import Preempted, StopSignal
from dgjax.recorder import Recorder

log = logging.getLogger("dgjax")


def run(config: ConfigDict, workdir: pathlib.Path, command: str = "") -> dict[str, Any]:
  """Trains and evaluates one run, or goes on with it where a checkpoint is.

  Args:
    config: of one target domain.
    workdir: the run's folder; what it will hold is in the README.
    command: how the run was started, for its `results.json`.

  Returns:
    The contents of `results.json`.

  Raises:
    Preempted: a signal asked it to stop; everything is saved.
    UserError: the config, the data or the folder is wrong, or the loss was not finite.
  """
  check(config)
  workdir = workdir.absolute()
  if finished := prepare_folder(workdir, config):
    log.info("%s is finished; delete it to run again", workdir)
    return finished

  dataset = data.load(config.data, config.seed)
  sources = source_domains(config, dataset)
  adapts = algorithms.adapts(config.algorithm.name)
  target_batch_size = (config.target_batch_size or config.batch_size) if adapts else 0
  layout = parallel.make(config.parallel, config.devices, config.batch_size, target_batch_size)
  rank, ranks = jax.process_index(), jax.process_count()
  options = {"seed": config.seed, "image_size": config.data.image_size, "augment": config.data.augment,
             "process_index": rank, "process_count": ranks, "threads": config.data.threads,
             "prefetch": config.data.prefetch}
  stream = pipeline.train(dataset, sources, batch_size=config.batch_size, mixing=config.data.mixing, **options)
  if adapts:
    unlabelled = pipeline.unlabelled(dataset, config.target, batch_size=target_batch_size, **options)
    stream = pipeline.with_target(stream, unlabelled)
  total = config.steps or math.ceil(config.epochs * stream.steps_per_epoch)
  algorithm = algorithms.build(config, classes=len(dataset.classes), domains=len(dataset.groups or sources),
                               steps_per_epoch=stream.steps_per_epoch, steps=total)
  prepare = normaliser(dataset)
  compiled = functools.cache(lambda begin, first: layout.update(algorithm, prepare, algorithm.phase_at(begin), first))
  iterator = stream.iterator()
  state = first_state(config, algorithm, layout, dataset)
  log.info("%s on %s, %s -> %s: %d steps of %d examples (%.1f an epoch), %d parameters, %s over %d device(s), %s",
           config.algorithm.name, dataset.name, ", ".join(sources), config.target, total, config.batch_size,
           stream.steps_per_epoch, sum(x.size for x in jax.tree.leaves(state.params)), config.parallel,
           layout.mesh.size, ops.describe() if layout.mesh.size == 1 else "xla")

  with Checkpoints(workdir / "checkpoints") as checkpoints, StopSignal() as stop:
    step, selection = 0, {}
    if checkpoints.latest is not None:
      step = checkpoints.latest
      state, progress = checkpoints.restore(step, state, iterator)
      selection = progress["selection"]
      log.info("resumed from step %d of %d", step, total)
      if changed := differences(progress["arithmetic"], layout.arithmetic):
        log.warning("this goes on with another arithmetic than the checkpoint's (%s): the numbers will differ by "
                    "rounding from an uninterrupted run. NPROC=N sets the threads, DGJAX_CPU_BACKEND=NAME the backend",
                    "; ".join(changed))
    recorder = Recorder(workdir, step, evaluated(selection, step))
    evaluator = Evaluator(algorithm, layout, prepare, pause=stop.check)
    splits = Splits(config, dataset, sources, layout.mesh.size)
    bar = tqdm.tqdm(total=total * config.batch_size, initial=step * config.batch_size, unit=" examples",
                    unit_scale=True, disable=None if rank == 0 else True)
    clock, since = time.perf_counter(), step
    metrics: dict[str, jax.Array] = {}

    def save() -> None:
      best = selection.get("source_val", {}).get("step")
      checkpoints.save(step, state, iterator, {"selection": selection, "arithmetic": layout.arithmetic}, best)

    try:
      while True:
        # An evaluation comes before the save that holds its outcome, and a restart finds out here what is still due.
        if due(step, total, config.eval_every, stream.steps_per_epoch) and not evaluated(selection, step):
          recorder.flush()
          val, target = evaluate(evaluator, algorithm, state, splits)
          selection = rules.update(selection, step, val, target)
          record_evaluation(recorder, algorithm, state, splits, step, val, target)
          save()
          log.info("step %d: source val %.4f, %s test %.4f%s", step, rules.source_accuracy(val), config.target, target,
                   " (best)" if selection["source_val"]["step"] == step else "")
          clock, since = time.perf_counter(), step
        if step == total or reached(selection, step, config.early_stop):
          break
        if stop.requested():
          raise Preempted
        last, phase = metrics, algorithm.phase_at(step)
        update = compiled(phase.begin, phase.enters_at(step))
        state, metrics = update(state, layout.place(next(iterator)))
        jax.block_until_ready(last)  # at most two steps under way, so that a signal is heeded within two steps
        step += 1
        recorder.train(step, metrics)
        bar.update(config.batch_size)
        if step % config.log_every == 0:
          recorder.flush()
          now = time.perf_counter()
          recorder.write(step, {"time/examples_per_second": (step - since) * config.batch_size / (now - clock)})
          clock, since = now, step
    except Preempted:
      recorder.flush()
      save()
      log.info("stopped and saved at step %d; the same command goes on from there", step)
      raise
    finally:
      bar.close()
      recorder.close()

    chosen = selection[config.report]["step"]
    if chosen != step:
      state = checkpoints.restore_state(chosen, state)
    report = full_report(evaluator, algorithm, state, splits)

  results = {"config": config.to_dict(), "command": command, "method": config.algorithm.name, "dataset": dataset.name,
             "sources": list(sources), "groups": list(dataset.groups or ()), "target": config.target,
             "seed": config.seed, "step": step, "selection": selection,
             "report": {"rule": config.report, "step": chosen}, **report,
             "platform": jax.devices()[0].device_kind, "devices": layout.mesh.size, **layout.arithmetic}
  if rank == 0:
    for name, arrays in algorithm.arrays(host(state)).items():
      np.savez(workdir / f"{name}.npz", allow_pickle=False, **arrays)
    write_atomically(workdir / "results.json", results)
  return results


def prepare_folder(workdir: pathlib.Path, config: ConfigDict) -> dict[str, Any] | None:
  """Makes a run's folder, or checks that the one there is of this config; process 0 decides for all.

  Returns:
    The contents of `results.json` if the run is finished.

  Raises:
    UserError: it holds a run with another config, or processes have different folders of that name.
  """
  answer = {}
  if jax.process_index() == 0:
    answer = folder_state(workdir, config)
  answer = parallel.agree(answer)
  if problem := answer.get("problem"):
    raise UserError(problem)
  if not (workdir / "config.json").exists():
    raise UserError(f"process {jax.process_index()} does not see the {workdir} of process 0: "
                    "--workdir must be on a file system that all processes share")
  return answer["results"]


def folder_state(workdir: pathlib.Path, config: ConfigDict) -> dict[str, Any]:
  """Makes a run's folder or looks into it: `problem` with it, if any, and its `results`, None before the end."""
  path, results = workdir / "config.json", workdir / "results.json"
  if not path.exists():
    workdir.mkdir(parents=True, exist_ok=True)
    write_atomically(path, config.to_dict())
  elif changed := differences(json.loads(path.read_text()), json.loads(config.to_json())):
    return {"problem": f"{workdir} holds a run with another config ({'; '.join(changed)}): "
                       "use the same config to resume, or another --workdir"}
  return {"results": json.loads(results.read_text()) if results.exists() else None}


def write_atomically(path: pathlib.Path, value: Any) -> None:
  """Writes JSON so that a reader finds all of it or none."""
  partial = path.with_suffix(".partial")
  partial.write_text(json.dumps(value, indent=2) + "\n")
  partial.replace(path)


def source_domains(config: ConfigDict, dataset: Dataset) -> tuple[str, ...]:
  """The source domains of a run, in the data set's order.

  Raises:
    UserError: the target or a source is not a domain of the data set that can be one, or they overlap.
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


def normaliser(dataset: Dataset) -> Callable[[Batch], Batch]:
  """Makes the images, or arrays, of a batch and of its parts float32 and normalised, on the device."""
  mean = jnp.asarray(dataset.mean, jnp.float32).reshape(1, 1, 1, -1)
  std = jnp.asarray(dataset.std, jnp.float32).reshape(1, 1, 1, -1)

  def prepare(batch: Mapping[str, Any]) -> dict[str, Any]:
    if "image" not in batch:
      return {part: prepare(batch[part]) for part in batch}
    image = batch["image"]
    scaled = image.astype(jnp.float32) / 255 if image.dtype == jnp.uint8 else image
    return {**batch, "image": (scaled - mean) / std}

  return prepare


def batch_shapes(shape: tuple[int, ...], adapts: bool, size: int = 2) -> dict[str, Any]:
  """Shapes and dtypes of a prepared batch, as a fresh state is made from; its size does not matter there.

  Args:
    shape: of one example, (h, w, c).
    adapts: whether the batch has a part of the target.
    size: of the batch, or of each part.
  """
  image = jax.ShapeDtypeStruct((size, *shape), jnp.float32)
  number = jax.ShapeDtypeStruct((size,), jnp.int32)
  labelled = {"image": image, "label": number, "domain": number}
  return {"source": labelled, "target": {"image": image}} if adapts else labelled


def first_state(config: ConfigDict, algorithm: Algorithm, layout: parallel.Parallel, dataset: Dataset) -> TrainState:
  """The state before the first update, with published weights where the config names a file."""
  shape, _ = dataset.example(config.data.image_size)
  state = layout.init(algorithm, config.seed, batch_shapes(shape, algorithm.adapts))
  if not config.model.weights:
    return state
  names = algorithm.network.names
  apart = ("bottleneck", names[-1]) if "bottleneck" in names else ()  # of which no published network has weights
  networks = {"params": state.params["network"], "batch_stats": state.batch_stats["network"]}
  published = {kind: {name: tree[name] for name in tree if name not in apart} for kind, tree in networks.items()}
  loaded = models.weights.load(config.model.weights, published, fresh_head=names[-1],
                               fresh=models.dynamic.PATTERN)
  state = state.replace(
      params={**state.params, "network": {**networks["params"], **loaded["params"]}},
      batch_stats={**state.batch_stats, "network": {**networks["batch_stats"], **loaded["batch_stats"]}})
  return jax.device_put(state, layout.replicated)


def due(step: int, total: int, every: int, steps_per_epoch: float) -> bool:
  """Whether an evaluation follows `step` updates: every `every` steps, or after each epoch, and at the end."""
  if step == total:
    return True
  if every:
    return step > 0 and step % every == 0
  return math.floor(step / steps_per_epoch) > math.floor((step - 1) / steps_per_epoch) and step > 0


def evaluated(selection: Mapping[str, Any], step: int) -> bool:
  """Whether `step`'s evaluation is among those that a selection was made of."""
  return bool(selection) and selection["last"]["step"] == step


def reached(selection: Mapping[str, Any], step: int, threshold: float) -> bool:
  """Whether the evaluation at `step` was so good that training ends early; a threshold of 0 never is."""
  return threshold > 0 and evaluated(selection, step) and selection["last"]["source_accuracy"] >= threshold


@dataclasses.dataclass(frozen=True)
class Splits:
  """The evaluation batches of a run."""

  config: ConfigDict
  dataset: Dataset
  sources: tuple[str, ...]
  devices: int

  @property
  def known(self) -> bool:
    """Whether the sources' held-out examples are of domains that were trained on."""
    return self.dataset.groups is None

  @property
  def members(self) -> tuple[str, ...]:
    """Names of the domains that were trained on, as a method's `domain` counts them."""
    return self.dataset.groups or self.sources

  def batches(self, domain: str, split: str) -> Any:
    """Every image of a split exactly once, in batches that the devices divide."""
    size = math.ceil(self.config.eval_batch_size / self.devices) * self.devices
    index = self.sources.index(domain) if domain in self.sources else 0
    return pipeline.evaluate(self.dataset, domain, split, batch_size=size, image_size=self.config.data.image_size,
                             domain_index=index, process_index=jax.process_index(),
                             process_count=jax.process_count(), threads=self.config.data.threads)


def evaluate(evaluator: Evaluator, algorithm: Algorithm, state: TrainState,
             splits: Splits) -> tuple[dict[str, float], float]:
  """Accuracy on each source's validation split, the domain being known where it was trained on, and on the target."""
  rule = (splits.known and algorithm.validation) or algorithm.prediction
  val = {domain: evaluator.accuracy(state, splits.batches(domain, "val"), modes=[rule], known=splits.known)[rule]
         for domain in splits.sources}
  rule = algorithm.prediction
  target = evaluator.accuracy(state, splits.batches(splits.config.target, "test"), modes=[rule])[rule]
  return val, target


def host(state: TrainState) -> TrainState:
  """The state's numbers as NumPy arrays; a PRNG key is none."""
  return jax.device_get(state.replace(key=None))


def record_evaluation(recorder: Recorder, algorithm: Algorithm, state: TrainState, splits: Splits, step: int,
                      val: Mapping[str, float], target: float) -> None:
  """Writes an evaluation's accuracies and the state's own measures."""
  recorder.write(step, {**{f"val/{domain}/accuracy": value for domain, value in val.items()},
                        f"test/{splits.config.target}/accuracy": target,
                        **algorithm.measures(host(state), splits.members)})


def full_report(evaluator: Evaluator, algorithm: Algorithm, state: TrainState, splits: Splits) -> dict[str, Any]:
  """Scores a state in every way its method can predict.

  Returns:
    `accuracy`, for each way and domain: the target's test split, and the sources' where the data set has them apart
    from training; `class_accuracy`, likewise, the mean of the classes' accuracies; `mask_matrix` for methods with a
    member per source domain: accuracy of each member alone, and combined, on each source (its test split, or else
    validation) and on the target (dmg.txt, Table 4); `overlap`, what the state says of itself.
  """
  target, sources = splits.config.target, splits.sources
  split = "test" if splits.dataset.source_test else "val"
  counts = {domain: evaluator.counts(state, splits.batches(domain, split), known=splits.known) for domain in sources}
  counts[target] = evaluator.counts(state, splits.batches(target, "test"))
  scores = {domain: accuracy(counts[domain]) for domain in counts}
  scored = scores if splits.dataset.source_test else {target: scores[target]}
  modes = dict.fromkeys(mode for domain in scored for mode in scored[domain] if not mode.startswith("member/"))
  report: dict[str, Any] = {name: {
      mode: {domain: measure(counts[domain])[mode] for domain in scored if mode in scored[domain]} for mode in modes}
      for name, measure in (("accuracy", accuracy), ("class_accuracy", class_accuracy))}
  if members := [mode for mode in scores[target] if mode.startswith("member/")]:
    rows = [*members, algorithm.prediction]
    report["mask_matrix"] = {"split": split, "masks": [*splits.members, "combined"], "domains": [*sources, target],
                             "accuracy": [[scores[domain][row] for domain in scores] for row in rows]}
  if measures := algorithm.measures(host(state), splits.members):
    report["overlap"] = measures
  return report
