"""A published table as data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dgjax.errors import UserError, nearest

PLAIN_MODES = ("default", "pred_ens")  # what papers mean by a method's accuracy, unless they say more


def plain(name: str) -> str:
  """Folds a name for comparison: `ResNet-18` and `resnet18`, `multi_headed` and `Multi-Headed` are the same.

  Args:
    name: any name.

  Returns:
    Its letters and digits in lower case.
  """
  return "".join(c for c in name.lower() if c.isalnum())


@dataclass(frozen=True)
class Ours:
  """Runs of this library that a published row is to be compared with.

  Attributes:
    method: the method's name in this library.
    headers: the row headers that it is found under, the closest first.
    settings: config key ("algorithm.margin") -> the value that makes it this row and no other.
    modes: the ways of predicting that the row is about.
  """

  method: str
  headers: Sequence[str]
  settings: Mapping[str, Any] = field(default_factory=dict)
  modes: Sequence[str] = PLAIN_MODES

  def fits(self, config: Mapping[str, Any], mode: str) -> bool:
    """Whether a run's config, flat, and a way of predicting are what the row is about."""
    return (config.get("algorithm.name") == self.method and mode in self.modes
            and all(key in config and config[key] == value for key, value in self.settings.items()))


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
    methods: which runs of this library the rows are about; of several that fit a run, the first counts.
  """

  paper: str
  number: str
  caption: str
  columns: tuple[str, ...]
  rows: Mapping[tuple[str, str], tuple[float, ...]]
  domains: Mapping[str, str]
  overall: str = ""
  methods: Sequence[Ours] = ()

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
    """The row that a run of this library is to be compared with.

    Args:
      config: the run's config, flat: "algorithm.name", "model.name" (in any spelling) and what `methods` ask for.
      mode: the way of predicting.

    Returns:
      The row's key, or None where the paper did not measure this.
    """
    ours = next((ours for ours in self.methods if ours.fits(config, mode)), None)
    for header in ours.headers if ours else ():
      for row in self.rows:
        if plain(row[0]) == plain(str(config.get("model.name", ""))) and row[1] == header:
          return row
    return None

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
    text: one row a line; blank lines are skipped.

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
