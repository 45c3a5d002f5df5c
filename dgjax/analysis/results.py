"""Finished runs as tables of numbers: methods by target domains, averaged over seeds, beside published ones."""

import dataclasses
import json
import math
import pathlib
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from dgjax.analysis.summary import column
from dgjax.config import FREE, flatten
from dgjax.errors import UserError, nearest
from dgjax.evaluation.selection import RULES
from dgjax.reference import Table

FILE = "config"  # to group by: the file and arguments that a run's command names
# Keys in which the runs of one row may differ: what the table is about, and what does not change a run's numbers.
APART = ("seed", "target", "sources", "data.dir", *FREE)


@dataclasses.dataclass(frozen=True)
class Run:
  """A finished run.

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
    return pathlib.PurePath(path).name.replace(".py", "", 1)

  def part(self, key: str) -> Any:
    """What the run has under a key of `build`'s `group_by`; None if nothing."""
    return self.file if key == FILE else self.config.get(key)

  @property
  def column(self) -> str:
    """The column that the run is of, see `summary.column`."""
    return column(self.results)

  def published(self, paper: Table, mode: str) -> tuple[str, str] | None:
    """The row of a published table that is about the run.

    Args:
      paper: the table.
      mode: the way of predicting; "" for the one that the run reports.
    """
    if not paper.covers(self.get("sources"), self.get("target")):
      return None
    return paper.find_row(self.config, mode or self.config.get("algorithm.prediction", "default"))


@dataclasses.dataclass(frozen=True)
class Cell:
  """One method on one target domain.

  Attributes:
    scores: seed -> accuracy in percent.
    paper: the published number in percent, or None.
    remarks: what the runs did with less than the paper's: "short", "from scratch".
  """

  scores: Mapping[int, float]
  paper: float | None = None
  remarks: tuple[str, ...] = ()

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
  """One method; `cells` has an entry for every column, `mean` is over them, `runs` are those that the cells are of."""

  label: str
  cells: Mapping[str, Cell]
  mean: tuple[float | None, float | None]
  mean_paper: float | None
  runs: Sequence[Run]

  @property
  def remarks(self) -> tuple[str, ...]:
    """Those of any of its cells."""
    return tuple(dict.fromkeys(remark for cell in self.cells.values() for remark in cell.remarks))

  @property
  def seeds(self) -> str:
    """How many seeds: "3", or "1-3" where targets differ."""
    counts = sorted({len(cell.scores) for cell in self.cells.values()})
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]}-{counts[-1]}"


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
  """

  dataset: str
  title: str
  selection: str
  columns: tuple[str, ...]
  mean_label: str
  rows: tuple[Row, ...]
  paper: str
  notes: tuple[str, ...]


def read_runs(directory: pathlib.Path) -> tuple[list[Run], list[pathlib.Path]]:
  """Finds runs, at any depth.

  Args:
    directory: a folder of run folders, or one run's.

  Returns:
    The finished runs (with a `results.json`), and the folders of unfinished ones (with a `config.json` only).

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
    run = Run(path.parent, results, flatten(results.get("config", {})) if isinstance(results, dict) else {})
    for key in ("config", "method", "dataset", "sources", "target", "seed", "selection"):
      run.get(key)
    runs.append(run)
  finished = {run.folder for run in runs}
  unfinished = sorted(path.parent for path in directory.rglob("config.json") if path.parent not in finished)
  if not runs:
    more = f", but {len(unfinished)} unfinished: {unfinished[0]}" if unfinished else ""
    raise UserError(f"{directory} holds no finished run (no results.json){more}")
  return runs, unfinished


def reported(runs: Sequence[Run]) -> str:
  """The rule by which all of the runs chose the state that they report; "source_val" where they differ."""
  rules = {run.results.get("report", {}).get("rule", "source_val") for run in runs}
  return rules.pop() if len(rules) == 1 else "source_val"


def differing(runs: Sequence[Run]) -> dict[str, list[str]]:
  """Config keys that should be the same in runs that are averaged, and are not.

  Args:
    runs: at least one.

  Returns:
    key -> its different values, written out.
  """
  keys = sorted(set().union(*(run.config for run in runs)) - set(APART))
  values = {key: list(dict.fromkeys(json.dumps(run.config.get(key)) for run in runs)) for key in keys}
  return {key: found for key, found in values.items() if len(found) > 1}


def score(run: Run, selection: str, mode: str, in_domain: bool, measure: str = "accuracy") -> float | None:
  """A run's accuracy in percent.

  Args:
    run: a finished run.
    selection: the rule that chooses the step.
    mode: the way of predicting; "" for the one that the run reports.
    in_domain: on the sources' test splits (unweighted mean), not the target.
    measure: "accuracy", or "class_accuracy" for the mean of the classes'.

  Returns:
    The accuracy; None if the run has no such mode.

  Raises:
    UserError: if the run has no such measurement, or it was made at another rule's step.
  """
  if not mode and measure == "accuracy":
    value = run.get("selection", selection, "target_accuracy")
  else:
    rule = run.results.get("report", {}).get("rule", "source_val")
    if rule != selection:
      raise UserError(f"{run.folder} was scored in full at the step of {rule} alone: --selection={rule}")
    scores = run.get(measure).get(mode or run.config.get("algorithm.prediction", "default"))
    if scores is None:
      return None
    domains = run.get("sources") if in_domain else [run.get("target")]
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
    runs: Sequence[Run], *, selection: str = "source_val", group_by: Sequence[str] = (),
    modes: Sequence[str] | None = None, in_domain: bool = False, paper: Table | None = None
) -> list[Results]:
  """Makes a table for every data set.

  Args:
    runs: finished runs.
    selection: one of `RULES`.
    group_by: config keys whose values make rows of their own; "config" for the config's file and arguments.
    modes: ways of predicting that make rows of their own; () for all that the runs have; None for one row a method, in
      the way that its config names.
    in_domain: accuracy on the sources' test splits instead of the target (modes as if ()).
    paper: published numbers to put beside ours.

  Returns:
    Tables, by name of the data set.

  Raises:
    UserError: a name is not known, runs of one cell differ in more than the seed, or a run is there twice.
  """
  if selection not in RULES:
    raise UserError(f"no selection rule {selection!r}{nearest(selection, RULES)}")
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
    tables.append(_table(dataset, here, selection, group_by, chosen, in_domain, paper))
  if paper and not paper.domains:
    raise UserError(f"table {paper.number} of {paper.paper} has no column for an unseen domain: nothing of it can be "
                    "put beside the runs")
  if paper and not any(table.paper for table in tables):
    targets = sorted({run.column for run in runs})
    raise UserError(f"table {paper.number} of {paper.paper} is about {', '.join(paper.domains.values())}; the runs' "
                    f"targets are {', '.join(targets)}")
  return tables


def _table(dataset: str, runs: Sequence[Run], selection: str, group_by: Sequence[str], modes: Sequence[str],
           in_domain: bool, paper: Table | None) -> Results:
  def name_of(run: Run) -> str:
    alone = paper and paper.single_source and len(run.get("sources")) == 1
    return run.get("target") if alone else run.column

  columns = tuple(sorted({name_of(run) for run in runs}))
  complete = False
  if paper:
    published = {paper.column_of(name) for name in columns}
    complete = published == set(paper.domains)
    if published == {None}:
      paper = None
  groups: dict[tuple[Any, ...], list[Run]] = {}
  for run in runs:
    groups.setdefault((run.get("method"), *map(run.part, group_by)), []).append(run)
  rows, notes = [], []
  for key in sorted(groups, key=_sort_key):
    by_column = {name: _seeds([run for run in groups[key] if name_of(run) == name], name, group_by) for name in columns}
    parts = dict(zip(group_by, key[1:], strict=True))
    label = ", ".join([parts.pop(FILE, None) or key[0], *(f"{name}={value}" for name, value in parts.items()
                                                          if value is not None)])  # None: the method has no such key
    if differ := differing(groups[key]):
      notes.append(f"{label}: the targets' runs differ in {_listed(differ)}")
    for mode in modes:
      row = _row(f"{label} ({mode})" if mode else label, by_column, selection, mode, in_domain, paper, complete)
      if any(cell.scores for cell in row.cells.values()):
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
  return Results(dataset, title, selection, columns, mean_label, tuple(rows), source, tuple(notes))


def _measure(paper: Table | None) -> str:
  return paper.measure if paper else "accuracy"


def _possible(runs: Sequence[Run]) -> int:
  """How many columns there can be: a target for each domain, or with one source a pair each; 0: who knows."""
  domains = {run.get("target") for run in runs}.union(*(run.get("sources") for run in runs))
  if not any(run.config.get("sources") for run in runs):
    return len(domains)
  pairs = all(run.config.get("sources") and len(run.get("sources")) == 1 for run in runs)
  return len(domains) * (len(domains) - 1) if pairs else 0


def _seeds(runs: Sequence[Run], name: str, group_by: Sequence[str]) -> dict[int, list[Run]]:
  """The runs of one cell by seed, one for each choice of sources, having checked that nothing else differs."""
  if runs and (differ := differing(runs)):
    raise UserError(f"runs of {runs[0].get('method')} on {name} differ in {_listed(differ)}: "
                    f"--group-by={','.join([*group_by, next(iter(differ))])} makes rows of them")
  seeds: dict[int, dict[str, Run]] = {}
  for run in runs:
    same = seeds.setdefault(run.get("seed"), {})
    if run.column in same:
      raise UserError(f"{same[run.column].folder} and {run.folder} are the same run (seed {run.get('seed')}): remove "
                      "one")
    same[run.column] = run
  return {seed: list(same.values()) for seed, same in sorted(seeds.items())}


def _row(label: str, by_column: Mapping[str, Mapping[int, Sequence[Run]]], selection: str, mode: str, in_domain: bool,
         paper: Table | None, complete: bool) -> Row:
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
    cells[name] = Cell(scores, number, remarks)
  row = published.pop() if len(published) == 1 else None
  whole = paper.cell(row, paper.overall) if paper and row and paper.overall and complete else None
  return Row(label, cells, _mean(list(cells.values())), whole,
             [run for seeds in by_column.values() for runs in seeds.values() for run in runs])


def _mean(cells: Sequence[Cell]) -> tuple[float | None, float | None]:
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
