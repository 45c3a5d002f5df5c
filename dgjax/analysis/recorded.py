"""Runs as their folders tell them: the finished ones, and those that are not."""

import dataclasses
import functools
import json
import pathlib
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from dgjax.config import FREE, flatten
from dgjax.errors import UserError, nearest
from dgjax.evaluation import selection as rules
from dgjax.evaluation.selection import RULES
from dgjax.files import read_json
from dgjax.recorder import read_lines
from dgjax.reference import Table

FILE = "config"  # to group by: the file and arguments that a run's command names
# What tables need of a `results.json`; runs of old versions lack what may be None.
SHOWN = {"config": dict, "method": str, "dataset": str, "sources": list, "target": str, "seed": int,
         "selection": {"*": dict}, **dict.fromkeys(("report", "accuracy", "class_accuracy"), (dict, type(None)))}
# Keys in which the runs of one row may differ: what the table is about, and what does not change a run's numbers.
APART = ("seed", "target", "sources", "data.dir", *FREE)


def column(run: Mapping[str, Any]) -> str:
  """What a run's accuracy is of: its target, or "source->target" where its config names the sources.

  Args:
    run: contents of a `results.json`.

  Returns:
    "webcam", "amazon->webcam" or "amazon+dslr->webcam".
  """
  named = run.get("config", {}).get("sources")
  return f"{'+'.join(run['sources'])}->{run['target']}" if named else run["target"]


@dataclasses.dataclass(frozen=True)
class Recorded:
  """A run as its folder tells it.

  Attributes:
    folder: where it is.
    results: the contents of its `results.json`.
    config: its config, flat: "algorithm.overlap_weight" -> value.
  """

  folder: pathlib.Path
  results: Mapping[str, Any]
  config: Mapping[str, Any]

  def get(self, *keys: str) -> Any:
    """A value of `results.json`, by the keys that lead to it.

    Raises:
      UserError: if it is not there.
    """
    value: Any = self.results
    for key in keys:
      if not isinstance(value, Mapping) or key not in value:
        known = nearest(key, map(str, value)) if isinstance(value, Mapping) else ""
        raise UserError(f"{self.folder / 'results.json'} has no {'/'.join(keys)}{known}")
      value = value[key]
    return value

  @property
  def file(self) -> str:
    """The config that the run's command names: "rcl_mnist_mp:m=inf"; "" if it names none."""
    words = shlex.split(self.results.get("command") or "")
    path = next((word.removeprefix("--config=") for word in words if word.startswith("--config=")), "")
    return file_name(path)

  def part(self, key: str) -> Any:
    """What the run has under a key of `build`'s `group_by`; None if nothing."""
    return self.file if key == FILE else self.config.get(key)

  @property
  def column(self) -> str:
    """The column that the run is of, see `column`."""
    return column(self.results)

  @functools.cached_property
  def lines(self) -> list[dict[str, Any]]:
    """The lines of its `metrics.jsonl`; none if it is absent."""
    return read_lines(self.folder / "metrics.jsonl")


@dataclasses.dataclass(frozen=True)
class Finished(Recorded):
  """A finished run."""

  @property
  def way(self) -> str:
    """The way to predict that the run reports."""
    return self.config.get("algorithm.prediction", "default")

  @property
  def rule(self) -> str:
    """The rule that chose the state which the run was scored in full at."""
    return self.results.get("report", {}).get("rule", "source_val")

  def published(self, paper: Table, mode: str) -> tuple[str, str] | None:
    """The row of a published table that is about the run.

    Args:
      paper: the table.
      mode: the way of predicting; "" for the one that the run reports.
    """
    if not paper.covers(self.get("sources"), self.get("target")):
      return None
    return paper.find_row(self.config, mode or self.way)

  def scores_by(self, rule: str, mode: str) -> dict[str, float]:
    """Accuracies on test splits at the step that a rule chooses, from the lines of evaluations.

    Args:
      rule: one of `OFFLINE`.
      mode: the way of predicting.

    Returns:
      Domain -> accuracy in [0, 1]; empty if the rule looks at the target and the way does not predict there.

    Raises:
      UserError: the run's record has no accuracies of that way, or nothing that the rule looks at.
    """
    record = self.folder / "metrics.jsonl"
    end = f"/accuracy/{mode}"
    if not any(key.endswith(end) for line in self.lines for key in line):
      raise UserError(f"{record} has no accuracies of {mode} at every evaluation: --selection={self.rule}, the rule of "
                      "the run's report, has them")
    step = rules.choose(rule, self.lines, self.get("sources"), self.get("target"), mode)
    if step is None and rule == "target_val" and not any(key.startswith("target_val/") for line in self.lines
                                                         for key in line):
      raise UserError(f"{record} has no accuracies on the target's validation split, which target_val looks at: choose "
                      f"one of {', '.join(RULES)}")
    line = {} if step is None else rules.merge(self.lines)[step]
    return {key.split("/")[1]: value for key, value in line.items() if key.startswith("test/") and key.endswith(end)
            and key.count("/") == end.count("/") + 1}


@dataclasses.dataclass(frozen=True)
class Unfinished(Recorded):
  """A run without results. Its `results` holds what its other files say.

  Attributes:
    reason: why there are none: "failed at step 3: ..." or "not finished, at step 20".
  """

  reason: str


def file_name(path: str) -> str:
  """A config as a table names it: "rcl_mnist_mp:m=inf" of "configs/rcl_mnist_mp.py:m=inf"."""
  return pathlib.PurePath(path).name.replace(".py", "", 1)


def read_runs(directory: pathlib.Path) -> tuple[list[Finished], list[Unfinished]]:
  """Finds runs, at any depth.

  Args:
    directory: a folder of run folders, or one run's.

  Returns:
    The finished runs (with a `results.json`), and the unfinished ones (with a `config.json` only).

  Raises:
    UserError: if there is no finished run, or a file cannot be read.
  """
  if not directory.is_dir():
    raise UserError(f"no folder {directory}")
  runs = []
  for path in sorted(directory.rglob("results.json")):
    if {"run", "domains"} <= read_json(path, "the results of the run").keys():
      continue  # of `dgjax evaluate`, whose files lie in the run's folder
    results = read_json(path, "the results of the run", SHOWN)
    runs.append(Finished(path.parent, results, flatten(results["config"])))
  finished = {run.folder for run in runs}
  unfinished = [read_unfinished(path.parent) for path in sorted(directory.rglob("config.json"))
                if path.parent not in finished]
  if not runs:
    more = f", but {len(unfinished)} unfinished: {unfinished[0].folder} {unfinished[0].reason}" if unfinished else ""
    raise UserError(f"{directory} holds no finished run (no results.json){more}")
  return runs, unfinished


def read_unfinished(folder: pathlib.Path) -> Unfinished:
  """What the files of a run without results say of it."""
  config = read_json(folder / "config.json", "the settings of the run")
  record, failure = ({**read_json(path, "a part of the run's record")} if path.exists() else {}
                     for path in (folder / "experiment.json", folder / "failure.json"))
  flat = flatten(config)
  if failure:
    reason = f"failed at step {failure.get('step')}: {failure.get('reason')}"
  else:
    steps = [line["step"] for line in read_lines(folder / "metrics.jsonl")]
    reason = f"is not finished, at step {max(steps)}" if steps else "is not finished, before its first step"
  named = [name.strip() for name in str(flat.get("sources", "")).split(",") if name.strip()]
  return Unfinished(folder, {
      "config": config, "method": flat.get("algorithm.name", ""), "seed": flat.get("seed", 0),
      "dataset": record.get("data", {}).get("name", flat.get("data.name", "")), "target": flat.get("target", ""),
      "sources": record.get("sources", named)}, flat, reason)


def reported(runs: Sequence[Finished]) -> str:
  """The rule by which all of the runs chose the state that they report; "source_val" where they differ."""
  used = {run.rule for run in runs}
  return used.pop() if len(used) == 1 else "source_val"


def differing(runs: Sequence[Recorded]) -> dict[str, list[str]]:
  """Config keys that should be the same in runs that are averaged, and are not.

  Args:
    runs: at least one.

  Returns:
    key -> its different values, written out.
  """
  keys = sorted(set().union(*(run.config for run in runs)) - set(APART))
  values = {key: list(dict.fromkeys(json.dumps(run.config.get(key)) for run in runs)) for key in keys}
  return {key: found for key, found in values.items() if len(found) > 1}
