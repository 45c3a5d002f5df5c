"""A published table as data, and the runs of this library that its rows are about."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dgjax import algorithms
from dgjax.config import flatten
from dgjax.errors import UserError, nearest

PLAIN_MODES = ("default", "pred_ens")  # what papers mean by a method's accuracy if they say no more
# Settings that do not distinguish rows: `Ours.modes` has the way to predict, and papers leave the others open.
LEFT_OPEN = ("name", "prediction", "hidden", "hidden_init", "norm", "head", "features", "ramp", "semantic_ramp")


def plain(name: str) -> str:
  """Folds a name for comparison: `ResNet-18` and `resnet18`, `multi_headed` and `Multi-Headed` are the same.

  Args:
    name: any name.

  Returns:
    Its letters and digits in lower case.
  """
  return "".join(c for c in name.lower() if c.isalnum())


@functools.cache
def method_defaults(method: str) -> Mapping[str, Any]:
  """The settings that papers mean by a method's name: its own defaults, on a static network.

  Args:
    method: a name of `dgjax.algorithms.ALGORITHMS`.

  Returns:
    Config key ("algorithm.overlap_weight") -> value.
  """
  settings = flatten({key: value for key, value in algorithms.defaults(method).items() if key not in LEFT_OPEN})
  return {"model.dynamic": "none", **{f"algorithm.{key}": value for key, value in settings.items()}}


@dataclass(frozen=True)
class Ours:
  """The runs of this library that a published row is compared with.

  A run is one of them if it has this method and one of these ways of predicting, and if every other setting of the
  method is as in `settings` or the method's default. So a run without the penalty that a row is about does not get its
  number.

  Attributes:
    method: the method's name in this library.
    headers: the row headers that the paper prints it under, the closest first.
    settings: config key ("algorithm.margin") -> the value that defines this row. A set allows any of its values.
    modes: the ways of predicting that the row is about.
  """

  method: str
  headers: Sequence[str]
  settings: Mapping[str, Any] = field(default_factory=dict)
  modes: Sequence[str] = PLAIN_MODES

  def fits(self, config: Mapping[str, Any], mode: str, shared: Mapping[str, Any]) -> bool:
    """Whether a row is about a run.

    Args:
      config: the run's config, flat. If it lacks a key, the run is older than the key and had its default.
      mode: the way of predicting.
      shared: settings that all rows of the table have in common, in the form of `settings`.
    """
    if config.get("algorithm.name") != self.method or mode not in self.modes:
      return False
    declared = {**shared, **self.settings}
    return declared.keys() <= config.keys() and all(
        _is(config[key], value) for key, value in {**method_defaults(self.method), **declared}.items() if key in config)


def _is(value: Any, wanted: Any) -> bool:
  """Whether config values are equal. JSON turns tuples into lists, and a set allows any of its values."""
  if isinstance(wanted, set | frozenset):
    return value in wanted
  return list(value) == list(wanted) if isinstance(wanted, tuple) else value == wanted


@dataclass(frozen=True)
class Training:
  """What a table's runs started from and how much they saw. A run that had less says so in its cell.

  Attributes:
    weights: whether the networks started from published weights.
    epochs: number of passes over the source domains. 0: not known.
    examples: the least number of images that these passes see, whichever domain is left out. 0: not known.
  """

  weights: bool = False
  epochs: float = 0
  examples: int = 0

  def remarks(self, config: Mapping[str, Any]) -> tuple[str, ...]:
    """In what a run had less than the paper's: "short", "from scratch", both or neither.

    Args:
      config: the run's config, flat.
    """
    steps = config.get("steps", 0)
    short = steps * config.get("batch_size", 0) < self.examples if steps else config.get("epochs", 0) < self.epochs
    scratch = self.weights and not config.get("model.weights")
    return ("short",) * short + ("from scratch",) * scratch


@dataclass(frozen=True)
class Table:
  """One table of a paper (or one half of it, where the halves have different columns), numbers as printed.

  Attributes:
    paper: the paper's short name in this library.
    number: the table's number in the paper, with `-top` or `-bottom` for a half.
    caption: what is measured, with unit.
    columns: column headers as printed.
    rows: (network, row header as printed) -> numbers, in the order of `columns`. Bold face and footnote marks
      are left out.
    domains: column -> the domain's name in the data set, for columns that stand for one.
    overall: the column that holds the mean of the domain columns; "" if there is none.
    methods: the runs of this library that the rows are about. If several fit a run, the first counts.
    settings: settings that all rows have in common: config key -> value, as in `Ours`.
    training: what the runs started from and how much they saw.
    measure: the entry of `results.json` that the numbers are compared with: "accuracy", or "class_accuracy", the mean
      of the classes' accuracies.
    single_source: whether a number is the mean over runs from one source domain each.
  """

  paper: str
  number: str
  caption: str
  columns: tuple[str, ...]
  rows: Mapping[tuple[str, str], tuple[float, ...]]
  domains: Mapping[str, str]
  overall: str = ""
  methods: Sequence[Ours] = ()
  settings: Mapping[str, Any] = field(default_factory=dict)
  training: Training = Training()
  measure: str = "accuracy"
  single_source: bool = False

  def cell(self, row: tuple[str, str], column: str) -> float:
    """The number in one cell.

    Args:
      row: (network, row header), as printed.
      column: column header, as printed.

    Returns:
      The number as printed (accuracies in percent).

    Raises:
      UserError: if the table has no such row or column.
    """
    where = f"table {self.number} of {self.paper}"
    if row not in self.rows:
      known = [", ".join(r) for r in self.rows]
      raise UserError(f"{where} has no row {', '.join(row)!r}{nearest(', '.join(row), known)}")
    if column not in self.columns:
      raise UserError(f"{where} has no column {column!r}{nearest(column, self.columns)}")
    return self.rows[row][self.columns.index(column)]

  def find_row(self, config: Mapping[str, Any], mode: str = "default") -> tuple[str, str] | None:
    """The row that a run of this library is compared with.

    Args:
      config: the run's config, flat: "algorithm.name", "model.name" (in any spelling) and what `settings` and
        `methods` ask for.
      mode: the way of predicting.

    Returns:
      The row's key, or None where the paper did not measure this.
    """
    ours = next((ours for ours in self.methods if ours.fits(config, mode, self.settings)), None)
    for header in ours.headers if ours else ():
      for row in self.rows:
        if plain(row[0]) == plain(str(config.get("model.name", ""))) and row[1] == header:
          return row
    return None

  def covers(self, sources: Sequence[str], target: str) -> bool:
    """Whether a run's sources are those of a table's runs: all of its other domains, or one of them.

    Args:
      sources: the run's source domains.
      target: its unseen domain.
    """
    if self.single_source:
      return len(sources) == 1
    if any("->" in name for name in self.domains.values()):
      return self.column_of(f"{'+'.join(sources)}->{target}") is not None
    named = {plain(name) for name in self.domains.values()}
    return len(named) == 1 or named == {plain(name) for name in (*sources, target)}

  def column_of(self, domain: str) -> str | None:
    """The column that stands for a domain.

    Args:
      domain: a domain's name, in any spelling (`art-painting`).

    Returns:
      The column header, or None.
    """
    return next((column for column, name in self.domains.items() if plain(name) == plain(domain)), None)


def parse(text: str) -> dict[tuple[str, str], tuple[float, ...]]:
  """Reads rows written as `network | row header | numbers`.

  Args:
    text: one row a line, "nan" where our copy of the paper cannot be read; blank lines are skipped.

  Returns:
    (network, row header) -> numbers.

  Raises:
    ValueError: if a row is there twice.
  """
  rows: dict[tuple[str, str], tuple[float, ...]] = {}
  for line in filter(str.strip, text.splitlines()):
    network, header, numbers = (part.strip() for part in line.split("|"))
    if (network, header) in rows:
      raise ValueError(f"row {network}, {header} is there twice")
    rows[network, header] = tuple(float(number) for number in numbers.split())
  return rows
