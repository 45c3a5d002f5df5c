"""`dgjax evaluate`: scores a finished run on its own or other data."""

import csv
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from dgjax import commands
from dgjax.errors import printable
from dgjax.files import replacing, write_atomically

EPILOG = """--config.data.KEY=VALUE (or --data.KEY=VALUE) chooses the data, as in training. --config.data.dir=DIR names
another folder with the run's kind of data set; --config.data.name=folder reads any folder ROOT/DOMAIN/CLASS/*. A domain
that the run was trained on is scored on its held-out images, any other domain on all of its images. The folder --out
gets results.json (for each domain accuracy, accuracy by class and confusion matrix) and predictions.csv (one line for
each image)."""

MOST_SHOWN = 20  # classes of which a confusion matrix is printed
COLUMNS = ("domain", "split", "image", "class", "predicted", "probability")


def main(argv: Sequence[str]) -> int:
  """Evaluates, prints a table and writes the files."""
  parser = commands.parser("evaluate", __doc__, EPILOG)
  parser.add_argument("run", help="folder of a finished run")
  parser.add_argument("--domains", default="", help="domains to score, comma-separated; default: all")
  parser.add_argument("--out", type=pathlib.Path, help="folder to write; default: RUN/evaluation")
  parser.add_argument("--rule", default="", help="the selection rule whose state predicts; default: the run's own")
  if {"--help", "-h"} & set(argv):
    parser.parse_args(argv)

  from dgjax import config, runs
  from dgjax.evaluation import scoring
  overrides, others = config.split_arguments(
      f"--config.{argument[2:]}" if argument.startswith("--data.") else argument for argument in argv)
  options = parser.parse_args(others)
  run = runs.load(options.run, options.rule)
  dataset = run.open_data(overrides)
  domains = [name.strip() for name in options.domains.split(",")] if options.domains else list(dataset.domains)
  out = options.out.expanduser() if options.out else run.folder / "evaluation"
  scores: dict[str, Any] = {}
  with (replacing(out / "predictions.csv") as partial,
        partial.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file):
    writer = csv.writer(file)
    writer.writerow(COLUMNS)
    for domain in domains:
      scores[domain] = scoring.score(run, dataset, domain, writer.writerow)
      if note := scoring.doubt(run, dataset, domain):
        print(printable(f"note: {note}"), file=sys.stderr)
  show(run.classes, scores)
  results = {"run": str(run.folder), "rule": run.rule, "step": run.step, "dataset": dataset.name,
             "classes": list(run.classes), "domains": scores}
  write_atomically(out / "results.json", results)
  print(f"\nwritten: {out / 'results.json'}, {out / 'predictions.csv'}")
  return 0


def show(classes: Sequence[str], scores: Mapping[str, Mapping[str, Any]]) -> None:
  """Prints the accuracies of the domains, and each one's confusion matrix."""
  from dgjax.analysis.summary import table
  print(table(["domain", "scored on", "images", "accuracy", "mean of classes"],
              [[name, "+".join(score["splits"]), score["images"], score["accuracy"], score["class_accuracy"]]
               for name, score in scores.items()]))
  for name, score in scores.items():
    print(f"\n{name}: confusion matrix (rows: class, columns: predicted), and accuracy by class")
    print(confusion_table(classes, score))


def confusion_table(classes: Sequence[str], score: Mapping[str, Any]) -> str:
  """A confusion matrix as text; of more than `MOST_SHOWN` classes only the accuracies."""
  from dgjax.analysis.summary import table
  shown = len(classes) <= MOST_SHOWN
  return table(["class", *(classes if shown else ()), "accuracy"],
               [[name, *(map(str, counts) if shown else ()), score["by_class"].get(name, "-")]
                for name, counts in zip(classes, score["confusion"], strict=True)])
