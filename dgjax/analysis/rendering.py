"""A table of results written out: text, Markdown, CSV, LaTeX, and the commands behind its numbers."""

import csv
import io
from collections.abc import Sequence

from dgjax.analysis.results import Results
from dgjax.analysis.summary import table as aligned
from dgjax.errors import UserError, nearest
from dgjax.evaluation.selection import RULES

FORMATS = ("text", "markdown", "csv", "latex")
MISSING = "missing"


def _number(value: float | None, error: float | None = None, missing: str = MISSING,
            remarks: Sequence[str] = ()) -> str:
  if value is None:
    return missing
  number = f"{value:.2f}" if error is None else f"{value:.2f} ± {error:.2f}"
  return f"{number} ({', '.join(remarks)})" if remarks else number


def grid(table: Results) -> list[list[str]]:
  """A table's cells as people read them.

  Args:
    table: what `build` returned.

  Returns:
    Rows of strings, the header first.
  """
  ours = [*table.columns, *([table.mean_label] if table.mean_label else [])]
  between = ["paper"] if table.paper else []
  rows = [["method", "seeds", *(text for name in ours for text in (name, *between))]]
  for row in table.rows:
    cells = [(_number(cell.mean, cell.error, remarks=cell.remarks), cell.paper) for cell in row.cells.values()]
    if table.mean_label:
      cells.append((_number(*row.mean, remarks=row.remarks), row.mean_paper))
    rows.append([row.label, row.seeds])
    for text, published in cells:
      rows[-1] += [text, _number(published, missing="-")] if table.paper else [text]
  return rows


def _latex(text: str) -> str:
  for plain_text, command in (("\\", r"\textbackslash "), ("_", r"\_"), ("%", r"\%"), ("&", r"\&"), ("#", r"\#"),
                              ("±", r"$\pm$")):
    text = text.replace(plain_text, command)
  return text


def render(table: Results, form: str = "text") -> str:
  """Writes a table out.

  Args:
    table: what `build` returned.
    form: one of `FORMATS`. CSV has numbers in percent with columns of their own for standard errors, numbers of seeds,
      the paper and, last, remarks on the runs; the others say "missing" where there is no run.

  Returns:
    Lines, without the last newline.

  Raises:
    UserError: if the format is not known.
  """
  if form not in FORMATS:
    raise UserError(f"no format {form!r}{nearest(form, FORMATS)}")
  if form == "csv":
    return _csv(table)
  header, *rows = grid(table)
  rule = f"step chosen by {table.selection}: {RULES[table.selection]}"
  notes = [f"paper: {table.paper}"] * bool(table.paper) + [f"note: {note}" for note in table.notes]
  if form == "text":
    return "\n".join([table.title, rule, aligned(header, rows), *notes])
  if form == "markdown":
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    body = ["| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines]
    return "\n\n".join([f"{table.title}; {rule}", "\n".join(body), *notes])
  body = [" & ".join(map(_latex, line)) + r" \\" for line in (header, *rows)]
  return "\n".join([*(f"% {line}" for line in (table.title, rule, *notes)),
                    rf"\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}", r"\toprule", body[0], r"\midrule", *body[1:],
                    r"\bottomrule", r"\end{tabular}"])


def _csv(table: Results) -> str:
  def numbers(mean: float | None, error: float | None, published: float | None) -> list[str]:
    values = [mean, error, *([published] if table.paper else [])]
    return [_number(value, missing="") for value in values]

  def names(column: str) -> list[str]:
    return [column, f"{column} standard error", *([f"{column} paper"] if table.paper else [])]

  header = ["dataset", "selection", "method"]
  for column in table.columns:
    header += [*names(column), f"{column} seeds"]
  lines = [[*header, *(names(table.mean_label) if table.mean_label else []), *(["remarks"] if table.paper else [])]]
  for row in table.rows:
    lines.append([table.dataset, table.selection, row.label])
    for cell in row.cells.values():
      lines[-1] += [*numbers(cell.mean, cell.error, cell.paper), str(len(cell.scores))]
    if table.mean_label:
      lines[-1] += numbers(*row.mean, row.mean_paper)
    if table.paper:
      lines[-1].append(", ".join(row.remarks))
  buffer = io.StringIO()
  csv.writer(buffer, lineterminator="\n").writerows(lines)
  return buffer.getvalue().rstrip("\n")


def commands(table: Results) -> str:
  """The commands that made a table's numbers.

  Args:
    table: what `build` returned.

  Returns:
    One line for every run of every cell.
  """
  lines = []
  for row in table.rows:
    for run in row.runs:
      lines.append(f"{row.label}, {run.column}, seed {run.get('seed')}: {run.results.get('command') or 'not recorded'}")
  return "\n".join(lines)
