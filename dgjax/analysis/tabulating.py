"""Finished runs put into tables: methods by target domains, averaged over seeds, beside published numbers."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from dgjax.analysis.recorded import FILE, Finished, Recorded, Unfinished, differing
from dgjax.analysis.results import Cell, Results, Row, mean_over
from dgjax.errors import UserError, nearest
from dgjax.evaluation.selection import OFFLINE, RULES
from dgjax.reference import Table


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
  """The row that an unfinished run belongs to: the row whose runs have its settings, or a row of its own.

  The folder of an unfinished run does not record the command, and so not the config's file.
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


def _sort_key(key: tuple[Any, ...]) -> tuple[Any, ...]:
  numbers = [isinstance(value, int | float) for value in key]
  return tuple((not number, value if number else str(value)) for number, value in zip(numbers, key, strict=True))


def _listed(differ: Mapping[str, Sequence[str]]) -> str:
  return "; ".join(f"{key} ({', '.join(values)})" for key, values in differ.items())
