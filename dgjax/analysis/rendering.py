"""A table of results written out: text, Markdown, CSV, LaTeX, and the commands behind its numbers."""

import csv
import io
from collections.abc import Callable, Sequence

from dgjax.analysis.results import Results, Row
from dgjax.analysis.summary import table as aligned
from dgjax.errors import UserError, nearest
from dgjax.evaluation.selection import OFFLINE

FORMATS = ("text", "markdown", "csv", "latex")
MISSING = "missing"
# How the best number of a column and those within its error are shown.
MARKS = {"text": {"best": "{} *", "tie": "{} ~", "": "{}  "}, "markdown": {"best": "**{}**", "tie": "_{}_"},
         "latex": {"best": r"\textbf{{{}}}", "tie": r"\underline{{{}}}"}}
LEGENDS = {"text": "* best of its column, ~ within the standard error of the difference from it",
           "markdown": "Bold: best of its column; italics: within the standard error of the difference from it.",
           "latex": "bold: best of its column; underlined: within the standard error of the difference from it"}


def number(value: float | None, error: float | None = None, missing: str = MISSING, remarks: Sequence[str] = ()) -> str:
  """A number in percent with its error and what there is to remark on it."""
  if value is None:
    return missing
  text = f"{value:.2f}" if error is None else f"{value:.2f} ± {error:.2f}"
  return f"{text} ({', '.join(remarks)})" if remarks else text


def remarks_on(table: Results, row: Row, name: str) -> tuple[str, ...]:
  """What a cell has to say beside its number; how many seeds where the row's cells differ in that.

  Args:
    table: what `build` returned.
    row: one of its rows.
    name: of the column; the table's `mean_label` for the mean.
  """
  differ = len(row.counts) > 1
  if name == table.mean_label:
    return (*row.remarks, *([f"{table.seeds_of(row)} seeds"] if differ else []))
  cell = row.cells[name]
  fewer = differ and len(cell.scores) < len(table.seeds)
  return (*cell.remarks, *([f"{len(cell.scores)} of {len(table.seeds)} seeds"] if fewer else []))


def grid(table: Results, mark: Callable[[str, str], str] = lambda text, standing: text,
         escape: Callable[[str], str] = str) -> list[list[str]]:
  """A table's cells as people read them.

  Args:
    table: what `build` returned.
    mark: makes the text of a number by how it stands in its column: "best", "tie" or "", as `Results.standings`.
    escape: is applied to every text before that.

  Returns:
    Rows of strings, the header first.
  """
  ours = [*table.columns, *([table.mean_label] if table.mean_label else [])]
  between = ["paper"] if table.paper else []
  standings = {name: table.standings(name) for name in ours}
  rows = [["method", "seeds", *(escape(text) for name in ours for text in (name, *between))]]
  for i, row in enumerate(table.rows):
    rows.append([escape(row.label), table.seeds_of(row)])
    for name in ours:
      mean, error = row.mean if name == table.mean_label else (row.cells[name].mean, row.cells[name].error)
      text = escape(number(mean, error, remarks=remarks_on(table, row, name)))
      rows[-1].append(mark(text, standings[name][i]) if any(standings[name]) else text)
      if table.paper:
        rows[-1].append(number(row.mean_paper if name == table.mean_label else row.cells[name].paper, missing="-"))
  return rows


def marked(table: Results) -> bool:
  """Whether a column of a table has a best number among several."""
  return any(any(table.standings(name)) for name in (*table.columns, *filter(None, [table.mean_label])))


def _latex(text: str) -> str:
  """Escapes a text for LaTeX."""
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
  header, *rows = grid(table, lambda text, standing: MARKS[form].get(standing, "{}").format(text),
                       _latex if form == "latex" else str)
  rule = f"step chosen by {table.selection}: {OFFLINE[table.selection]}"
  notes = [*([LEGENDS[form]] if marked(table) else []), *([f"paper: {table.paper}"] if table.paper else []),
           *(f"note: {note}" for note in table.notes)]
  if form == "text":
    return "\n".join([table.title, rule, aligned(header, rows), *notes])
  if form == "markdown":
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    body = ["| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines]
    return "\n\n".join([f"{table.title}; {rule}", "\n".join(body), *notes])
  body = [" & ".join(line) + r" \\" for line in (header, *rows)]
  return "\n".join([*(f"% {line}" for line in (table.title, rule, *notes)),
                    rf"\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}", r"\toprule", body[0], r"\midrule", *body[1:],
                    r"\bottomrule", r"\end{tabular}"])


def _csv(table: Results) -> str:
  def numbers(mean: float | None, error: float | None, published: float | None) -> list[str]:
    values = [mean, error, *([published] if table.paper else [])]
    return [number(value, missing="") for value in values]

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
