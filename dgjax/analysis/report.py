"""Runs as one HTML page: tables beside published numbers, curves, sweeps, masks, images, and each cell's commands."""

import argparse
import json
import math
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

import dgjax
from dgjax import runs as opened
from dgjax.algorithms import ALGORITHMS
from dgjax.algorithms.overlap import ALL
from dgjax.analysis import curves, page, samples, tables
from dgjax.analysis.mask_figures import mask_matrix, overlap_bars, shown
from dgjax.analysis.recorded import FILE, Finished, Unfinished, differing
from dgjax.analysis.rendering import FORMATS, MISSING, number, remarks_on, render
from dgjax.analysis.results import Cell, Results, Row
from dgjax.errors import UserError
from dgjax.evaluation.selection import OFFLINE, merge, source_accuracy
from dgjax.reference import PAPERS, Table

POINTS = 200  # of a loss curve
MADE_BY = ("versions", "platform", "backend", "threads", "devices", "processes")  # of `results.json`: what computed it

CHANGE = tuple(name for name, (method, _) in ALGORITHMS.items() if issubclass(method, samples.CHANGE))


def report(folders: Sequence[pathlib.Path], options: argparse.Namespace) -> str:
  """Makes the page.

  Args:
    folders: they hold run folders, at any depth.
    options: as `tables.add_arguments` adds them. Without `paper`, the published table that covers most of the runs is
      shown beside them. Without `group_by`, every setting in which runs of one method differ makes rows.

  Returns:
    HTML that needs no other file and no network.

  Raises:
    UserError: no finished run, or runs that do not make a table.
  """
  paper = tables.check(options)
  runs, unfinished = tables.read(folders)
  if paper and not any(_covered(paper, run) for run in runs):
    raise UserError(f"--paper={options.paper} is about {', '.join(paper.domains.values()) or 'no unseen domain'}; the "
                    f"runs' targets are {', '.join(sorted({run.column for run in runs}))}")
  parts = ["<h1>dgjax: results</h1>",
           f'<p class="quiet">{len(runs)} finished runs, {len(unfinished)} unfinished, of '
           f'{page.escape(", ".join(map(str, folders)))}. Written by dgjax {dgjax.__version__}.</p>']
  for dataset in sorted({run.get("dataset") for run in runs}):
    here = [run for run in runs if run.get("dataset") == dataset]
    holes = [run for run in unfinished if run.get("dataset") == dataset]
    parts += section(here, holes, options)
  if lost := [run for run in unfinished if run.get("dataset") not in {run.get("dataset") for run in runs}]:
    parts += ["<h2>Other runs without results</h2>", _holes([f"{run.folder} {run.reason}" for run in lost])]
  return page.document("dgjax: results", parts)


def section(runs: Sequence[Finished], unfinished: Sequence[Unfinished], options: argparse.Namespace) -> Iterator[str]:
  """The part of the page on one data set."""
  chosen = argparse.Namespace(**vars(options))
  chosen.group_by = options.group_by or ",".join(rows_by(runs))
  paper = tables.check(options)
  if paper is None:
    chosen.paper = closest_paper(runs)
  elif not any(_covered(paper, run) for run in runs):
    chosen.paper = ""  # it is about another data set of the page
  (table,) = tables.tables(runs, unfinished, chosen)
  plain = table
  if options.modes is not None or options.in_domain:  # figures are of each run once, in the way that it reports
    chosen.modes, chosen.in_domain, chosen.paper = None, False, ""
    (plain,) = tables.tables(runs, unfinished, chosen)
  yield f"<h2>{page.escape(table.dataset)}</h2>"
  yield f"<p>{page.escape(table.title.removeprefix(f'{table.dataset}: ').capitalize())}.</p>"
  yield f'<p class="quiet">Step chosen by {table.selection}: {page.escape(OFFLINE[table.selection])}.</p>'
  yield html_table(table)
  yield ('<p class="quiet">Bold: best of its column; underlined: within the standard error of the difference from it.'
         + (f" Published numbers: {page.escape(table.paper)}." if table.paper else "") + "</p>")
  for note in table.notes:
    yield f'<p class="quiet">Note: {page.escape(note)}.</p>'
  if holes := list(missing_runs(plain)):
    yield f"<h3>Holes</h3>{_holes(holes)}"
  swept = [key for key in chosen.group_by.split(",") if key]
  if found := list(training_figures(plain)):
    yield "<h3>Training</h3><p class=quiet>Means over seeds; bands are standard errors.</p>" + page.figures(found)
  if found := list(sweep_figures(plain, swept)):
    yield "<h3>Sweeps</h3><p class=quiet>Means over seeds with standard errors.</p>" + page.figures(found)
  if masks := {row.label: drawn for row in plain.rows if (drawn := list(mask_figures(row)))}:
    yield "<h3>Masks and heads by domain</h3>"
    yield from (page.details(f"{label}: {len(drawn)} figures", page.figures(drawn), unfolded=len(masks) == 1)
                for label, drawn in masks.items())
  if found := list(image_figures(plain)):
    yield f"<h3>Images</h3>{page.figures(found)}"
  yield "<h3>What made the numbers</h3>"
  for row in plain.rows:
    for name in plain.columns:
      yield from origin(row, name)
  yield page.details("The table as text, Markdown, CSV and LaTeX", *(page.preformatted(render(table, form))
                                                                     for form in FORMATS))


def rows_by(runs: Sequence[Finished]) -> list[str]:
  """Config keys in which runs of one method on one target differ; "config" where two files make runs of one method."""
  keys: dict[str, None] = {}
  for method in dict.fromkeys(run.get("method") for run in runs):
    for name in dict.fromkeys(run.column for run in runs):
      if here := [run for run in runs if run.get("method") == method and run.column == name]:
        keys |= dict.fromkeys(differing(here))
  return list(keys)


def closest_paper(runs: Sequence[Finished]) -> str:
  """The published table that is about most of the runs, as `--paper` names it; "" if none is."""
  counts = {f"{paper}:{number}": sum(_covered(table, run) and run.published(table, "") is not None for run in runs)
            for paper, module in PAPERS.items() for number, table in module.TABLES.items()}
  best = max(counts, key=lambda name: counts[name])
  return best if counts[best] else ""


def _covered(table: Table, run: Finished) -> bool:
  """Whether a published table has a column of a run's target."""
  return table.column_of(run.get("target") if table.single_source else run.column) is not None


def html_table(table: Results) -> str:
  """A table in the papers' layout: a row for each method, a column for each target; published numbers under ours."""
  ours = [*table.columns, *([table.mean_label] if table.mean_label else [])]
  standings = {name: table.standings(name) for name in ours}

  def cell(i: int, row: Row, name: str) -> str:
    found = Cell({}) if name == table.mean_label else row.cells[name]
    mean, error = row.mean if name == table.mean_label else (found.mean, found.error)
    published = row.mean_paper if name == table.mean_label else found.paper
    kind = "hole" if mean is None else standings[name][i]
    text = f'<span class="{kind}">{page.escape(number(mean, error, MISSING))}</span>'
    notes = [*(() if mean is None else remarks_on(table, row, name)),
             *([] if published is None or math.isnan(published) else [f"paper {published:.2f}"])]
    return text + "".join(f'<span class="note">{page.escape(note)}</span>' for note in notes)

  return page.table(["method", "seeds", *map(page.escape, ours)],
                    [[page.breakable(row.label), table.seeds_of(row), *(cell(i, row, name) for name in ours)]
                     for i, row in enumerate(table.rows)])


def missing_runs(table: Results) -> Iterator[str]:
  """The runs that a table lacks, and why; those that only were not started are put together."""
  for row in table.rows:
    for name, cell in row.cells.items():
      absent = [seed for seed, why in cell.missing.items() if why == "not started"]
      if absent:
        yield f"{row.label}, {name}, seed {', '.join(map(str, absent))}: not started"
      for seed, why in cell.missing.items():
        if seed not in absent:
          yield f"{row.label}, {name}, seed {seed}: {why}"


def _holes(lines: Sequence[str]) -> str:
  return "<ul>" + "".join(f'<li class="hole">{page.escape(line)}</li>' for line in lines) + "</ul>"


def over_seeds(runs: Sequence[Finished], number_of: Callable[[Finished, Mapping[str, Any]], float | None],
               points: int = 0) -> tuple[np.ndarray, np.ndarray] | None:
  """A number of each line of runs' records, at the steps where all of them have it.

  Args:
    runs: of one cell.
    number_of: the number in a line, or None.
    points: how many steps to keep, with means over those between; 0: all.

  Returns:
    (n,) steps and (runs, n) values; None where there are none.
  """
  found = [{step: value for step, line in merge(run.lines).items() if (value := number_of(run, line)) is not None}
           for run in runs]
  steps = sorted(set.intersection(*map(set, found))) if found else []
  if not steps:
    return None
  values = np.array([[series[step] for step in steps] for series in found])
  if points and len(steps) > points:
    parts = np.array_split(np.arange(len(steps)), points)
    return np.array([steps[part[-1]] for part in parts]), np.stack([values[:, part].mean(1) for part in parts], 1)
  return np.array(steps), values


def _target(run: Finished, line: Mapping[str, Any]) -> float | None:
  return line.get(f"test/{run.get('target')}/accuracy")


def _source(run: Finished, line: Mapping[str, Any]) -> float | None:
  found = {name: line[key] for name in run.get("sources") if (key := f"val/{name}/accuracy") in line}
  return source_accuracy(found) if found else None


def _loss(run: Finished, line: Mapping[str, Any]) -> float | None:
  return line.get("train/loss")


def training_figures(table: Results) -> Iterator[str]:
  """For each column the methods' curves, with bands over seeds."""
  for name in table.columns:
    cells = {row.label: [run for run in row.runs if run.column == name] for row in table.rows}
    for measured, function, points in (("accuracy on the target", _target, 0),
                                       ("source validation accuracy", _source, 0),
                                       ("loss in training", _loss, POINTS)):
      series = {label: found for label, runs in cells.items() if runs and (found := over_seeds(runs, function, points))}
      if series:
        yield page.figure(curves.bands(series, measured, not points), f"{name}: {measured}")


def sweep_figures(table: Results, keys: Sequence[str]) -> Iterator[str]:
  """Accuracy, and for methods with masks their overlap, against the values of each swept setting."""
  for key in keys:
    if key == FILE:
      continue
    others = [other for other in keys if other != key]
    families: dict[tuple[Any, ...], dict[float, Row]] = {}
    for row in table.rows:
      value = row.runs[0].config.get(key) if row.runs else None
      if isinstance(value, int | float) and not isinstance(value, bool):
        family = (row.runs[0].get("method"), *(row.runs[0].part(other) for other in others))
        families.setdefault(family, {})[value] = row
    for family, rows in families.items():
      if len(rows) < 2:
        continue
      label = ", ".join([family[0], *(f"{other}={value}" for other, value in zip(others, family[1:], strict=True)
                                      if value is not None)])
      accuracy = {name: {value: list(row.cells[name].scores.values()) for value, row in rows.items()}
                  for name in table.columns}
      yield page.figure(curves.sweep(accuracy, key, "accuracy on the target (%)"), f"{label}: accuracy against {key}")
      if sources := source_accuracies(rows, table.selection):
        yield page.figure(curves.sweep(sources, key, "source validation accuracy (%)"),
                          f"{label}: source validation accuracy against {key}")
      for what, series in overlaps(rows).items():
        yield page.figure(curves.sweep(series, key, "IoU of thresholded masks"), f"{label}: {what} against {key}")


def source_accuracies(rows: Mapping[float, Row], selection: str) -> dict[str, dict[float, list[float]]]:
  """Source validation accuracy of rows that differ in one setting's value, at the steps that a rule chose.

  Returns:
    Target -> value -> percent for each run; empty for a rule that runs do not apply themselves.
  """
  found: dict[str, dict[float, list[float]]] = {}
  for value, row in rows.items():
    for run in row.runs:
      if chosen := run.results["selection"].get(selection):
        found.setdefault(run.column, {}).setdefault(value, []).append(100 * chosen["source_accuracy"])
  return found


def overlaps(rows: Mapping[float, Row]) -> dict[str, dict[str, dict[float, list[float]]]]:
  """Overlap of the masks of rows that differ in one setting's value.

  Returns:
    "overlap of masks by target", "... by layer" -> name -> value -> a number for each run; empty without masks.
  """
  by_target: dict[str, dict[float, list[float]]] = {}
  by_layer: dict[str, dict[float, list[float]]] = {}
  for value, row in rows.items():
    for run in row.runs:
      overlap = run.results.get("overlap", {})
      if "iou/mean" in overlap:
        by_target.setdefault(run.column, {}).setdefault(value, []).append(overlap["iou/mean"])
        for layer in shown(overlap):
          name = "all layers" if layer == ALL else layer
          by_layer.setdefault(name, {}).setdefault(value, []).append(overlap[f"iou/{layer}/mean"])
  if not by_target:
    return {}
  return {"overlap of masks (IoU) by target": by_target, "overlap of masks (IoU) by layer": by_layer}


def mask_figures(row: Row) -> Iterator[str]:
  """For each target of a method with masks or heads by domain: accuracy under each, and how much masks overlap."""
  for name in row.cells:
    runs = [run for run in row.runs if run.column == name]
    over = f"{name} unseen, mean over {len(runs)} seed{'s' * (len(runs) > 1)}"
    if matrices := [run.results["mask_matrix"] for run in runs if run.results.get("mask_matrix")]:
      accuracy = np.mean([matrix["accuracy"] for matrix in matrices], 0).tolist()
      yield page.figure(mask_matrix({**matrices[0], "accuracy": accuracy}),
                        f"{over}: accuracy under each mask or head")
    if reports := [run.results["overlap"] for run in runs if "iou/mean" in run.results.get("overlap", {})]:
      mean = {key: float(np.mean([one[key] for one in reports])) for key in reports[0]}
      domains = runs[0].results.get("groups") or runs[0].get("sources")
      yield page.figure(overlap_bars(mean, domains), f"{over}: overlap of masks by pair of domains and layer")


def image_figures(table: Results) -> Iterator[str]:
  """Images of the domains, where a run's data and state are at hand; as methods change them, too, where these do."""
  shown: set[str] = set()
  for row in table.rows:
    run = next((run for run in row.runs if (run.folder / "checkpoints").is_dir() and "data" in run.results), None)
    method = row.runs[0].get("method") if row.runs else ""
    if run is None or method in shown or (shown and method not in CHANGE):
      continue
    shown.add(method)
    try:
      loaded = opened.load(run.folder)
      change = method in CHANGE and not loaded.dataset.groups
      drawn = samples.image_rows(samples.rows(loaded, change=change), loaded.classes[:samples.COLUMNS])
    except UserError as error:
      yield f'<p class="quiet">No images of {page.escape(f"{row.label}: {error}")}.</p>'
      continue
    yield page.figure(drawn, f"{row.label}: one training image of each class by domain"
                      + (", and as the method changes it" if change else ""), "png", broad=True)


def origin(row: Row, name: str) -> Iterator[str]:
  """The commands, the config and the versions of one cell, to be unfolded."""
  runs = [run for run in row.runs if run.column == name]
  if not runs:
    return
  first = runs[0]
  commands = "\n".join(f"# seed {run.get('seed')}\n{run.results.get('command') or 'not recorded'}" for run in runs)
  environment = {key: first.results[key] for key in MADE_BY if key in first.results}
  yield page.details(f"{row.label}, {name}: {len(runs)} run{'s' * (len(runs) > 1)}",
                     page.preformatted(commands),
                     page.details(f"Config of seed {first.get('seed')}",
                                  page.preformatted(json.dumps(first.get("config"), indent=2))),
                     page.details("Versions and machine", page.preformatted(json.dumps(environment, indent=2))))
