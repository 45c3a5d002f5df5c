"""A published table as data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dgjax.errors import UserError, nearest


def plain(name: str) -> str:
  """Folds a name for comparison: `ResNet-18` and `resnet18`, `multi_headed` and `Multi-Headed` are the same.

  Args:
    name: any name.

  Returns:
    Its letters and digits in lower case.
  """
  return "".join(c for c in name.lower() if c.isalnum())


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
    methods: a method's name in this library -> the row headers it is found under, the closest first.
  """

  paper: str
  number: str
  caption: str
  columns: tuple[str, ...]
  rows: Mapping[tuple[str, str], tuple[float, ...]]
  domains: Mapping[str, str]
  overall: str = ""
  methods: Mapping[str, Sequence[str]] = field(default_factory=dict)

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

  def find_row(self, network: str, method: str, mode: str = "") -> tuple[str, str] | None:
    """The row that a run of this library is to be compared with.

    Args:
      network: the network's name, in any spelling (`resnet18`).
      method: the method's name in this library.
      mode: a way of predicting that has a row of its own (`mask_ens`), or "".

    Returns:
      The row's key, or None where the paper did not measure this.
    """
    name = plain(method + mode)
    headers = next((h for key, h in self.methods.items() if plain(key) == name), ())
    for header in headers:
      for row in self.rows:
        if plain(row[0]) == plain(network) and row[1] == header:
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
