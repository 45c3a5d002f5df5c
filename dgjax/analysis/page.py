"""The parts of a self-contained HTML page: its frame and style, figures inlined as images, tables, things to unfold."""

import base64
import html
import io
import re
from collections.abc import Iterable, Sequence

import matplotlib
from matplotlib.figure import Figure

STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 1rem 1.25rem 4rem; color: #1b1f24; background: #fff;
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", Arial, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: .5rem 0; }
h2 { font-size: 1.3rem; line-height: 1.25; margin: 2.5rem 0 .5rem; padding-top: 1rem; border-top: 2px solid #1b1f24; }
h3 { font-size: 1.05rem; margin: 1.75rem 0 .5rem; }
p, ul { margin: .4rem 0; max-width: 60rem; }
.quiet { color: #57606a; font-size: .875rem; }
.wide { overflow-x: auto; margin: .75rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .75rem; text-align: right; vertical-align: top; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
thead th { border-bottom: 1.5px solid #1b1f24; border-top: 2px solid #1b1f24; }
tbody tr:last-child td, tbody tr:last-child th { border-bottom: 2px solid #1b1f24; }
tbody th { font-weight: 600; background: inherit; }
tbody th, thead th:first-child { position: sticky; left: 0; white-space: normal; min-width: 8rem; max-width: 24rem; }
thead th:first-child { background: #fff; }
tbody tr { background: #fff; }
tbody tr:nth-child(even) { background: #f6f8fa; }
.best { font-weight: 700; }
.tie { text-decoration: underline; text-underline-offset: 3px; }
.note { display: block; color: #57606a; font-size: .8rem; font-weight: 400; }
.hole { color: #a40e26; }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(21rem, 100%), 1fr)); gap: 1rem; }
figure { margin: 0; min-width: 0; }
figure img { display: block; max-width: 100%; height: auto; }
figure .wide { margin: 0; }
figcaption { font-size: .875rem; color: #57606a; margin-bottom: .25rem; overflow-wrap: anywhere; }
figure.broad { grid-column: 1 / -1; }
figure.broad img { max-width: none; }
details { margin: .4rem 0; }
summary { cursor: pointer; padding: .2rem 0; overflow-wrap: anywhere; }
details > :not(summary) { margin-left: 1rem; }
pre { overflow-x: auto; background: #f6f8fa; padding: .6rem .75rem; font-size: .8rem; line-height: 1.4; }
code { overflow-wrap: anywhere; }
@media (max-width: 40rem) {
  body { padding: .5rem .75rem 3rem; }
  th, td { padding: .3rem .5rem; }
  tbody th, thead th:first-child { max-width: 8rem; font-size: .875rem; }
  details > :not(summary) { margin-left: .25rem; }
}
"""

escape = html.escape


def breakable(text: str) -> str:
  """Plain text as HTML that may be broken within a setting's name."""
  return re.sub(r"([._=])", r"\1<wbr>", escape(text))


def document(title: str, parts: Iterable[str]) -> str:
  """A whole page.

  Args:
    title: plain text.
    parts: HTML of the body, in order.
  """
  return "\n".join(["<!DOCTYPE html>", '<html lang="en">', "<head>", '<meta charset="utf-8">',
                    '<meta name="viewport" content="width=device-width, initial-scale=1">',
                    '<link rel="icon" href="data:,">',  # a browser looks for one otherwise
                    f"<title>{escape(title)}</title>", f"<style>{STYLE}</style>", "</head>", "<body>", *parts,
                    "</body>", "</html>", ""])


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  """A table that scrolls in its own box where it is wider than the page.

  Args:
    header: HTML of the header's cells.
    rows: HTML of the others; the first of each row is its header.
  """
  lines = ["".join(f'<th scope="col">{cell}</th>' for cell in header)]
  body = [f'<th scope="row">{first}</th>' + "".join(f"<td>{cell}</td>" for cell in rest) for first, *rest in rows]
  return "\n".join(['<div class="wide" tabindex="0"><table>', f"<thead><tr>{lines[0]}</tr></thead>", "<tbody>",
                    *(f"<tr>{row}</tr>" for row in body), "</tbody></table></div>"])


def figure(drawn: Figure, caption: str, kind: str = "svg", broad: bool = False) -> str:
  """A figure as an image in the page itself.

  Args:
    drawn: by matplotlib.
    caption: plain text, also for those who cannot see the image.
    kind: "svg", or "png" for what is made of pixels.
    broad: whether it keeps its size and scrolls, instead of shrinking to a column of the page.
  """
  buffer = io.BytesIO()
  with matplotlib.rc_context({"svg.hashsalt": "dgjax"}):  # the same bytes each time
    drawn.savefig(buffer, format=kind, dpi=110, metadata={"Date": None} if kind == "svg" else None)
  data = base64.b64encode(buffer.getvalue()).decode()
  kind = "svg+xml" if kind == "svg" else kind
  image = f'<img alt="{escape(caption)}" src="data:image/{kind};base64,{data}">'
  if broad:
    image = f'<div class="wide" tabindex="0">{image}</div>'
  return (f'<figure{" class=broad" if broad else ""}><figcaption>{escape(caption)}</figcaption>{image}</figure>')


def figures(found: Sequence[str]) -> str:
  """Figures side by side, as many as there is room for."""
  return "\n".join(['<div class="figures">', *found, "</div>"])


def details(summary: str, *parts: str, unfolded: bool = False) -> str:
  """What is shown when its summary, plain text, is clicked, or from the start."""
  return "\n".join([f"<details{' open' * unfolded}><summary>{escape(summary)}</summary>", *parts, "</details>"])


def preformatted(text: str) -> str:
  """Text as it is."""
  return f"<pre>{escape(text)}</pre>"
