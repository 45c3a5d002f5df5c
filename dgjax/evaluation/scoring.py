"""A finished run scored image by image on the domains of a data set: confusion matrix, accuracy by class."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dgjax.data import Dataset, pipeline
from dgjax.data.dataset import SPLITS
from dgjax.errors import UserError
from dgjax.runs import Run


def score(run: Run, dataset: Dataset, domain: str, write: Callable[[Sequence[Any]], Any]) -> dict[str, Any]:
  """Scores one domain.

  Args:
    run: opened.
    dataset: its own or another; its classes are among the run's.
    domain: one of the data set's.
    write: called with a row for every image: domain, split, index in the split, class, predicted class, probability.

  Returns:
    `splits`, those that were scored: the held-out ones of a domain that the run was trained on, else all; `images`;
    `accuracy`; `class_accuracy`, the mean over the classes there are; `by_class`, class -> accuracy; and `confusion`,
    (classes, classes) counts, rows being the true class.

  Raises:
    UserError: no such domain, or it has no image to score.
  """
  numbers = class_numbers(run.classes, dataset)
  splits = scored_splits(run, dataset, domain)
  confusion = np.zeros((len(run.classes),) * 2, int)
  for split in splits:
    index = 0
    for batch in pipeline.evaluate(dataset, domain, split, batch_size=run.config.eval_batch_size,
                                   image_size=run.config.data.image_size, threads=run.config.data.threads):
      images, labels = batch["image"][batch["mask"]], numbers[batch["label"][batch["mask"]]]
      probs = run.predict(images, run.config.eval_batch_size)
      guesses = probs.argmax(-1)
      np.add.at(confusion, (labels, guesses), 1)
      for label, guess, prob in zip(labels, guesses, probs.max(-1), strict=True):
        write([domain, split, index, run.classes[label], run.classes[guess], f"{prob:.6f}"])
        index += 1
  counts, right = confusion.sum(1), confusion.diagonal()
  by_class = {name: float(right[i] / counts[i]) for i, name in enumerate(run.classes) if counts[i]}
  return {"splits": splits, "images": int(counts.sum()), "accuracy": float(right.sum() / counts.sum()),
          "class_accuracy": float(np.mean(list(by_class.values()))), "by_class": by_class,
          "confusion": confusion.tolist()}


def class_numbers(classes: Sequence[str], dataset: Dataset) -> np.ndarray:
  """For each class of a data set its number among a run's classes, (n,) int.

  Raises:
    UserError: the run does not know a class.
  """
  if unknown := [name for name in dataset.classes if name not in classes]:
    raise UserError(f"class {unknown[0]!r} of {dataset.name} is none that the run was trained on: "
                    f"its classes are {', '.join(classes[:20])}{', ...' if len(classes) > 20 else ''}")
  return np.array([classes.index(name) for name in dataset.classes])


def scored_splits(run: Run, dataset: Dataset, domain: str) -> list[str]:
  """The splits of a domain that a run can be scored on: held-out images of what it was trained on, else all."""
  dataset.check(domain)
  known = run.experiment.dataset
  trained = domain in run.sources and known.digests.get(domain) == dataset.digests.get(domain)
  held_out = ["test" if known.source_test else "val"]
  splits = held_out if trained else ["test"] if not dataset.source_test else list(SPLITS)
  found = [split for split in splits if dataset.splits[domain][split]]
  if not found:
    raise UserError(f"domain {domain!r} of {dataset.name} has no images to score")
  return found
