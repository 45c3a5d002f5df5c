"""The training loop of one run: resume, train, evaluate, select, save, report."""

import logging
import pathlib
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from dgjax.algorithms import TrainState
from dgjax.checkpoint import Checkpoints
from dgjax.config import check, differences
from dgjax.data import Dataset
from dgjax.errors import UserError
from dgjax.evaluation import selection as rules
from dgjax.evaluation.evaluator import host
from dgjax.experiment import Experiment, kept
from dgjax.folder import RunFolder
from dgjax.preemption import Preempted, StopSignal
from dgjax.progress import Pace
from dgjax.recorder import Recorder

log = logging.getLogger("dgjax")


def train(config: ConfigDict, workdir: pathlib.Path | str, dataset: Dataset | None = None,
          command: str = "") -> dict[str, Any]:
  """Trains and evaluates one run, goes on with it where a checkpoint is, or reads its results where it is finished.

  Args:
    config: of one target domain.
    workdir: the run's folder; what it will hold is in the README.
    dataset: the data set; default: the one that the config names.
    command: how the run was started, for its `results.json`.

  Returns:
    The contents of `results.json`.

  Raises:
    Preempted: a signal asked it to stop; everything is saved.
    UserError: the config, the data or the folder is wrong, or the loss was not finite.
  """
  check(config)
  folder = RunFolder(workdir, command)
  if finished := folder.claim(config):
    log.info("%s is finished; delete it to run again", folder.path)
    return finished
  return run(Experiment.build(config, dataset), folder)


def run(experiment: Experiment, folder: RunFolder) -> dict[str, Any]:
  """Trains an experiment in a folder that was claimed for its config, from the newest checkpoint on; see `train`."""
  config, evaluator, devices = experiment.config, experiment.evaluator, experiment.devices
  began = time.monotonic()
  folder.write("experiment.json", experiment.record())
  iterator = experiment.batches().iterator()
  log.info("%s", experiment.describe())

  with StopSignal() as stop, stop.saves(), Checkpoints(folder.checkpoints) as checkpoints:
    state, step, selection, earlier = experiment.first_state(), 0, {}, 0.0
    best = copy(kept(state))  # the state that `source_val` selects, once there is one
    if found := checkpoints.restore({"state": state, "best": best}):
      step, trees, progress = found
      compare(experiment, step, progress)
      state, best, selection, earlier = trees["state"], trees["best"], progress["selection"], progress["seconds"]
      iterator.set_state({"next_index": step})  # a batch is a function of the seed and the step
    recorder = Recorder(folder.path, step, evaluated(selection, step))
    pace = Pace(recorder, step, experiment.steps, config.batch_size)
    metrics: dict[str, jax.Array] = {}

    def seconds() -> float:
      return earlier + time.monotonic() - began

    def save() -> None:
      recorder.flush()
      checkpoints.save(step, {"state": state, "best": best}, {
          "selection": selection, "seconds": seconds(), "arithmetic": devices.arithmetic,
          "data": dict(experiment.dataset.digests)})

    try:
      while True:
        # An evaluation comes before the save that holds its outcome; a restart finds out here whether one is due.
        if experiment.evaluates(step) and not evaluated(selection, step):
          recorder.flush()
          val, target = evaluator.scores(kept(state), stop.check)
          selection = rules.update(selection, step, val, target)
          improved = selection["source_val"]["step"] == step
          if improved:
            best = copy(kept(state))
          recorder.evaluation(step, val, {experiment.target: target}, evaluator.measures(state))
          save()
          log.info("step %d: source val %.4f, %s test %.4f%s", step, rules.source_accuracy(val), experiment.target,
                   target, " (best)" if improved else "")
          pace.restart(step)
        if step == experiment.steps or reached(selection, step, config.early_stop):
          break
        stop.check()
        last = metrics
        state, metrics = experiment.update(step)(state, devices.put(next(iterator)))
        jax.block_until_ready(last)  # at most two steps under way, so that a signal is heeded within two steps
        step += 1
        stop.unsaved = True
        recorder.train(step, metrics)
        pace.step(step, step % config.log_every == 0)
    except Preempted:
      save()
      log.info("stopped and saved at step %d; the same command goes on from there", step)
      raise
    finally:
      pace.close()
      recorder.close()
    report = evaluator.report(best if config.report == "source_val" else kept(state))

  chosen = {"rule": config.report, "step": selection[config.report]["step"]}
  results = {"config": config.to_dict(), "command": folder.command, "method": config.algorithm.name,
             "dataset": experiment.dataset.name, "sources": list(experiment.sources),
             "groups": list(experiment.dataset.groups or ()), "target": experiment.target, "seed": config.seed,
             "step": step, "selection": selection, "report": chosen, **report,
             "platform": jax.devices()[0].device_kind, **devices.arithmetic, "seconds": round(seconds(), 1),
             **experiment.record()}
  if jax.process_index() == 0:
    for name, arrays in experiment.algorithm.arrays(host(best if config.report == "source_val" else state)).items():
      np.savez(folder.path / f"{name}.npz", allow_pickle=False, **arrays)
  folder.write("results.json", results)
  return results


def compare(experiment: Experiment, step: int, progress: Mapping[str, Any]) -> None:
  """Compares what a checkpoint says of its run with the run that would go on from it.

  Raises:
    UserError: the data are others, or the run is past the end.
  """
  if step > experiment.steps:
    raise UserError(f"the run is at step {step} and would end at {experiment.steps}: config.steps and config.epochs "
                    "can only be raised")
  experiment.dataset.compare(progress["data"])
  log.info("resumed from step %d of %d", step, experiment.steps)
  if changed := differences(progress["arithmetic"], experiment.devices.arithmetic):
    log.warning("Resuming with other threads, devices or another backend (%s): results will differ by rounding from an "
                "uninterrupted run. NPROC=N sets the threads, DGJAX_CPU_BACKEND=NAME the backend", "; ".join(changed))


def copy(state: TrainState) -> TrainState:
  """The state in buffers of its own, which the next update does not consume."""
  return jax.tree.map(lambda x: x.copy(), state)


def evaluated(selection: Mapping[str, Any], step: int) -> bool:
  """Whether `step`'s evaluation is among those that a selection was made of."""
  return bool(selection) and selection["last"]["step"] == step


def reached(selection: Mapping[str, Any], step: int, threshold: float) -> bool:
  """Whether the evaluation at `step` was so good that training ends early; a threshold of 0 never is."""
  return threshold > 0 and evaluated(selection, step) and selection["last"]["source_accuracy"] >= threshold
