"""The papers' published numbers as data, each with its table and cell."""

from dgjax.errors import UserError, nearest
from dgjax.reference import crossgrad, dmg, drt, rcl, wemnet
from dgjax.reference.table import Table

# short name -> module with TITLE and TABLES
PAPERS = {"crossgrad": crossgrad, "dmg": dmg, "drt": drt, "rcl": rcl, "wemnet": wemnet}

__all__ = ["PAPERS", "Table", "find_table", "lookup"]


def find_table(paper: str, number: str) -> Table:
  """One published table.

  Args:
    paper: short name, a key of `PAPERS`.
    number: the table's number, such as "2" or "table2", or "4-top" for a half with columns of its own.

  Returns:
    The table.

  Raises:
    UserError: if there is no such paper or table.
  """
  if paper not in PAPERS:
    raise UserError(f"no published numbers of {paper!r}{nearest(paper, PAPERS)}")
  tables = PAPERS[paper].TABLES
  key = number.lower().removeprefix("table").strip()
  if key not in tables:
    raise UserError(f"{paper} has no table {number!r} (known: {', '.join(tables)})")
  return tables[key]


def lookup(paper: str, table: str, row: tuple[str, str], column: str) -> float:
  """One published number.

  Args:
    paper: short name, a key of `PAPERS`.
    table: the table's number.
    row: (network, row header), as printed without footnote marks.
    column: column header, as printed.

  Returns:
    The number as printed (accuracies in percent).

  Raises:
    UserError: if there is no such paper, table, row or column.
  """
  return find_table(paper, table).cell(row, column)
