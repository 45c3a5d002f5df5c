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
    write: called with a row for every image: domain, split, the image's file or number in the data set, class,
      predicted class, its probability.

  Returns:
    `splits`: the splits that were scored, which are the held-out ones for a domain that the run was trained on, else
    all. `images`: their number. `accuracy`. `class_accuracy`: the mean over the classes that have images. `by_class`:
    class -> accuracy. `confusion`: (classes, classes) counts; rows are the true class.

  Raises:
    UserError: no such domain, or it has no image to score.
  """
  numbers = class_numbers(run.classes, dataset)
  splits = scored_splits(run, dataset, domain)
  confusion = np.zeros((len(run.classes),) * 2, int)
  for split in splits:
    batches = pipeline.evaluate(dataset, domain, split, batch_size=run.config.eval_batch_size,
                                image_size=run.config.data.image_size, threads=run.config.data.threads)
    index = 0
    for batch in batches:
      there = batch["mask"]
      labels, probs = numbers[batch["label"][there]], run.predict(batch["image"], len(there))[there]
      guesses = probs.argmax(-1)
      np.add.at(confusion, (labels, guesses), 1)
      for label, guess, prob in zip(labels, guesses, probs.max(-1), strict=True):
        write([domain, split, batches.source.name(index), run.classes[label], run.classes[guess], f"{prob:.6f}"])
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


def trained_on(run: Run, dataset: Dataset, domain: str) -> bool:
  """Whether a run was trained on a domain of a data set, with the same examples, classes and splits."""
  return domain in run.sources and run.experiment.dataset.digests.get(domain) == dataset.digests.get(domain)


def doubt(run: Run, dataset: Dataset, domain: str) -> str:
  """A sentence on why a domain's score may mislead; "" if nothing is wrong."""
  if domain not in run.sources or trained_on(run, dataset, domain):
    return ""
  return (f"the run was trained on a domain {domain!r} with other images or splits: if some of its training images are "
          "among these, the accuracy is too high")


def scored_splits(run: Run, dataset: Dataset, domain: str) -> list[str]:
  """The splits of a domain that a run can be scored on: held-out images of what it was trained on, else all."""
  dataset.check(domain)
  known = run.experiment.dataset
  held_out = ["test" if known.source_test else "val"]
  splits = held_out if trained_on(run, dataset, domain) else ["test"] if not dataset.source_test else list(SPLITS)
  found = [split for split in splits if dataset.splits[domain][split]]
  if not found:
    raise UserError(f"domain {domain!r} of {dataset.name} has no images to score")
  return found
