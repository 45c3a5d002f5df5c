"""Accuracy of counted predictions: over all images, and class by class."""

from collections.abc import Mapping

import numpy as np


def accuracy(counts: Mapping[str, np.ndarray]) -> dict[str, float]:
  """The share of images that are classified correctly.

  Args:
    counts: as `evaluator.count` returns them, summed over a split.

  Returns:
    For each mode, in [0, 1].
  """
  return {mode: float(right.sum() / counts[""].sum()) for mode, right in counts.items() if mode}


def class_accuracy(counts: Mapping[str, np.ndarray]) -> dict[str, float]:
  """The mean over classes of the share of a class's images that are classified correctly.

  Args:
    counts: as `evaluator.count` returns them, summed over a split.

  Returns:
    For each mode, in [0, 1]. Classes without images are left out.

  Source: VisDA-2017's measure (Peng et al., "VisDA: The Visual Domain Adaptation Challenge", 2017).
  """
  there = counts[""] > 0
  return {mode: float(np.mean(right[there] / counts[""][there])) for mode, right in counts.items() if mode}
