"""The training loop of a group of runs: resume, train, evaluate, select, save, report. A lone run is a group of one."""

import dataclasses
import logging
import os
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from dgjax import group as groups
from dgjax import parallel
from dgjax.algorithms import TrainState
from dgjax.checkpoint import Checkpoints
from dgjax.config import advice
from dgjax.data import Dataset
from dgjax.errors import UserError
from dgjax.evaluation import selection as rules
from dgjax.evaluation.evaluator import Measured, host, measures
from dgjax.experiment import Experiment
from dgjax.feed import Feed
from dgjax.folder import RunFolder
from dgjax.group import Group
from dgjax.lanes import States
from dgjax.preemption import Preempted, StopSignal
from dgjax.progress import Pace
from dgjax.recorder import NotFinite, Recorder

log = logging.getLogger("dgjax")


@dataclasses.dataclass
class Member:
  """One run of a group under way.

  Attributes:
    experiment: the parts of the run.
    folder: the run's own folder.
    step: number of updates done. It stops rising when the run ends.
    selection: what the selection rules chose so far (`evaluation.selection.update`).
    ended: why the run is no longer trained: "" while it is, "early" after early stopping, else the failure.
    recorder: writes the run's metrics.
  """

  experiment: Experiment
  folder: RunFolder
  step: int = 0
  selection: dict[str, Any] = dataclasses.field(default_factory=dict)
  ended: str = ""
  recorder: Any = None

  @property
  def evaluated(self) -> bool:
    """Whether the selection has taken the evaluation at `step` into account."""
    return bool(self.selection) and self.selection["last"]["step"] == self.step

  @property
  def failed(self) -> bool:
    """Whether the run failed, and so will have no results."""
    return self.ended not in ("", "early")

  def take(self, measured: Measured) -> bool:
    """Takes an evaluation into account. Returns whether it is the best so far by source validation."""
    self.selection = rules.update(self.selection, self.step, measured.val, measured.test)
    threshold = self.experiment.config.early_stop
    if threshold > 0 and self.selection["last"]["source_accuracy"] >= threshold:
      self.ended = "early"
    return self.selection.get("source_val", {}).get("step") == self.step

  def progress(self) -> dict[str, Any]:
    """What a checkpoint keeps of the run."""
    return {"step": self.step, "selection": self.selection, "ended": self.ended,
            "data": dict(self.experiment.dataset.digests)}


def run(experiments: Sequence[Experiment], folders: Sequence[RunFolder],
        home: RunFolder | None = None) -> list[dict[str, Any] | None]:
  """Trains runs together, from their newest checkpoint if there is one.

  Args:
    experiments: the runs, which differ in seeds and swept scalars alone (`group.alike`).
    folders: the folder of each run, claimed for its config.
    home: the folder of the group's checkpoints; default: that of a lone run.

  Returns:
    For each run the contents of its `results.json`, or None if it failed while others did not.

  Raises:
    Preempted: a signal asked to stop; everything is saved.
    UserError: the data or a folder is wrong, or every run failed.
  """
  home = home or folders[0]
  began = time.monotonic()
  members = [Member(*pair) for pair in zip(experiments, folders, strict=True)]
  lead = experiments[0]
  for member in members:
    same_data(member.experiment.dataset)
    member.folder.write("experiment.json", member.experiment.record())
  log.info("%s", lead.describe(runs=len(members)))
  for line in advice(lead.config, lead.steps):
    log.warning("%s", line)

  with StopSignal() as stop, stop.saves(), Checkpoints(home.checkpoints) as checkpoints:
    group = groups.build(experiments, Feed(experiments, stop.check), home.remembered("grouping", lead.config.grouping))
    home.remember("grouping", group.lanes.name)
    states, step, saved, earlier = group.first_states(), 0, None, 0.0
    best = group.copy(group.keep(states))  # the states that `source_val` selects, once there are some
    if found := restore(checkpoints, members, group, states, best):
      step, states, best, progress = found
      if len(members) == 1:
        states = group.configured(states)  # after --from_step the config has other scalars than the checkpoint
      saved, earlier = step, progress["seconds"]
      resume(members, step, progress)
    for member in members:
      member.recorder = Recorder(member.folder.path, member.step, member.evaluated)
    pace = Pace([member.recorder for member in members], step, lead.steps, lead.config.batch_size)
    pending: list[tuple[int, int, Any]] = []

    def seconds() -> float:
      return earlier + time.monotonic() - began

    def active() -> np.ndarray:
      return np.array([not member.ended for member in members])

    def flush() -> None:
      record(members, group, pending, saved)
      pending.clear()

    def save() -> None:
      nonlocal saved
      for member in members:
        if member.folder.lock:
          member.folder.lock.check()  # a process that stood still for long may have lost its folder to another
      flush()
      check(members, group.finite(states), saved)
      checkpoints.save(step, {"state": group.tree(states), "best": group.tree(best)}, {
          "seconds": seconds(), "arithmetic": lead.devices.arithmetic, "members": [one.progress() for one in members]})
      saved = step

    try:
      while True:
        # Evaluate before saving, so that the checkpoint holds the outcome and a restart knows whether an evaluation is
        # due.
        if lead.evaluates(step) and not all(member.evaluated or member.ended for member in members):
          flush()
          running = active()
          scores = group.evaluate(group.keep(states), stop.check)
          improved = np.array([bool(on) and member.take(measured)
                               for on, member, measured in zip(running, members, scores, strict=True)])
          best = group.choose(improved, group.keep(states), best)
          record_evaluation(members, group, states, scores, improved, running)
          save()
          pace.restart(step)
        if step == lead.steps or not active().any():
          break
        stop.check()
        until = group.until(step, lead.config.log_every)
        last = pending[-1] if pending else None
        states, metrics = group.advance(states, step, until - step, active())
        jax.block_until_ready(last)  # at most two calls are under way, so that a signal is noticed soon
        pending.append((step, until - step, metrics))
        step = until
        for member in members:
          member.step = member.step if member.ended else step
        stop.unsaved = True
        pace.step(step)
        if step % lead.config.log_every == 0:
          flush()
          pace.record(step, group.feed.waited)
    except Preempted:
      save()
      checkpoints.wait()
      log.info("stopped and saved at step %d; the same command goes on from there", step)
      raise
    finally:
      pace.close()
      for member in members:
        member.recorder.close()

    chosen = best if lead.config.report == "source_val" else group.keep(states)
    scores = group.evaluate(chosen, stop.check)
    checkpoints.wait()
  if len(members) > 1:
    part(members, group.lanes.split(states), group.lanes.split(best), lead.devices.arithmetic, seconds())
  return [finish(member, measured, state, seconds()) for member, measured, state
          in zip(members, scores, group.lanes.split(chosen), strict=True)]


def same_data(dataset: Dataset) -> None:
  """Makes sure that all processes see the same data.

  Raises:
    UserError: raised on every process; it names the domain and the processes whose data differ.
  """
  for domain in parallel.agree(sorted(dataset.digests)):
    if odd := parallel.differing(dataset.digests.get(domain)):
      raise UserError(f"domain {domain!r} of {dataset.name} is not the same on process {', '.join(map(str, odd))} as "
                      "on process 0 (images, classes or splits): give all hosts the same config.data.dir and "
                      "config.data.cache_dir, or copies of them")


def restore(checkpoints: Checkpoints, members: Sequence[Member], group: Group, states: States,
            best: States) -> tuple[int, States, States, dict[str, Any]] | None:
  """Reads the group's newest checkpoint or, if there is none, the runs' own checkpoints, which must be of one step.

  Runs have checkpoints of their own once they are done, and if other runs were trained together before.

  Returns:
    The step, the states, the best states and the recorded progress; None if there is no checkpoint to resume from.
  """
  if found := checkpoints.restore({"state": group.tree(states), "best": group.tree(best)}):
    step, trees, progress = found
    return step, group.untree(trees["state"]), group.untree(trees["best"]), progress
  own = []
  for member, state, kept in zip(members, group.lanes.split(states), group.lanes.split(best), strict=True):
    with Checkpoints(member.folder.checkpoints) as theirs:
      own.append(theirs.restore({"state": state, "best": kept}))
  if not all(own) or len({found[0] for found in own if found}) != 1:
    if any(own):
      log.warning("the runs' own checkpoints are of different steps: the runs are trained from the start")
    return None
  steps, trees, progress = zip(*(found for found in own if found), strict=True)
  return (steps[0], group.lanes.join([tree["state"] for tree in trees]),
          group.lanes.join([tree["best"] for tree in trees]),
          {**progress[0], "members": [one["members"][0] for one in progress]})


def resume(members: Sequence[Member], step: int, progress: dict[str, Any]) -> None:
  """Gives the runs the progress that a checkpoint recorded.

  Raises:
    UserError: the data have changed, or the runs are already past the end.
  """
  lead = members[0].experiment
  if step > lead.steps:
    raise UserError(f"the run is at step {step} and would end at {lead.steps}: config.steps and config.epochs can only "
                    "be raised")
  for member, saved in zip(members, progress["members"], strict=True):
    member.experiment.dataset.compare(saved["data"])
    member.step, member.selection, member.ended = saved["step"], saved["selection"], saved["ended"]
  log.info("resumed from step %d of %d", step, lead.steps)
  before, now = progress["arithmetic"], lead.devices.arithmetic
  if changed := [f"{key}: {before.get(key)!r} -> {now[key]!r}" for key in now if before.get(key) != now[key]]:
    log.warning("Resuming with other threads, devices, processes or another backend (%s): results will differ by "
                "rounding from an uninterrupted run. NPROC=N sets the threads, DGJAX_CPU_BACKEND=NAME the backend, "
                "--config.devices=N the devices", "; ".join(changed))


def part(members: Sequence[Member], states: Sequence[TrainState], best: Sequence[TrainState],
         arithmetic: dict[str, Any], seconds: float) -> None:
  """Writes a checkpoint for each run of a group, as if it had been trained alone.

  A run that failed gets none: its state is not finite.
  """
  for member, state, kept in zip(members, states, best, strict=True):
    if member.failed:
      continue
    with Checkpoints(member.folder.checkpoints) as checkpoints:
      checkpoints.save(member.step, {"state": state, "best": kept},
                       {"seconds": seconds, "arithmetic": arithmetic, "members": [member.progress()]})


def record(members: Sequence[Member], group: Group, pending: Sequence[tuple[int, int, Any]], saved: int | None) -> None:
  """Fetches the metrics of some calls and records them run by run. A run whose metrics are not finite ends.

  Args:
    members: the runs.
    group: the group that computed them.
    pending: for each call the steps done before it, its number of steps, and the metrics.
    saved: step of the newest checkpoint; None: there is none.
  """
  fetched = jax.device_get([metrics for _, _, metrics in pending])
  for (first, steps, _), metrics in zip(pending, fetched, strict=True):
    for member, row in zip(members, group.lanes.rows(metrics), strict=True):
      for offset in range(steps):
        step = first + offset + 1
        if row is None or member.failed or step > member.step:
          break
        try:
          member.recorder.train(step, {name: np.ravel(value)[offset] for name, value in row.items()})
        except NotFinite as error:
          member.step = step
          fail(members, member, error, saved)
  for member in members:
    member.recorder.flush()


def check(members: Sequence[Member], finite: Sequence[bool], saved: int | None) -> None:
  """Ends runs whose parameters or statistics are not finite, before they are saved."""
  for member, sound in zip(members, finite, strict=True):
    if not sound and not member.ended:
      fail(members, member, NotFinite("a parameter or statistic", float("nan"), member.step), saved)


def fail(members: Sequence[Member], member: Member, error: NotFinite, saved: int | None) -> None:
  """Ends one run. The others go on; if none is left, the error is raised.

  Args:
    members: the runs.
    member: that one.
    error: what happened.
    saved: step of the newest checkpoint, from which a lone run can go on; those of a group are of all its runs.
  """
  if len(members) == 1:
    error = error.after(saved)
  member.ended = str(error)
  member.folder.write("failure.json", {"step": member.step, "reason": str(error)})
  if all(other.failed for other in members):
    raise error
  log.warning("%s: %s. The other runs go on", member.folder.path, error)


def record_evaluation(members: Sequence[Member], group: Group, states: States, found: Sequence[Measured],
                      improved: np.ndarray, running: np.ndarray) -> None:
  """Records an evaluation of the running runs, and logs the outcome."""
  separate = group.lanes.split(states) if group.measures else [None] * len(members)
  above = os.path.commonpath([member.folder.path for member in members])
  for member, state, measured, better, on in zip(members, separate, found, improved, running, strict=True):
    if not on:
      continue
    said = measures(member.experiment.algorithm, state, member.experiment.members) if group.measures else {}
    member.recorder.write(member.step, {**measured.lines(), **said})
    run = f"{member.folder.path.relative_to(above)}, " if len(members) > 1 else ""
    source = member.selection["last"]["source_accuracy"]
    val = "" if source is None else f"source val {source:.4f}, "
    log.info("%sstep %d: %s%s test %.4f%s%s", run, member.step, val, member.experiment.target, measured.test,
             " (best)" if better else "", ", good enough to end" if member.ended else "")


def finish(member: Member, measured: Measured, state: TrainState, seconds: float) -> dict[str, Any] | None:
  """Writes a run's arrays and `results.json`. Returns the results, or None if the run failed.

  Args:
    member: the run.
    measured, state: the evaluation of the reported state, and that state.
    seconds: how long the run took.
  """
  if member.failed:
    return None
  experiment, config = member.experiment, member.experiment.config
  report = measured.report()
  if said := measures(experiment.algorithm, state, experiment.members):
    report["overlap"] = said
  results = {"config": config.to_dict(), "command": member.folder.command, "method": config.algorithm.name,
             "dataset": experiment.dataset.name, "sources": list(experiment.sources),
             "groups": list(experiment.dataset.groups or ()), "target": experiment.target, "seed": config.seed,
             "step": member.step, "selection": member.selection,
             "report": {"rule": config.report, "step": member.selection[config.report]["step"]}, **report,
             "platform": jax.devices()[0].device_kind, **experiment.devices.arithmetic, "seconds": round(seconds, 1),
             "changes": member.folder.changes(), **experiment.record()}
  if jax.process_index() == 0:
    for name, arrays in experiment.algorithm.arrays(host(state)).items():
      np.savez(member.folder.path / f"{name}.npz", allow_pickle=False, **arrays)
  member.folder.write("results.json", results)
  return results
