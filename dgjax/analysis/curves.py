"""Curves: losses and accuracies over training, and numbers against the values of a swept setting."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from dgjax.analysis.style import COLOURS, MARKERS, colour_of, finish


def curves(records: Iterable[Mapping[str, Any]]) -> Figure:
  """Losses and accuracies over training.

  Args:
    records: lines of a run's `metrics.jsonl`.

  Returns:
    The figure. On the left: every training loss (their sum dashed), smoothed by a moving average over a 50th of the
    run, in front of the raw values. On the right: accuracy on the training batches (smoothed too), on each source's
    validation split, and on the target's test split (black).
  """
  lines = list(records)

  def series(key: str) -> tuple[np.ndarray, np.ndarray]:
    found = [(line["step"], line[key]) for line in lines if key in line]
    return tuple(np.array(found, float).T)

  # Only the accuracies that rules select by: val/DOMAIN/accuracy, test/DOMAIN/accuracy.
  names = dict.fromkeys(key for line in lines for key in line if key.startswith("train/") or key.count("/") == 2)
  train = [key for key in names if key.startswith("train/")]
  losses = sorted((key for key in train if not key.endswith("accuracy")), key=lambda key: key == "train/loss")
  figure = Figure(figsize=(9.5, 4.2), layout="constrained")
  left, right = figure.subplots(1, 2, sharex=True)
  lowest, highest = np.inf, 0.0
  for i, key in enumerate(losses):
    steps, values = series(key)
    colour = "black" if key == "train/loss" else COLOURS[i % (len(COLOURS) - 1)]  # the last colour is black, too
    left.plot(steps, values, color=colour, alpha=0.15, linewidth=0.8)
    left.plot(steps, smooth(values), color=colour, linestyle="--" if key == "train/loss" else "-",
              label=key.removeprefix("train/").replace("_", " "))
    lowest, highest = min(lowest, np.quantile(smooth(values), 0.02)), max(highest, smooth(values).max())
  if lowest > 0 and highest > 30 * lowest:
    left.set_yscale("log")
  left.set_ylabel("loss in training")
  for i, key in enumerate(key for key in train if key.endswith("accuracy")):
    steps, values = series(key)
    right.plot(steps, smooth(values), color="#999999", linestyle=("-", ":", "--")[i % 3],
               label=f"{key.removeprefix('train/').replace('_', ' ')} in training")
  for i, key in enumerate(key for key in names if key.startswith("val/")):
    right.plot(*series(key), color=COLOURS[i % 7], marker=MARKERS[i % len(MARKERS)], markersize=4,
               label=f"{key.split('/')[1]}, validation")
  for key in (key for key in names if key.startswith("test/")):
    right.plot(*series(key), color="black", linewidth=2, marker=".", label=f"{key.split('/')[1]}, target")
  right.set_ylabel("accuracy")
  right.yaxis.set_major_formatter(PercentFormatter(1))
  right.set_ylim(-0.03, 1.03)
  for axes in (left, right):
    axes.set_xlabel("step")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#E4E4E4")
    if axes.lines:
      axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, frameon=False, fontsize=8)
  return figure


def smooth(values: np.ndarray, share: float = 0.02) -> np.ndarray:
  """A centred moving average over a share of a series. At the ends the window is cut.

  Args:
    values: (n,).
    share: of the series, in (0, 1].

  Returns:
    (n,) float64.
  """
  half = int(len(values) * share / 2)
  sums = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
  place = np.arange(len(values))
  low, high = np.maximum(place - half, 0), np.minimum(place + half + 1, len(values))
  return (sums[high] - sums[low]) / (high - low)


def bands(series: Mapping[str, tuple[Any, Any]], label: str, percent: bool = True) -> Figure:
  """Curves over training: means over seeds, with standard errors as bands.

  Args:
    series: name -> (n,) steps and (seeds, n) values.
    label: of the values.
    percent: whether they are shares, to be shown in percent.

  Returns:
    The figure, of one panel. Losses that span more than a factor of 30 have a logarithmic axis.
  """
  figure = Figure(figsize=(4.8, 3.1), layout="constrained")
  axes = figure.subplots()
  lowest, highest = np.inf, 0.0
  for i, (name, (steps, values)) in enumerate(series.items()):
    colour, values = colour_of(i, len(series)), np.asarray(values, float)
    mean = values.mean(0)
    axes.plot(steps, mean, color=colour, linewidth=1.6, marker=MARKERS[i % len(MARKERS)], markersize=3.5,
              markevery=max(1, len(mean) // 8), label=name)
    if len(values) > 1:
      error = values.std(0, ddof=1) / np.sqrt(len(values))
      axes.fill_between(steps, mean - error, mean + error, color=colour, alpha=0.2, linewidth=0)
    lowest, highest = min(lowest, np.quantile(mean, 0.02)), max(highest, mean.max())
  if percent:
    axes.yaxis.set_major_formatter(PercentFormatter(1))
  elif lowest > 0 and highest > 30 * lowest:
    axes.set_yscale("log")
  axes.set_xlabel("step")
  axes.set_ylabel(label)
  axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
  return finish(figure, axes, series)


def sweep(series: Mapping[str, Mapping[Any, Sequence[float]]], key: str, label: str) -> Figure:
  """Numbers against the values of a swept setting: means over seeds, with standard errors.

  Args:
    series: name -> value of the setting -> a number for each seed.
    key: the setting.
    label: of the numbers.

  Returns:
    The figure, of one panel. The values are drawn equally far apart, because they often grow by factors and start at 0.

  Source: Chattopadhyay et al. 2020 (DMG), Figs. 3, 5 and 6.
  """
  values = sorted({value for numbers in series.values() for value in numbers})
  figure = Figure(figsize=(4.8, 3.1), layout="constrained")
  axes = figure.subplots()
  for i, (name, numbers) in enumerate(series.items()):
    there = [value for value in values if numbers.get(value)]
    means = [np.mean(numbers[value]) for value in there]
    errors = [np.std(numbers[value], ddof=1) / np.sqrt(len(numbers[value])) if len(numbers[value]) > 1 else 0.0
              for value in there]
    axes.errorbar([values.index(value) for value in there], means, errors, color=colour_of(i, len(series)), capsize=2.5,
                  marker=MARKERS[i % len(MARKERS)], markersize=4, linewidth=1.6, label=name)
  axes.set_xticks(range(len(values)), [f"{value:g}" for value in values])
  axes.set_xlabel(key)
  axes.set_ylabel(label)
  return finish(figure, axes, series)
