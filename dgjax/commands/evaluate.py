"""`dgjax evaluate`: scores a finished run on its own or other data."""

import argparse
import csv
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dgjax.errors import UserError

EPILOG = """--config.data.KEY=VALUE says what data, as in training: --config.data.dir=DIR for the run's kind of data set
in another place, --config.data.name=folder for any folder ROOT/DOMAIN/CLASS/*. A domain that the run was trained on is
scored on its held-out images, any other on all of its images. The folder --out gets results.json (accuracy, accuracy by
class, confusion matrix, for each domain) and predictions.csv (one line an image)."""


def main(argv: Sequence[str]) -> int:
  """Evaluates, prints a table and writes the files."""
  parser = argparse.ArgumentParser(prog="dgjax evaluate", description=__doc__, epilog=EPILOG)
  parser.add_argument("run", help="folder of a finished run")
  parser.add_argument("--domains", default="", help="comma-separated; default: all there are")
  parser.add_argument("--out", type=pathlib.Path, help="folder to write; default: RUN/evaluation")
  parser.add_argument("--rule", default="", help="the selection rule whose state predicts; default: the run's own")
  options, overrides = parser.parse_known_args(argv)

  from dgjax import runs
  from dgjax.analysis.summary import table
  from dgjax.evaluation import scoring
  from dgjax.files import write_atomically
  run = runs.load(options.run, options.rule)
  dataset = run.open_data(overrides)
  domains = [name.strip() for name in options.domains.split(",")] if options.domains else list(dataset.domains)
  scores: dict[str, Any] = {}
  out = options.out or run.folder / "evaluation"
  try:
    out.mkdir(parents=True, exist_ok=True)
    with (out / "predictions.csv").open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
      writer = csv.writer(file)
      writer.writerow(["domain", "split", "index", "class", "predicted", "probability"])
      for domain in domains:
        scores[domain] = scoring.score(run, dataset, domain, writer.writerow)
    write_atomically(out / "results.json", {"run": str(run.folder), "rule": run.rule, "step": run.step,
                                            "classes": list(run.classes), "domains": scores})
  except OSError as error:
    raise UserError(f"cannot write to {out} ({error.strerror or error}): set --out") from error
  print(table(["domain", "images", "accuracy", "mean of classes"],
              [[name, score["images"], score["accuracy"], score["class_accuracy"]] for name, score in scores.items()]))
  for name, score in scores.items():
    print(f"\n{name}: confusion matrix (rows: class, columns: predicted), and accuracy by class")
    print(confusion_table(run.classes, score))
  print(f"\nwritten: {out / 'results.json'}, {out / 'predictions.csv'}")
  return 0


def confusion_table(classes: Sequence[str], score: Mapping[str, Any]) -> str:
  """A confusion matrix as text; of more than twenty classes only the accuracies."""
  from dgjax.analysis.summary import table
  matrix = np.asarray(score["confusion"])
  shown = len(classes) <= 20
  return table(["class", *(classes if shown else ()), "accuracy"],
               [[name, *(map(str, matrix[i]) if shown else ()), score["by_class"].get(name, "-")]
                for i, name in enumerate(classes)])
