"""The page of hand-made runs: what is in it, and that a browser shows it without a complaint or a network."""

import html.parser
import json
import re
import shutil
import subprocess

import pytest
from run_folders import PACS, write

from dgjax.algorithms.overlap import overlap_report
from dgjax.analysis import report
from dgjax.commands import main

WEIGHTS = (0.0, 0.1)


def finish(folder, method, target, seed, accuracy, **config):
  """A run with masks if it is DMG's, and a record of two evaluations."""
  write(folder, method, target, seed, accuracy, **config)
  sources = [domain for domain in PACS if domain != target]
  results = json.loads((folder / "results.json").read_text())
  results["versions"] = {"jax": "0.10.2"}
  if method == "dmg":
    results["overlap"] = overlap_report({"layer4": [[0.9, 0.9], [0.9, 0.1], [0.1, 0.9]]}, sources)
    results["mask_matrix"] = {"split": "val", "masks": [*sources, "combined"], "domains": [*sources, target],
                              "accuracy": [[0.5 + seed / 10] * 4] * 4}
  (folder / "results.json").write_text(json.dumps(results))
  lines = [{"step": step, "train/loss": 1 / step, f"test/{target}/accuracy": accuracy * step / 10,
            **{f"val/{domain}/accuracy": 0.9 for domain in sources}} for step in (5, 10)]
  (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture(scope="module")
def page(tmp_path_factory):
  """Two methods, two targets, a sweep, and three holes of different kinds."""
  runs = tmp_path_factory.mktemp("report") / "runs <&>"
  for target, more in (("photo", 0.1), ("sketch", 0.0)):
    for seed in range(3):
      for weight in WEIGHTS:
        finish(runs / "dmg" / target / f"{weight}" / f"seed={seed}", "dmg", target, seed, 0.7 + more + seed / 100,
               algorithm__overlap_weight=weight)
      if target == "photo" or not seed:
        finish(runs / "aggregate" / target / f"seed={seed}", "aggregate", target, seed, 0.6 + more + seed / 50)
  shutil.rmtree(runs / "dmg" / "sketch" / "0.1" / "seed=2")  # not started
  config = json.loads((runs / "aggregate" / "sketch" / "seed=0" / "config.json").read_text())
  for seed, files in ((1, {"failure.json": '{"step": 31, "reason": "train/loss is nan"}'}),
                      (2, {"metrics.jsonl": '{"step": 4, "train/loss": 1.0}\n'})):
    folder = runs / "aggregate" / "sketch" / f"seed={seed}"
    folder.mkdir()
    for name, text in {"config.json": json.dumps(config | {"seed": seed}), **files}.items():
      (folder / name).write_text(text)
  out = runs.parent / "pages" / "report.html"
  assert main(["report", str(runs), f"--out={out}"]) == 0
  return out


class Reader(html.parser.HTMLParser):
  """Tables as rows of text, the captions of figures and the addresses of what the page loads."""

  def __init__(self, text):
    super().__init__()
    self.tables, self.captions, self.loads, self._in, self.open = [], [], [], "", []
    self.feed(text)
    self.close()

  def handle_starttag(self, tag, attributes):
    if tag == "table":
      self.tables.append([])
    if tag == "tr":
      self.tables[-1].append([])
    if tag in ("td", "th"):
      self.tables[-1][-1].append("")
    if tag == "figcaption":
      self.captions.append("")
    self.loads += [value for name, value in attributes if name in ("src", "href", "srcset", "data")]
    if tag not in ("meta", "link", "img", "wbr"):
      self.open.append(tag)

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    if "td" in self.open or "th" in self.open:
      self.tables[-1][-1][-1] += f"{data} " if "span" in self.open else data
    if "figcaption" in self.open:
      self.captions[-1] += data


def test_the_table_has_our_numbers_and_the_papers(page):
  found = Reader(page.read_text())
  assert not found.open
  header, *rows = found.tables[0]
  assert header == ["method", "seeds", "photo", "sketch", "mean of 2 of 4"]
  assert [[cell.strip() for cell in row] for row in rows] == [
      ["aggregate", "1-3 of 3", "72.00 ± 1.15 paper 93.17", "60.00 1 of 3 seeds paper 65.20", "66.00 1-3 of 3 seeds"],
      ["dmg, algorithm.overlap_weight=0.0", "3", "81.00 ± 0.58", "71.00 ± 0.58", "76.00 ± 0.58"],
      ["dmg, algorithm.overlap_weight=0.1", "2-3 of 3", "81.00 ± 0.58 paper 93.35",
       "70.50 ± 0.50 2 of 3 seeds paper 75.21", "75.75 2-3 of 3 seeds"]]


def test_holes_have_their_reason(page):
  text = re.sub("<[^>]*>", "\n", page.read_text())
  for line in ("aggregate, sketch, seed 1: failed at step 31: train/loss is nan",
               "aggregate, sketch, seed 2: is not finished, at step 4",
               "dmg, algorithm.overlap_weight=0.1, sketch, seed 2: not started"):
    assert line in text


def test_figures_and_what_made_the_numbers_are_in_the_page_itself(page):
  text = page.read_text()
  found = Reader(text)
  captions = set(found.captions)
  assert {"photo: accuracy on the target", "sketch: loss in training", "photo: source validation accuracy",
          "dmg: accuracy against algorithm.overlap_weight",
          "dmg: source validation accuracy against algorithm.overlap_weight",
          "dmg: overlap of masks (IoU) by layer against algorithm.overlap_weight",
          "sketch unseen, mean over 2 seeds: accuracy under each mask or head",
          "sketch unseen, mean over 2 seeds: overlap of masks by pair of domains and layer"} <= captions
  assert all(address.startswith("data:") for address in found.loads) and "url(" not in text and "<script" not in text
  assert "python -m dgjax.main --config.target=sketch --config.seed=2" in text
  assert "&quot;jax&quot;: &quot;0.10.2" in text
  assert "runs &lt;&amp;&gt;" in text and r"\begin{tabular}" in text and "| method | seeds |" in text


def test_a_series_is_of_the_steps_that_all_seeds_have():
  class Fake:
    def __init__(self, *steps):
      self.lines = [{"step": step, "loss": float(step)} for step in steps]

  value = lambda run, line: line.get("loss")  # noqa: E731
  steps, values = report.over_seeds([Fake(1, 2, 3, 4), Fake(2, 3, 4, 5)], value)
  assert steps.tolist() == [2, 3, 4] and values.tolist() == [[2, 3, 4], [2, 3, 4]]
  steps, values = report.over_seeds([Fake(*range(1, 9))], value, points=4)
  assert steps.tolist() == [2, 4, 6, 8] and values.tolist() == [[1.5, 3.5, 5.5, 7.5]]
  assert report.over_seeds([Fake(1), Fake(2)], value) is None and report.over_seeds([], value) is None


def test_mistakes_are_told_before_anything_is_written(tmp_path, capsys):
  write(tmp_path / "a")
  for arguments, message in ((["--selection=oracle"], "no selection rule 'oracle'"), ([], "no folder"),
                             (["--paper=rcl:2"], "--paper=rcl:2 is about grey; the runs' targets are sketch")):
    folder = tmp_path if arguments else tmp_path / "absent"
    assert main(["report", str(folder), f"--out={tmp_path / 'r.html'}", *arguments]) == 1
    assert message in capsys.readouterr().err and not (tmp_path / "r.html").exists()


def test_a_published_table_stands_beside_its_own_data_set_alone(tmp_path, capsys):
  write(tmp_path / "pacs")
  write(tmp_path / "digits", dataset="digits", target="noisy", domains=("clean", "noisy"))
  assert main(["report", str(tmp_path), f"--out={tmp_path / 'r.html'}", "--paper=dmg:6"]) == 0
  digits, pacs = Reader((tmp_path / "r.html").read_text()).tables
  assert "paper" not in str(digits) and "paper 75.21" in str(pacs)


@pytest.mark.skipif(not shutil.which("chromium"), reason="no chromium: apt-get install chromium")
def test_a_browser_shows_it_without_complaint(page, tmp_path):
  """Console messages go to stderr as CONSOLE lines; a page that is wider than the window would scroll sideways."""
  probe = tmp_path / "probe.html"
  script = ("<script>addEventListener('load', () => { const images = [...document.images];"
            "document.title = [document.documentElement.scrollWidth <= innerWidth,"
            " images.length > 0 && images.every(i => i.complete && i.naturalWidth > 0),"
            " document.querySelectorAll('table').length].join(' '); })</script>")
  probe.write_text(page.read_text().replace("<details>", "<details open>").replace("</body>", f"{script}</body>"))
  for width in (1280, 390):
    done = subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom",
         f"--window-size={width},900", f"--user-data-dir={tmp_path / 'profile'}", probe.as_uri()],
        capture_output=True, text=True, timeout=120, check=True)
    assert "<title>true true 1</title>" in done.stdout, re.findall("<title>.*</title>", done.stdout)
    assert "CONSOLE" not in done.stderr
