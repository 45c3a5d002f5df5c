"""Finished runs as tables of numbers: methods by target domains, averaged over seeds, beside published ones."""

import dataclasses
import functools
import json
import math
import pathlib
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from dgjax.config import FREE, flatten
from dgjax.errors import UserError, nearest
from dgjax.evaluation import selection as rules
from dgjax.evaluation.selection import OFFLINE, RULES
from dgjax.files import read_json
from dgjax.recorder import read_lines
from dgjax.reference import Table

FILE = "config"  # to group by: the file and arguments that a run's command names
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
  """A run without results; of `results` it has what its other files say.

  Attributes:
    reason: why there are none: "failed at step 3: ..." or "not finished, at step 20".
  """

  reason: str


def file_name(path: str) -> str:
  """A config as a table names it: "rcl_mnist_mp:m=inf" of "configs/rcl_mnist_mp.py:m=inf"."""
  return pathlib.PurePath(path).name.replace(".py", "", 1)


@dataclasses.dataclass(frozen=True)
class Cell:
  """One method on one target domain.

  Attributes:
    scores: seed -> accuracy in percent.
    paper: the published number in percent, or None.
    remarks: how the runs fall short of the paper's: "short" (fewer epochs), "from scratch" (no weights).
    missing: seed that other cells of the table have -> why this one lacks it.
  """

  scores: Mapping[int, float]
  paper: float | None = None
  remarks: tuple[str, ...] = ()
  missing: Mapping[int, str] = dataclasses.field(default_factory=dict)

  @property
  def mean(self) -> float | None:
    """Mean over seeds; None without a run."""
    return math.fsum(self.scores.values()) / len(self.scores) if self.scores else None

  @property
  def error(self) -> float | None:
    """Standard error over seeds: sample standard deviation over the root of their number; None below two seeds."""
    if len(self.scores) < 2:
      return None
    mean, count = math.fsum(self.scores.values()) / len(self.scores), len(self.scores)
    return math.sqrt(math.fsum((x - mean) ** 2 for x in self.scores.values()) / (count - 1) / count)


@dataclasses.dataclass(frozen=True)
class Row:
  """One method.

  Attributes:
    label: its name, with what else tells the row from others.
    cells: an entry for every column.
    mean: over the cells, and its standard error; None where it has none.
    mean_paper: the published mean.
    runs: that the cells are of.
  """

  label: str
  cells: Mapping[str, Cell]
  mean: tuple[float | None, float | None]
  mean_paper: float | None
  runs: Sequence[Finished]

  @property
  def remarks(self) -> tuple[str, ...]:
    """Those of any of its cells."""
    return tuple(dict.fromkeys(remark for cell in self.cells.values() for remark in cell.remarks))

  @property
  def counts(self) -> tuple[int, ...]:
    """The different numbers of seeds that its cells have, rising."""
    return tuple(sorted({len(cell.scores) for cell in self.cells.values()}))


@dataclasses.dataclass(frozen=True)
class Results:
  """A table of one data set.

  Attributes:
    dataset: its name.
    title: what is measured.
    selection: the rule that chose the step.
    columns: target domains, with their sources where a run's config names these.
    mean_label: header of the mean column; "" where there is only one target.
    rows: one for each method.
    paper: what the paper columns are from; "" without them.
    notes: what the reader should know.
    seeds: every seed that a run of the table has, finished or not.
  """

  dataset: str
  title: str
  selection: str
  columns: tuple[str, ...]
  mean_label: str
  rows: tuple[Row, ...]
  paper: str
  notes: tuple[str, ...]
  seeds: tuple[int, ...] = ()

  def seeds_of(self, row: Row) -> str:
    """How many seeds a row has: "3"; "2 of 3" where others have more; "1-3 of 3" where its cells differ."""
    few, many = row.counts[0], row.counts[-1]
    text = str(few) if few == many else f"{few}-{many}"
    return text if few == many == len(self.seeds) else f"{text} of {len(self.seeds)}"

  def standings(self, name: str) -> list[str]:
    """How each row stands in a column, or in that of means.

    Args:
      name: of the column; `mean_label` for the means.

    Returns:
      "best"; "tie" where the difference from the best is within its standard error; or "". All are "" where fewer than
      two rows have a number.
    """
    numbers = [row.mean if name == self.mean_label else (row.cells[name].mean, row.cells[name].error)
               for row in self.rows]
    there = [(mean, error) for mean, error in numbers if mean is not None]
    if len(there) < 2:
      return [""] * len(numbers)
    best, error_of_best = max(there, key=lambda number: number[0])

    def standing(mean: float | None, error: float | None) -> str:
      if mean is None:
        return ""
      if mean == best:
        return "best"
      within = error is not None and error_of_best is not None and best - mean <= math.hypot(error, error_of_best)
      return "tie" if within else ""

    return [standing(*number) for number in numbers]


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
    try:
      results = json.loads(path.read_text())
    except (OSError, ValueError) as error:
      raise UserError(f"{path} cannot be read ({error}): delete it and run again") from error
    run = Finished(path.parent, results, flatten(results.get("config", {})) if isinstance(results, dict) else {})
    for key in ("config", "method", "dataset", "sources", "target", "seed", "selection"):
      run.get(key)
    runs.append(run)
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


def score(run: Finished, selection: str, mode: str, in_domain: bool, measure: str = "accuracy") -> float | None:
  """A run's accuracy in percent.

  Args:
    run: a finished run.
    selection: the rule that chooses the step, one of `OFFLINE`.
    mode: the way of predicting; "" for the one that the run reports.
    in_domain: on the sources' test splits (unweighted mean), not the target.
    measure: "accuracy", or "class_accuracy" for the mean of the classes'.

  Returns:
    The accuracy; None if the run has no such mode.

  Raises:
    UserError: if the run has no such measurement.
  """
  domains = run.get("sources") if in_domain else [run.get("target")]
  if not mode and measure == "accuracy" and not in_domain and selection in RULES:
    value = run.get("selection", selection, "target_accuracy")
  else:
    if selection == run.rule:
      scores = run.get(measure).get(mode or run.way)
    elif measure == "accuracy":
      scores = run.scores_by(selection, mode or run.way) if not mode or mode in run.get(measure) else None
    else:
      raise UserError(f"{run.folder} has the mean of its classes' accuracies at the step of {run.rule} alone: "
                      f"--selection={run.rule}")
    if scores is None:
      return None
    missing = [domain for domain in domains if domain not in scores]
    if missing and not in_domain:
      return None  # a mode that needs to know the domain has no accuracy on the target
    if missing:
      raise UserError(f"{run.folder} has no accuracy on {missing[0]}: {run.get('dataset')} keeps no test split of it "
                      "apart from training, leave --in-domain out")
    value = math.fsum(scores[domain] for domain in domains) / len(domains)
  if value is None:
    raise UserError(f"{run.folder / 'results.json'} has no target accuracy under {selection}")
  return 100 * value


def build(
    runs: Sequence[Finished], unfinished: Sequence[Unfinished] = (), *, selection: str = "source_val",
    group_by: Sequence[str] = (), modes: Sequence[str] | None = None, in_domain: bool = False,
    paper: Table | None = None, order: Sequence[str] = ()
) -> list[Results]:
  """Makes a table for every data set.

  Args:
    runs: finished runs.
    unfinished: others, which leave holes in the tables.
    selection: one of `OFFLINE`.
    group_by: config keys whose values make rows of their own; "config" for the config's file and arguments.
    modes: ways of predicting that make rows of their own; () for all that the runs have; None for one row a method, in
      the way that its config names.
    in_domain: accuracy on the sources' test splits instead of the target (modes as if ()).
    paper: published numbers to put beside ours.
    order: configs, as `Recorded.file` has them, in the order that their rows have; other rows come behind, sorted.

  Returns:
    Tables, by name of the data set.

  Raises:
    UserError: a name is not known, runs of one cell differ in more than the seed, or a run is there twice.
  """
  if selection not in OFFLINE:
    raise UserError(f"no selection rule {selection!r}{nearest(selection, OFFLINE)}")
  known = {FILE}.union(*(run.config for run in runs))
  for key in group_by:
    if key not in known:
      raise UserError(f"--group-by: no run has the config key {key!r}{nearest(key, known)}")
  if in_domain and modes is None:
    modes = ()
  available = list(dict.fromkeys(mode for run in runs for mode in run.results.get("accuracy", {})))
  if modes is not None:
    for mode in modes:
      if mode not in available:
        raise UserError(f"--modes: no run was scored in mode {mode!r}{nearest(mode, available)}")
    modes = modes or available
  chosen = [""] if modes is None else list(modes)
  tables = []
  for dataset in sorted({run.get("dataset") for run in runs}):
    here = [run for run in runs if run.get("dataset") == dataset]
    holes = [run for run in unfinished if run.get("dataset") == dataset and run.get("target") not in ("", "all")]
    tables.append(_table(dataset, here, holes, selection, group_by, chosen, in_domain, paper, order))
  if paper and not paper.domains:
    raise UserError(f"table {paper.number} of {paper.paper} has no column for an unseen domain: nothing of it can be "
                    "put beside the runs")
  if paper and not any(table.paper for table in tables):
    targets = sorted({run.column for run in runs})
    raise UserError(f"table {paper.number} of {paper.paper} is about {', '.join(paper.domains.values())}; the runs' "
                    f"targets are {', '.join(targets)}")
  return tables


def _table(dataset: str, runs: Sequence[Finished], unfinished: Sequence[Unfinished], selection: str,
           group_by: Sequence[str], modes: Sequence[str], in_domain: bool, paper: Table | None,
           order: Sequence[str]) -> Results:
  def name_of(run: Recorded) -> str:
    alone = paper and paper.single_source and len(run.get("sources")) == 1
    return run.get("target") if alone else run.column

  columns = tuple(sorted({name_of(run) for run in (*runs, *unfinished)}))
  every_seed = tuple(sorted({run.get("seed") for run in (*runs, *unfinished)}))
  complete = False
  if paper:
    published = {paper.column_of(name) for name in columns}
    complete = published == set(paper.domains)
    if published == {None}:
      paper = None
  groups: dict[tuple[Any, ...], list[Finished]] = {}
  for run in runs:
    groups.setdefault((run.get("method"), *map(run.part, group_by)), []).append(run)
  holes: dict[tuple[Any, ...], list[Unfinished]] = {}
  for hole in unfinished:
    holes.setdefault(_key_of(hole, groups, group_by), []).append(hole)

  def place(key: tuple[Any, ...]) -> tuple[Any, ...]:
    files = [order.index(run.file) for run in groups.get(key, ()) if run.file in order]
    return min(files, default=len(order)), _sort_key(key)

  rows, notes = [], []
  for key in sorted(groups | holes, key=place):
    here = groups.get(key, [])
    by_column = {name: _seeds([run for run in here if name_of(run) == name], name, group_by) for name in columns}
    missing = {name: dict.fromkeys(every_seed, "not started")
               | {run.get("seed"): run.reason for run in holes.get(key, ()) if name_of(run) == name}
               for name in columns}
    parts = dict(zip(group_by, key[1:], strict=True))
    label = ", ".join([parts.pop(FILE, None) or key[0], *(f"{name}={value}" for name, value in parts.items()
                                                          if value is not None)])  # None: the method has no such key
    if differ := differing(here):
      notes.append(f"{label}: the targets' runs differ in {_listed(differ)}")
    for mode in modes:
      row = _row(f"{label} ({mode})" if mode else label, by_column, missing, selection, mode, in_domain, paper,
                 complete)
      if any(cell.scores for cell in row.cells.values()) or not here:
        rows.append(row)
  measured = "on the sources' test splits, by target" if in_domain else "on the target"
  over = ", mean over single sources" if paper and paper.single_source else ""
  title = f"{dataset}: {_measure(paper).replace('_', ' ')} (%) {measured}{over}, mean ± standard error over seeds"
  every = _possible(runs)
  if len(columns) == 1:
    mean_label = ""
  else:
    mean_label = "mean" if len(columns) == every else f"mean of {len(columns)}" + (f" of {every}" if every else "")
  source = f"{paper.paper}, Table {paper.number}: {paper.caption}" if paper else ""
  return Results(dataset, title, selection, columns, mean_label, tuple(rows), source, tuple(notes), every_seed)


def _key_of(run: Unfinished, groups: Mapping[tuple[Any, ...], Sequence[Finished]],
            group_by: Sequence[str]) -> tuple[Any, ...]:
  """The row that an unfinished run belongs to: one whose runs have its settings, or else one of its own.

  Its folder does not tell the command, and so not the config's file.
  """
  own = (run.get("method"), *map(run.part, group_by))
  return next((key for key, runs in groups.items() if key[0] == own[0] and not differing([runs[0], run])), own)


def _measure(paper: Table | None) -> str:
  return paper.measure if paper else "accuracy"


def _possible(runs: Sequence[Finished]) -> int:
  """How many columns there can be: a domain each, or with one source a pair each; 0: unknown."""
  domains = {run.get("target") for run in runs}.union(*(run.get("sources") for run in runs))
  if not any(run.config.get("sources") for run in runs):
    return len(domains)
  pairs = all(run.config.get("sources") and len(run.get("sources")) == 1 for run in runs)
  return len(domains) * (len(domains) - 1) if pairs else 0


def _seeds(runs: Sequence[Finished], name: str, group_by: Sequence[str]) -> dict[int, list[Finished]]:
  """The runs of one cell by seed, one for each choice of sources, having checked that nothing else differs."""
  if runs and (differ := differing(runs)):
    raise UserError(f"runs of {runs[0].get('method')} on {name} differ in {_listed(differ)}: "
                    f"--group-by={','.join([*group_by, next(iter(differ))])} makes rows of them")
  seeds: dict[int, dict[str, Finished]] = {}
  for run in runs:
    same = seeds.setdefault(run.get("seed"), {})
    if run.column in same:
      raise UserError(f"{same[run.column].folder} and {run.folder} are the same run (seed {run.get('seed')}): remove "
                      "one")
    same[run.column] = run
  return {seed: list(same.values()) for seed, same in sorted(seeds.items())}


def _row(label: str, by_column: Mapping[str, Mapping[int, Sequence[Finished]]],
         missing: Mapping[str, Mapping[int, str]], selection: str, mode: str, in_domain: bool, paper: Table | None,
         complete: bool) -> Row:
  cells, published = {}, set()
  for name, seeds in by_column.items():
    scores = {}
    for seed, runs in seeds.items():
      found = [score(run, selection, mode, in_domain, _measure(paper)) for run in runs]
      values = [value for value in found if value is not None]
      if len(values) == len(runs):
        scores[seed] = math.fsum(values) / len(values)
    number: float | None = None
    remarks: tuple[str, ...] = ()
    if paper and (header := paper.column_of(name)):
      every = [run for runs in seeds.values() for run in runs]
      rows = {run.published(paper, mode) for run in every}
      published |= rows
      if len(rows) == 1 and (row := rows.pop()):
        number = paper.cell(row, header)
        remarks = tuple(dict.fromkeys(remark for run in every for remark in paper.training.remarks(run.config)))
    holes = {seed: f"cannot predict by {mode}" if seed in seeds else why for seed, why in missing[name].items()
             if seed not in scores}
    cells[name] = Cell(scores, number, remarks, holes)
  row = published.pop() if len(published) == 1 else None
  whole = paper.cell(row, paper.overall) if paper and row and paper.overall and complete else None
  return Row(label, cells, mean_over(list(cells.values())), whole,
             [run for seeds in by_column.values() for runs in seeds.values() for run in runs])


def mean_over(cells: Sequence[Cell]) -> tuple[float | None, float | None]:
  """Mean over targets, and its standard error over seeds where all targets have the same ones."""
  means = [cell.mean for cell in cells if cell.mean is not None]
  if len(means) < len(cells):
    return None, None
  seeds = list(cells[0].scores)
  if any(list(cell.scores) != seeds for cell in cells):
    return math.fsum(means) / len(means), None
  over = Cell({seed: math.fsum(cell.scores[seed] for cell in cells) / len(cells) for seed in seeds})
  return over.mean, over.error


def _sort_key(key: tuple[Any, ...]) -> tuple[Any, ...]:
  numbers = [isinstance(value, int | float) for value in key]
  return tuple((not number, value if number else str(value)) for number, value in zip(numbers, key, strict=True))


def _listed(differ: Mapping[str, Sequence[str]]) -> str:
  return "; ".join(f"{key} ({', '.join(values)})" for key, values in differ.items())
