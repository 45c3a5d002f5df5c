"""Random search of hyperparameters by DomainBed's protocol (Gulrajani and Lopez-Paz, ICLR 2021).

Trial 0 has the config's own values. Every other trial draws each hyperparameter from the distribution that is declared
for it: here for the optimiser, in `Algorithm.searched` for a method. A draw's random stream comes from the
hyperparameter's name, the search's seed and the trial, so that a new hyperparameter does not change the draws of the
others. After training, any rule finds the best trial from the runs' `metrics.jsonl` alone.
"""

import hashlib
import itertools
import math
import pathlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from dgjax import algorithms, config_files, data, plan
from dgjax.analysis.results import Cell
from dgjax.analysis.summary import table
from dgjax.config import flatten, load
from dgjax.data import Dataset
from dgjax.distributions import Distribution, LogUniform, PowerOfTwo
from dgjax.errors import UserError
from dgjax.evaluation import selection
from dgjax.experiment import Experiment, source_domains
from dgjax.feed import Feed
from dgjax.files import read_json, write_text_atomically
from dgjax.folder import RESULTS, RunFolder
from dgjax.group import Group, alike
from dgjax.plan import Planned
from dgjax.recorder import read_lines

RULES = {**selection.RULES,
         "leave_one_out": "highest mean accuracy on the source domains, each scored by a run trained without it"}
FORWARD = 1 / 3  # cost of scoring an image, as a share of training on it


class Part(NamedTuple):
  """What a trial trains for one target under one seed.

  Attributes:
    target: the target domain, or "source-to-target" where each source is alone.
    seed: the run's seed.
    run: the run that is trained on all sources.
    left_out: source domain -> a run that is trained on the other sources and scored on this one.
  """

  target: str
  seed: int
  run: Planned
  left_out: Mapping[str, Planned]


class Trial(NamedTuple):
  """One draw of all hyperparameters.

  Attributes:
    number: 0 has the config's own values.
    settings: config key -> value.
    parts: one for each target and seed, target by target.
  """

  number: int
  settings: Mapping[str, Any]
  parts: Sequence[Part]


class Score(NamedTuple):
  """The score of one part under a rule.

  Attributes:
    value: what trials are compared by, in [0, 1].
    target_accuracy: accuracy on the target at the step that the rule chose, in [0, 1].
  """

  value: float
  target_accuracy: float


def distributions(config: ConfigDict, fixed: Collection[str] = ()) -> dict[str, Distribution]:
  """The distributions that a search of a config draws from, by config key.

  The range of the learning rate lies about the config's own rate, because a rate depends on the optimiser. It is as
  wide as DomainBed's, whose defaults are 5e-5 with published weights and 1e-3 without. The same holds for the batch
  size, which DomainBed gives by domain. Weight decay has DomainBed's range.

  Args:
    config: as loaded.
    fixed: keys that keep their values.
  """
  rate, batch_size = config.optimizer.learning_rate, config.batch_size
  below, above = (-0.7, 0.8) if config.model.weights else (-1.5, 0.5)
  halvings = min(2, (batch_size & -batch_size).bit_length() - 1)  # the number of times that it can be halved
  found: dict[str, Distribution] = {
      "optimizer.learning_rate": LogUniform(rate * 10**below, rate * 10**above),
      "optimizer.weight_decay": LogUniform(1e-6, 1e-2),
      "batch_size": PowerOfTwo(-halvings, 1, times=batch_size)}
  for name, distribution in algorithms.find(config.algorithm.name).searched.items():
    if config.algorithm[name] != 0:
      found[f"algorithm.{name}"] = distribution
  return {key: distribution for key, distribution in found.items() if key not in fixed}


def draw(ranges: Mapping[str, Distribution], seed: int, trial: int) -> dict[str, Any]:
  """One value for every hyperparameter.

  Args:
    ranges: name -> distribution.
    seed: of the search.
    trial: the trial's number. With the name and the seed it determines each value's random stream.
  """
  def stream(name: str) -> np.random.Generator:
    digest = hashlib.sha256(f"{name}\n{seed}\n{trial}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest))

  return {name: distribution.draw(stream(name)) for name, distribution in ranges.items()}


def trials(path: str, overrides: Sequence[str], workdir: pathlib.Path, *, count: int, seeds: int, seed: int = 0,
           leave_one_out: bool = False, dataset: Dataset | None = None) -> list[Trial]:
  """Plans a search. Keys that the overrides set are not searched.

  Args:
    path: of the config, as `config.load` takes it.
    overrides: `--config.KEY=VALUE` arguments.
    workdir: runs lie in `trial=K/TARGET/seed=S` below it, without TARGET where the config names one.
    count: number of trials.
    seeds: runs for each trial and target, from the config's seed on.
    seed: of the draws.
    leave_one_out: whether each source is also left out in turn, in `trial=K/TARGET/leave_out=SOURCE/seed=S`.
    dataset: the data set, where it does not come from the config.

  Raises:
    UserError: the config is wrong, or cannot be searched.
  """
  own = load(path, overrides)
  given = dict(map(key_and_value, overrides))
  if own.sweep:
    raise UserError("config.sweep does not go with a search: leave it out")
  if leave_one_out and own.steps and not own.eval_every:
    raise UserError("leaving sources out compares runs evaluation by evaluation, and epochs differ in length: set "
                    "config.eval_every, or config.epochs in place of config.steps")
  ranges = distributions(own, given)
  dataset = dataset or data.load(own.data, own.seed)  # for the names of its domains
  found = []
  for number in range(count):
    settings = draw(ranges, seed, number) if number else {key: flatten(own)[key] for key in ranges}
    one = load(path, [*overrides, *(f"--config.{key}={value}" for key, value in settings.items()),
                      f"--config.seeds={seeds}"])
    runs = itertools.chain(*plan.plan(one, workdir / f"trial={number}", dataset))
    found.append(Trial(number, settings, [_part(run, settings, seeds, dataset, leave_one_out) for run in runs]))
  return found


def _part(run: Planned, settings: Mapping[str, Any], seeds: int, dataset: Dataset, leave_one_out: bool) -> Part:
  """The part of a trial for a planned run."""
  config = run.config
  folder = run.folder if seeds > 1 else run.folder / f"seed={config.seed}"
  run = Planned(config, folder, {**{key: str(value) for key, value in settings.items()}, **run.changes})
  target = f"{config.sources}->{config.target}" if config.sources else config.target
  sources = source_domains(config, dataset) if leave_one_out else ()
  return Part(target, config.seed, run, {source: _without(run, source, sources) for source in sources})


def key_and_value(override: str) -> tuple[str, str]:
  """The config key that an override sets, and the value as written."""
  key, _, value = override.partition("=")
  if key.startswith("--noconfig."):
    return key.removeprefix("--noconfig."), "False"
  return key.removeprefix("--config."), value


def _without(run: Planned, source: str, sources: Sequence[str]) -> Planned:
  """The run that is trained without a source and scored on it."""
  others = ",".join(name for name in sources if name != source)
  if not others:
    raise UserError(f"{run.folder}: a run with one source domain cannot leave it out: choose another rule")
  one = run.config.copy_and_resolve_references()
  one.update(sources=others, target=source)
  return Planned(one, run.folder.parent / f"leave_out={source}" / run.folder.name,
                 {**run.changes, "sources": others, "target": source})


def plans(found: Sequence[Trial]) -> list[list[Planned]]:
  """The runs of all trials as `plan.train_planned` takes them. Runs with the same target and sources are together."""
  together: dict[tuple[str, str], list[Planned]] = {}
  for trial in found:
    for part in trial.parts:
      together.setdefault((part.target, ""), []).append(part.run)
      for source, run in part.left_out.items():
        together.setdefault((part.target, source), []).append(run)
  return list(together.values())


def cost(found: Sequence[Trial], dataset: Dataset | None = None) -> str:
  """Describes in a few lines what training will cost. The time is estimated from a few steps of one run.

  Args:
    found: the trials. Finished runs cost nothing.
    dataset: the data set, where it does not come from the configs.
  """
  planned = plans(found)
  runs = sum(map(len, planned))
  todo = [plan.experiments([run.config for run in together if not _ended(run)], dataset) for together in planned]
  experiments = list(itertools.chain(*todo))
  parts = found[0].parts
  said = f"{_several(runs, 'run')}: {_several(len(found), 'trial')}, {_count(parts, 'seed')}, {_count(parts, 'target')}"
  said += ", with and without each source" if parts[0].left_out else ""
  if not experiments:
    return f"{said}; all are done"
  lead = experiments[0]
  compiling, step = Group.build([lead], Feed([lead]), "map").seconds()
  groups = sum(len(alike(together)) for together in todo)
  steps = sum(experiment.steps for experiment in experiments)
  seconds = groups * compiling + sum(_images(experiment) for experiment in experiments) * step / lead.config.batch_size
  return (f"{said}; {len(experiments)} to train, {steps:,} steps in {_several(groups, 'group')}\n"
          f"about {_duration(seconds)} one after the other, at {1e3 * step:.3g} ms a step of {lead.config.batch_size} "
          f"examples and {compiling:.2g} s to compile each group")


def _count(parts: Sequence[Part], field: str) -> str:
  """The number of different values that a field of parts has, in words."""
  return _several(len({getattr(part, field) for part in parts}), field)


def _several(count: int, what: str) -> str:
  """A number of things, in words."""
  return f"{count} {what}{'s' * (count != 1)}"


def _ended(run: Planned) -> bool:
  """Whether a run needs no more training."""
  folder = RunFolder(run.folder)
  return folder.finished or folder.failed


def _images(experiment: Experiment) -> float:
  """The number of images that a run processes; scored images count by their relative cost."""
  scored = sum(experiment.dataset.splits[split.domain][split.split] for split in experiment.scored())
  every = experiment.config.eval_every or experiment.steps_per_epoch
  evaluations = math.ceil(experiment.steps / every) + 1  # the last is the report's
  return experiment.steps * experiment.config.batch_size + FORWARD * evaluations * scored


def _duration(seconds: float) -> str:
  """A duration in the unit that reads best."""
  if seconds < 90:
    return f"{seconds:.0f} s"
  return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def score(part: Part, rule: str) -> Score | None:
  """Applies a rule to the records of a part's runs. Nothing is trained.

  Under "leave_one_out" the step is also chosen by the mean over left-out sources, evaluation by evaluation.

  Args:
    part: of a trial.
    rule: of `RULES`.

  Returns:
    None where a run failed.

  Raises:
    UserError: a record is damaged.
  """
  history = _history(part.run)
  if rule != "leave_one_out":
    if history is None:
      return None
    chosen = selection.select(history)[rule]
    value = chosen["target_accuracy" if rule == "target_oracle" else "source_accuracy"]
    return Score(value, chosen["target_accuracy"])
  others = [_history(run) for run in part.left_out.values()]
  if history is None or not all(others):
    return None
  means = [math.fsum(entry["target"] for entry in at) / len(at) for at in zip(*filter(None, others), strict=False)]
  best = max(range(min(len(means), len(history))), key=means.__getitem__)
  return Score(means[best], history[best]["target"])


def _history(run: Planned) -> list[dict[str, Any]] | None:
  """The evaluations of a run; None if it has no results."""
  if not RunFolder(run.folder).finished:
    return None
  shape = {**RESULTS, "sources": list, "target": str}
  results = read_json(run.folder / "results.json", "the results of the run", shape)
  return selection.history(read_lines(run.folder / "metrics.jsonl"), results["sources"], results["target"])


class Scored(NamedTuple):
  """A trial under a rule.

  Attributes:
    trial: the trial.
    scores: (target, seed) -> score; empty if a run failed.
  """

  trial: Trial
  scores: Mapping[tuple[str, int], Score]

  def cell(self, field: str, target: str = "") -> Cell:
    """Mean and standard error over seeds of a field of `Score`.

    Args:
      field: its name.
      target: the target; "": each seed's mean over targets.
    """
    return _over_seeds({key: one for key, one in self.scores.items() if target in ("", key[0])}, field)


def _over_seeds(scores: Mapping[tuple[str, int], Score], field: str) -> Cell:
  """Mean and standard error over seeds, in percent, of each seed's mean over targets."""
  by_seed: dict[int, list[float]] = {}
  for (_, seed), one in scores.items():
    by_seed.setdefault(seed, []).append(100 * getattr(one, field))
  return Cell({seed: math.fsum(values) / len(values) for seed, values in by_seed.items()})


def rank(found: Sequence[Trial], rule: str) -> list[Scored]:
  """All trials under a rule, the best first. Failed trials come last; of equal trials the lower number comes first.

  Args:
    found: trials that were trained.
    rule: of `RULES`.

  Raises:
    UserError: a run failed in every trial, or a record is damaged.
  """
  scored = []
  for trial in found:
    scores = {(part.target, part.seed): score(part, rule) for part in trial.parts}
    whole = {key: one for key, one in scores.items() if one is not None}
    scored.append(Scored(trial, whole if len(whole) == len(scores) else {}))
  if not any(one.scores for one in scored):
    raise UserError(f"in each of the {len(found)} trials a run failed: see the failure.json in their folders")
  return sorted(scored, key=lambda one: -_mean(one.cell("value")) if one.scores else math.inf)


def drawn(found: Sequence[Trial]) -> str:
  """A table of the trials' settings."""
  keys = list(found[0].settings)
  return table(["trial", *(key.rpartition(".")[2] for key in keys)],
               [[trial.number, *(_number(trial.settings[key]) for key in keys)] for trial in found])


def report(ranked: Sequence[Scored], rule: str) -> str:
  """Tables of the trials, the best first, and of the choice for each target alone.

  Args:
    ranked: what `rank` returned.
    rule: one of `RULES`.
  """
  keys = list(ranked[0].trial.settings)
  names = [key.rpartition(".")[2] for key in keys]
  rows = [[one.trial.number, *(_number(one.trial.settings[key]) for key in keys),
           *(_percent(one.cell(field)) if one.scores else "failed" for field in Score._fields)] for one in ranked]
  lines = [f"trials by {rule}: {RULES[rule]}", "percent, mean ± standard error over seeds of the mean over targets",
           table(["trial", *names, "score", "target accuracy"], rows)]
  if len({target for target, _ in ranked[0].scores}) > 1:
    lines += ["", "chosen for each target alone, as in DomainBed's tables", _by_target(ranked)]
  return "\n".join(lines)


def _by_target(ranked: Sequence[Scored]) -> str:
  """A table of each target's own best trial."""
  rows: list[list[Any]] = []
  chosen: dict[tuple[str, int], Score] = {}
  for target in dict.fromkeys(target for target, _ in ranked[0].scores):
    best = max(filter(lambda one: one.scores, ranked), key=lambda one: _mean(one.cell("value", target)))
    rows.append([target, best.trial.number, *(_percent(best.cell(field, target)) for field in Score._fields)])
    chosen |= {key: one for key, one in best.scores.items() if key[0] == target}
  rows.append(["mean", "", *(_percent(_over_seeds(chosen, field)) for field in Score._fields)])
  return table(["target", "trial", "score", "target accuracy"], rows)


def _mean(cell: Cell) -> float:
  """The mean of a cell that has scores."""
  assert cell.mean is not None
  return cell.mean


def _number(value: Any) -> str:
  return f"{value:g}" if isinstance(value, float) else str(value)


def _percent(cell: Cell) -> str:
  return f"{_mean(cell):.1f}" + (f" ± {cell.error:.1f}" if cell.error is not None else "")


def write_config(file: pathlib.Path, path: str, overrides: Sequence[str], chosen: Scored, rule: str) -> None:
  """Writes a config file that trains a trial's runs again.

  Args:
    file: to write.
    path: of the search's config.
    overrides: of the search.
    chosen: the trial.
    rule: that chose it.
  """
  parts = chosen.trial.parts
  changes = {**dict(map(key_and_value, overrides)), "seeds": len({part.seed for part in parts}),
             **chosen.trial.settings}
  source, (_, colon, arguments) = config_files.find(path), path.partition(":")
  base = source.stem if source.parent.samefile(config_files.FOLDER) else str(source.absolute())
  about = (f"Trial {chosen.trial.number} of a search, the best by {rule}: {_percent(chosen.cell('value'))} % over "
           f"{_count(parts, 'seed')}, {_count(parts, 'target')}.")
  lines = "".join(f"    {key!r}: {value!r},\n" for key, value in changes.items())
  write_text_atomically(file, f'''"""{about}"""

from ml_collections import ConfigDict

from dgjax import config

CHANGES = {{
{lines}}}


def get_config(arg: str | None = None) -> ConfigDict:
  """The config of the search with the trial's values; it has no arguments."""
  config.parse(arg, {{}})
  return config.load({base + colon + arguments!r}, CHANGES)
''')
