"""From a config to its runs: one for each target domain, swept value and seed. Runs of one shape train together."""

import contextlib
import hashlib
import itertools
import logging
import os
import pathlib
import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from dgjax import data, group, parallel, runlog, training
from dgjax.checkpoint import Checkpoints
from dgjax.config import check, for_target, override, sweep_values
from dgjax.data import Dataset
from dgjax.errors import UserError
from dgjax.experiment import Experiment
from dgjax.folder import RunFolder
from dgjax.lock import FolderLock
from dgjax.recorder import NotFinite

log = logging.getLogger("dgjax")

MOST_TOLD = 5  # failed runs that a message names


class Transfer(NamedTuple):
  """The domains of one run, as values of the config's keys, and the name of its folder."""

  sources: str
  target: str
  folder: str


class RunsFailed(UserError):
  """Some of several runs failed, which the message names.

  Attributes:
    finished: the contents of the others' `results.json`.
  """

  def __init__(self, results: Mapping[pathlib.Path, dict[str, Any] | None]):
    self.finished = [done for done in results.values() if done]
    failed = [folder for folder, done in results.items() if done is None]
    told = "; ".join(f"{folder}: {RunFolder(folder).failure}" for folder in failed[:MOST_TOLD])
    more = f"; and {len(failed) - MOST_TOLD} more" if len(failed) > MOST_TOLD else ""
    super().__init__(f"{len(failed)} of {len(results)} runs failed: {told}{more}")


class Planned(NamedTuple):
  """One run of a plan.

  Attributes:
    config: the run's own config: one target, one seed, no sweep.
    folder: the run's folder.
    changes: keys in which it differs from the config it comes from -> values, as on a command line.
  """

  config: ConfigDict
  folder: pathlib.Path
  changes: dict[str, str]


def transfers(config: ConfigDict, dataset: Dataset | None = None) -> list[Transfer]:
  """The transfers of a config: one target, or every possible target; with `sources=each`, one for each single source.

  Args:
    config: as loaded; `target` may be "all" and `sources` "each".
    dataset: the data set, where it does not come from the config.
  """
  target, sources = config.target, config.sources
  if target != "all" and sources != "each":
    return [Transfer(sources, target, "")]
  dataset = dataset or data.load(config.data, config.seed)
  targets = [target] if target != "all" else list(dataset.targets or dataset.domains)
  if sources != "each":
    return [Transfer(sources, name, name) for name in targets]
  return [Transfer(source, name, f"{source}-to-{name}") for name in targets
          for source in dataset.sources or dataset.domains if source != name]


def plan(config: ConfigDict, workdir: pathlib.Path, dataset: Dataset | None = None) -> list[list[Planned]]:
  """The runs that a config stands for, by target.

  Args:
    config: as loaded.
    workdir: the folder of the run. With several runs, theirs are TARGET/KEY=VALUE/seed=K below it; a part of this path
      is there only if there are several.
    dataset: the data set, where it does not come from the config.

  Returns:
    For each target its runs: every combination of swept values under every seed.
  """
  check(config)
  swept = sweep_values(config)
  seeds = range(config.seed, config.seed + config.seeds)
  targets = []
  for transfer in transfers(config, dataset):
    runs = []
    for values, seed in itertools.product(itertools.product(*swept.values()), seeds):
      chosen = dict(zip(swept, values, strict=True))
      one = for_target(config.copy_and_resolve_references(), transfer.target)
      override(one, [f"--config.{key}={value}" for key, value in chosen.items()])
      one.update(sources=transfer.sources, target=transfer.target, seed=seed, seeds=1, sweep="")
      check(one)  # with the sweep's values
      changes = {"sources": transfer.sources, "target": transfer.target, **chosen}
      parts = [transfer.folder, *(f"{key}={value}" for key, value in chosen.items())]
      if len(seeds) > 1:
        parts.append(f"seed={seed}")
        changes["seed"] = str(seed)
      runs.append(Planned(one, workdir.joinpath(*filter(None, parts)), {k: v for k, v in changes.items() if v}))
    targets.append(runs)
  return targets


def train(config: ConfigDict, workdir: pathlib.Path | str, dataset: Dataset | None = None,
          command: Callable[[Planned], str] = lambda planned: "", from_step: int | None = None) -> list[dict[str, Any]]:
  """Trains or resumes all runs of a config. Finished runs are not trained again.

  Args:
    config: as loaded.
    workdir: the folder of the run, or of the folders of the runs.
    dataset: the data set, where it does not come from the config.
    command: function from a run to the command that repeats it, for its record.
    from_step: step of a checkpoint from which a single run goes on; see `RunFolder.claim`.

  Returns:
    The contents of each run's `results.json`.

  Raises:
    Preempted: a signal asked to stop; everything is saved.
    RunsFailed: some of several runs failed; all the others are done by then.
    UserError: a setting, the data or a folder is wrong, or the only run failed.
  """
  plans = plan(config, pathlib.Path(workdir).expanduser().absolute(), dataset)
  if from_step is not None and sum(map(len, plans)) > 1:
    raise UserError("--from_step is for a single run: name its target, one seed and no sweep")
  results = train_planned(plans, dataset, command, from_step=from_step)
  if any(done is None for done in results.values()):
    raise RunsFailed(results)
  return [done for done in results.values() if done]


def train_planned(plans: Sequence[Sequence[Planned]], dataset: Dataset | None = None,
                  command: Callable[[Planned], str] = lambda planned: "", *, past_failures: bool = False,
                  from_step: int | None = None) -> dict[pathlib.Path, dict[str, Any] | None]:
  """Trains or resumes planned runs. Finished runs are not trained again.

  Args:
    plans: lists of runs with one target each, which are trained in turn. Runs of one shape train together.
    dataset: the data set, where it does not come from the configs.
    command: what makes one run again, for its record.
    past_failures: whether groups in which every run failed before are passed over; else they are tried again.
    from_step: as of `train`.

  Returns:
    Folder -> the contents of the run's `results.json`; None for one that failed.

  Raises:
    Preempted: a signal asked to stop; everything is saved.
    UserError: a setting, the data or a folder is wrong, or the only run failed.
  """
  results: dict[pathlib.Path, dict[str, Any] | None] = {}
  alone = sum(map(len, plans)) == 1
  for runs in plans:
    with contextlib.ExitStack() as stack:
      folders = [RunFolder(planned.folder, command(planned)) for planned in runs]
      # Before anything is made or locked: finished runs may lie where nothing can be written.
      finished = [None if from_step is not None else folder.results_of(planned.config)
                  for planned, folder in zip(runs, folders, strict=True)]
      if all(finished):
        results |= {folder.path: done for folder, done in zip(folders, finished, strict=True)}
        continue
      for folder in folders:
        folder.make()
        folder.lock = stack.enter_context(FolderLock(folder.path))
        stack.enter_context(runlog.attach(folder.path))
      try:
        finished = [folder.claim(planned.config, from_step) for planned, folder in zip(runs, folders, strict=True)]
        results |= {folder.path: done for folder, done in zip(folders, finished, strict=True)}
        todo = [pair for pair, done in zip(zip(runs, folders, strict=True), finished, strict=True) if not done]
        configs, places = [planned.config for planned, _ in todo], [folder for _, folder in todo]
        for together, done in _train(configs, places, dataset, past_failures, alone):
          results |= dict(zip([folder.path for folder in together], done, strict=True))
      except Exception as error:
        if not isinstance(error, UserError | training.Preempted):
          kept = [runlog.keep_traceback(folder.path, error) for folder in folders]
          if any(kept):
            error.add_note(f"traceback in {next(filter(None, kept))}")
        raise
  return results


def _train(configs: Sequence[ConfigDict], folders: Sequence[RunFolder], dataset: Dataset | None,
           past_failures: bool, alone: bool) -> Iterator[tuple[list[RunFolder], list[dict[str, Any] | None]]]:
  """Trains runs of one target, those of one shape together. Yields the folders and the results of each group."""
  built = experiments(configs, dataset)
  for numbers in itertools.chain(*(_apart(numbers, folders) for numbers in group.alike(built))):
    together = [folders[number] for number in numbers]
    if past_failures and parallel.agree(all(folder.failed for folder in together)):
      yield together, [None] * len(together)
      continue
    home = _home(together) if len(together) > 1 else None
    done: list[dict[str, Any] | None]
    try:
      done = training.run([built[number] for number in numbers], together, home)
    except NotFinite as error:
      if alone:
        raise
      log.warning("%s: %s", together[0].path, error)
      done = [None] * len(together)
    if home and jax.process_index() == 0:
      shutil.rmtree(home.path, ignore_errors=True)  # each run has its own by now
    if jax.process_index() == 0:
      from dgjax.analysis import figures  # here, as matplotlib takes time to import
      for folder, results in zip(together, done, strict=True):
        if results:
          figures.save_all(folder.path, results)
    yield together, done


def _home(folders: Sequence[RunFolder]) -> RunFolder:
  """The folder of the checkpoints of runs that train together: above theirs, under a name made of theirs."""
  above = pathlib.Path(os.path.commonpath([folder.path for folder in folders]))
  names = "\n".join(str(folder.path.relative_to(above)) for folder in folders)
  return RunFolder(above / f"group-{hashlib.sha256(names.encode()).hexdigest()[:8]}")


def _apart(numbers: list[int], folders: Sequence[RunFolder]) -> list[list[int]]:
  """Runs that could train together, each by itself where they have checkpoints of their own of different steps.

  So it is where runs ended at different steps and their results are lost: they are made again from these checkpoints.
  """
  together = [folders[number] for number in numbers]
  if len(numbers) == 1 or parallel.agree(_home(together).checkpoints.exists()):
    return [numbers]
  newest = parallel.agree([Checkpoints(folder.checkpoints).steps()[-1:] for folder in together])
  return [numbers] if newest == newest[:1] * len(newest) else [[number] for number in numbers]


def experiments(configs: Sequence[ConfigDict], dataset: Dataset | None = None) -> list[Experiment]:
  """Assembles runs. A data set that several of them share is opened once.

  Args:
    configs: each of one run.
    dataset: the data set, where it does not come from the configs.
  """
  opened: dict[tuple[str, int], Dataset] = {}
  built = []
  for config in configs:
    key = config.data.to_json(), config.seed
    opened[key] = dataset or opened.get(key) or data.load(config.data, config.seed)
    built.append(Experiment.build(config, opened[key]))
  return built


def command_line(path: str, overrides: Sequence[str]) -> Callable[[Planned], str]:
  """A function from a run of a command to the command that repeats that run alone.

  Args:
    path: the command's --config.
    overrides: its `--config.KEY=VALUE` arguments.
  """
  def key(argument: str) -> str:
    return argument.partition("=")[0].removeprefix("--config.")

  def command(planned: Planned) -> str:
    gone = {"seeds", "grouping", *planned.changes}
    kept = [argument for argument in overrides if key(argument) not in gone and not key(argument).startswith("sweep.")]
    words = [f"--config={path}", *kept, *(f"--config.{name}={value}" for name, value in planned.changes.items()),
             f"--workdir={planned.folder}"]
    return "python -m dgjax.main " + " ".join(map(shlex.quote, words))

  return command
