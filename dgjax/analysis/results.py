"""Tables of numbers: cells of seeds, rows of methods, and how they stand to each other."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from dgjax.analysis.recorded import Finished


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
