"""Figures of a run: training curves, masks, their overlap, accuracy under each, images in the plane and as they are."""

import itertools
import math
import pathlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter

from dgjax.algorithms.overlap import ALL, hard_iou, hard_masks, layers, unit_kinds
from dgjax.recorder import read_lines

# Okabe and Ito's palette and cividis: told apart with any common colour blindness, and in grey.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
MARKERS = "osD^vPX*"
SHARED, SPECIFIC, OFF = COLOURS[0], COLOURS[1], "#E4E4E4"
COLOURMAP = "cividis"
MANY = "turbo"  # for more names than COLOURS
MOST_NAMES = 24  # in a legend


def order_units(on: np.ndarray, probs: np.ndarray) -> np.ndarray:
  """Sorts units so that the pattern of a layer's masks can be seen.

  Args:
    on: (p, k) bool, thresholded masks.
    probs: (p, k) float, their probabilities.

  Returns:
    (k,) int, a permutation: units shared by all domains first, then those on for fewer and fewer, same patterns side by
    side, units off everywhere last; within one pattern by falling mean probability.
  """
  pattern = (on * 2 ** np.arange(on.shape[0])[::-1, None]).sum(0)
  return np.lexsort((-probs.mean(0), -pattern, -on.sum(0)))


def shown(report: Mapping[str, Any]) -> list[str]:
  """The layers to draw: those of the report, without `all` where that is the one masked layer again.

  Args:
    report: what `overlap_report` returned.

  Returns:
    As `layers`.
  """
  names = layers(report)
  return names[:-1] if len(names) == 2 else names


def masks(mask_probs: Mapping[str, Any], domains: Sequence[str]) -> Figure:
  """Learned masks: per layer the probabilities, and which units are on, shared and domain-specific.

  Args:
    mask_probs: per masked layer, (p, k) mask probabilities in [0, 1].
    domains: the p source domains, in the order of the rows.

  Returns:
    The figure: two panels a layer, domains as rows, units as columns in the order of `order_units`.

  Raises:
    ValueError: as `hard_masks`, or if there is no layer.

  Source: Chattopadhyay et al. 2020 (DMG), appendix 7.1, the three kinds of units.
  """
  if not mask_probs:
    raise ValueError("no masked layer to draw")
  rows = len(mask_probs)
  figure = Figure(figsize=(9, 0.9 + rows * (0.85 + 0.44 * len(domains))), layout="constrained")
  axes = figure.subplots(2 * rows, 1, squeeze=False)[:, 0]
  for (layer, values), upper, lower in zip(mask_probs.items(), axes[::2], axes[1::2], strict=True):
    probs = np.asarray(values)
    on = hard_masks(probs)
    order = order_units(on, probs)
    on, probs = on[:, order], probs[:, order]
    kinds = unit_kinds(on)
    colours = np.empty((*on.shape, 3))
    colours[:] = to_rgb(OFF)
    colours[on & kinds["shared"][None]] = to_rgb(SHARED)
    colours[on & kinds["specific"][None]] = to_rgb(SPECIFIC)
    for i in range(len(domains)):  # an image for each row: layers wider than the figure are smoothed along units only
      place: dict[str, Any] = {"extent": (0, on.shape[1], i + 0.5, i - 0.5), "aspect": "auto",
                               "interpolation_stage": "rgba"}
      upper.imshow(probs[i:i + 1], cmap=COLOURMAP, vmin=0, vmax=1, **place)
      lower.imshow(colours[i:i + 1], **place)
    shares = ", ".join(f"{100 * kinds[kind].mean():.0f}% {name}" for kind, name in (
        ("shared", "shared"), ("specific", "domain-specific"), ("off", "off")))
    pairs = np.triu_indices(len(domains), 1)
    iou = f"; mean IoU {hard_iou(on)[pairs].mean():.2f}" if len(domains) > 1 else ""
    upper.set_title(f"{layer}, {on.shape[1]} units: {shares}{iou}", fontsize=10, loc="left")
    upper.tick_params(bottom=False, labelbottom=False)
    for panel in (upper, lower):
      panel.set_ylim(len(domains) - 0.5, -0.5)
      panel.set_yticks(range(len(domains)), domains, fontsize=8)
      panel.set_yticks(np.arange(0.5, len(domains) - 1), minor=True)
      panel.grid(axis="y", which="minor", color="white", linewidth=1)
      panel.tick_params(which="minor", left=False)
      panel.spines[:].set_visible(False)
  axes[-1].set_xlabel("units, sorted by the domains they are on for")
  bar = figure.colorbar(axes[0].images[0], ax=list(axes), shrink=0.6, aspect=25, pad=0.01)
  bar.set_label("mask probability")
  bar.ax.axhline(0.5, color="white", linewidth=2)
  figure.legend(handles=[Patch(color=SHARED, label="on, shared by all domains"),
                         Patch(color=SPECIFIC, label="on, domain-specific"), Patch(color=OFF, label="off")],
                loc="outside lower center", ncols=3, frameon=False, fontsize=9)
  return figure


def overlap_bars(report: Mapping[str, float], domains: Sequence[str]) -> Figure:
  """Overlap of thresholded masks per pair of domains and layer.

  Args:
    report: what `overlap_report` returned.
    domains: the source domains it was made with, in that order.

  Returns:
    The figure: a group of bars for each pair and for the mean over pairs; one bar each for every masked layer and for
    all layers' units together. The legend says which share of units is on.

  Source: Chattopadhyay et al. 2020 (DMG), Fig. 4.
  """
  names = shown(report)
  pairs = list(itertools.combinations(domains, 2))
  groups = [*(f"{a}-{b}" for a, b in pairs), "mean"] if pairs else []
  figure = Figure(figsize=(max(5.5, 1.8 + len(groups) * (0.25 + 0.22 * len(names))), 3.9), layout="constrained")
  axes = figure.subplots()
  width = 0.8 / max(len(names), 1)
  for i, layer in enumerate(names):
    heights = [report[f"iou/{layer}/{group}"] for group in groups]
    label = f"{'all layers' if layer == ALL else layer} ({100 * report[f'units/{layer}/on']:.0f}% of units on)"
    bars = axes.bar(np.arange(len(groups)) + (i - (len(names) - 1) / 2) * width, heights, 0.92 * width, label=label,
                    color="#777777" if layer == ALL else COLOURS[i % len(COLOURS)])
    axes.bar_label(bars, fmt="%.2f", fontsize=7, padding=2, rotation=90)
  if pairs:
    axes.axvline(len(pairs) - 0.5, color="#777777", linewidth=0.8, linestyle=":")
  axes.set_xticks(range(len(groups)), [*(f"{a}-\n{b}" for a, b in pairs), *groups[len(pairs):]], fontsize=8)
  axes.set_xlim(-0.6, max(len(groups), 1) - 0.4)
  axes.set_ylim(0, 1.18)
  axes.set_yticks(np.linspace(0, 1, 6))
  axes.set_ylabel("IoU of thresholded masks")
  axes.spines[["top", "right"]].set_visible(False)
  figure.legend(loc="outside upper center", ncols=min(len(names), 3) or 1, frameon=False, fontsize=8)
  return figure


def mask_matrix(matrix: Mapping[str, Any]) -> Figure:
  """Accuracy on every domain under every source domain's mask.

  Args:
    matrix: {"masks": names of the rows (source domains, "combined"), "domains": names of the columns (source domains,
      then the target), "accuracy": a list of rows in [0, 1], "split" (optional): which images of the sources}.

  Returns:
    The figure: a heat map with numbers in percent. A domain under its own mask is framed; the target stands apart.

  Source: Chattopadhyay et al. 2020 (DMG), Table 4.
  """
  rows, columns = list(matrix["masks"]), list(matrix["domains"])
  accuracy = 100 * np.asarray(matrix["accuracy"], float)
  figure = Figure(figsize=(2.6 + 0.95 * len(columns), 1.5 + 0.5 * len(rows)), layout="constrained")
  axes = figure.subplots()
  image = axes.imshow(accuracy, cmap=COLOURMAP, aspect="auto")
  for (i, j), value in np.ndenumerate(accuracy):
    dark = value < 0.45 * accuracy.min() + 0.55 * accuracy.max()  # the colour map's lower part
    own = rows[i] == columns[j]
    axes.text(j, i, f"{value:.1f}", ha="center", va="center", color="white" if dark else "black",
              fontweight="bold" if own else "normal")
    if own:
      axes.add_patch(Rectangle((j - 0.44, i - 0.44), 0.88, 0.88, fill=False, linewidth=2,
                               edgecolor="white" if dark else "black"))
  axes.axvline(len(columns) - 1.5, color="white", linewidth=4)
  if rows and rows[-1] not in columns:
    axes.axhline(len(rows) - 1.5, color="white", linewidth=4)
  axes.set_yticks(range(len(rows)), rows)
  axes.set_xticks(range(len(columns)), [*columns[:-1], f"{columns[-1]}\n(target)"])
  axes.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False)
  axes.set_ylabel("chosen mask or head", labelpad=8)
  if "split" in matrix:
    axes.set_xlabel(f"sources: {matrix['split']} split; target: test split", fontsize=8)
  axes.spines[:].set_visible(False)
  figure.colorbar(image, ax=axes, label="accuracy (%)", pad=0.02)
  return figure


def overlap_curves(records: Iterable[Mapping[str, Any]]) -> Figure:
  """Overlap of thresholded masks over training, and how many units stay on.

  Args:
    records: lines of a run's `metrics.jsonl`; those with the keys of an overlap report are used.

  Returns:
    The figure: on the left the mean IoU over pairs for every masked layer and for all layers' units together, on the
    right the share of units on for every domain (dashed) and for some but not all (solid).

  Source: Chattopadhyay et al. 2020 (DMG), appendix 7.1; Fig. 5 shows the layers over the weight instead.
  """
  lines = [record for record in records if layers(record)]
  names = shown(lines[0]) if lines else []
  figure = Figure(figsize=(9.5, 3.8), layout="constrained")
  left, right = figure.subplots(1, 2, sharex=True)
  steps = [line["step"] for line in lines]

  def draw(axes: Axes, key: str, i: int, **style: Any) -> None:
    if lines and key in lines[0]:
      colour = "#777777" if names[i] == ALL else COLOURS[i % len(COLOURS)]
      axes.plot(steps, [line[key] for line in lines], color=colour, marker=MARKERS[i % len(MARKERS)], markersize=4,
                markevery=max(1, len(steps) // 8), **style)

  for i, layer in enumerate(names):
    label = "all layers" if layer == ALL else layer
    draw(left, f"iou/{layer}/mean", i, label=label)
    draw(right, f"units/{layer}/specific", i, label=f"{label}, domain-specific")
    draw(right, f"units/{layer}/shared", i, label=f"{label}, shared", linestyle="--")
  left.set_ylabel("mean IoU of thresholded masks")
  right.set_ylabel("share of units")
  right.yaxis.set_major_formatter(PercentFormatter(1))
  for axes in (left, right):
    axes.set_xlabel("step")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_ylim(-0.03, 1.03)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#E4E4E4")
    if axes.lines:
      axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2, frameon=False, fontsize=8)
  return figure


def points_in_plane(panels: Mapping[str, tuple[Any, Sequence[str]]], right: Any = None,
                    order: Sequence[str] = ()) -> Figure:
  """Images as points, coloured by a name that each has.

  Args:
    panels: title of a panel -> (images, 2) positions, and the name of each image, such as its domain or class.
    right: (images,) bool, whether each image was classified rightly: a circle if so, a cross if not. Default: each name
      has a marker of its own.
    order: names in the order of the legends; others come behind, as they first come among the images.

  Returns:
    The figure: the panels in a row, under each a legend; of more than `MOST_NAMES` there is none.

  Raises:
    ValueError: no panel, or one with another number of names or of marks than of positions.

  Source: Li et al. 2021 (DRT), Figs. 4 and 5; Duboudin et al. 2021 (RCL), Fig. 3; Shankar et al. 2018 (CrossGrad),
    Figs. 6 and 7.
  """
  if not panels:
    raise ValueError("no panel to draw")
  figure = Figure(figsize=(max(4.2, 3.9 * len(panels)), 4.9), layout="constrained")
  row = figure.subplots(1, len(panels), squeeze=False)[0]
  for (title, (values, labels)), axes in zip(panels.items(), row, strict=True):
    points, of = np.asarray(values), np.asarray(labels)
    marks = np.ones(len(of), bool) if right is None else np.asarray(right)
    if points.shape != (len(of), 2) or marks.shape != of.shape:
      raise ValueError(f"panel {title!r}: positions of shape {points.shape} for {len(of)} names and {len(marks)} marks")
    there = dict.fromkeys(of.tolist())
    names = list(dict.fromkeys([*(name for name in order if name in there), *there]))
    for i, name in enumerate(names):
      colour = _colour(i, len(names))
      own = MARKERS[i % len(MARKERS)] if right is None else "o"
      for taken, marker in ((marks, own), (~marks, "x")):
        where = (of == name) & taken
        if where.any():
          axes.scatter(*points[where].T, s=14 if marker == "x" else 10, color=[colour], marker=marker,
                       linewidths=0.8 if marker == "x" else 0, alpha=0.8)
      axes.scatter([], [], s=20, color=[colour], marker=own, label=name)
    axes.set_title(title, fontsize=10)
    axes.set_xticks([])
    axes.set_yticks([])
    if len(names) <= MOST_NAMES:
      axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.02), ncols=2 if len(names) < 7 else 4, frameon=False,
                  fontsize=8, handletextpad=0.2, columnspacing=1)
  if right is not None:
    figure.suptitle("circle: classified rightly, cross: wrongly", fontsize=9)
  return figure


def curves(records: Iterable[Mapping[str, Any]]) -> Figure:
  """Losses and accuracies over training.

  Args:
    records: lines of a run's `metrics.jsonl`.

  Returns:
    The figure: on the left every training loss (their sum dashed), smoothed by a moving average over a 50th of the run,
    and as it was behind it; on the right accuracy on the training batches (smoothed too), on each source's validation
    split, and on the target's test split (black).
  """
  lines = list(records)

  def series(key: str) -> tuple[np.ndarray, np.ndarray]:
    found = [(line["step"], line[key]) for line in lines if key in line]
    return tuple(np.array(found, float).T)

  # Of accuracies in every way to predict only those that rules select by: val/DOMAIN/accuracy, test/DOMAIN/accuracy.
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
  """A centred moving average over a share of a series; at its ends over what there is.

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
  """Curves over training, means over seeds with their standard errors as bands.

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
    colour, values = _colour(i, len(series)), np.asarray(values, float)
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
  return _finished(figure, axes, series)


def sweep(series: Mapping[str, Mapping[Any, Sequence[float]]], key: str, label: str) -> Figure:
  """Numbers against the values of a swept setting: means over seeds with their standard errors.

  Args:
    series: name -> value of the setting -> a number for each seed.
    key: the setting.
    label: of the numbers.

  Returns:
    The figure, of one panel. The values are equally far apart, for they often grow by factors and begin with 0.

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
    axes.errorbar([values.index(value) for value in there], means, errors, color=_colour(i, len(series)), capsize=2.5,
                  marker=MARKERS[i % len(MARKERS)], markersize=4, linewidth=1.6, label=name)
  axes.set_xticks(range(len(values)), [f"{value:g}" for value in values])
  axes.set_xlabel(key)
  axes.set_ylabel(label)
  return _finished(figure, axes, series)


def _colour(index: int, count: int) -> Any:
  """The colour of one of several names."""
  return COLOURS[index] if count <= len(COLOURS) else matplotlib.colormaps[MANY](index / (count - 1))


def _finished(figure: Figure, axes: Axes, names: Collection[str]) -> Figure:
  """A figure of one panel with its grid and legend."""
  axes.spines[["top", "right"]].set_visible(False)
  axes.grid(axis="y", color="#E4E4E4")
  if len(names) <= MOST_NAMES:
    columns = 1 if max(map(len, names)) > 24 else 2
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + 0.18 * math.ceil(len(names) / columns))
    figure.legend(loc="outside lower center", ncols=columns, frameon=False, fontsize=8)
  return figure


def domain_bars(series: Mapping[str, Mapping[str, float]]) -> Figure:
  """Accuracy on each domain, a group of bars for each and for their mean.

  Args:
    series: name, such as "oracle" -> domain -> accuracy in [0, 1]; the first names the domains.

  Returns:
    The figure. A domain that a series lacks has no bar of it, and the series none at the mean.

  Source: Li et al. 2021 (DRT), Fig. 2.
  """
  domains = list(next(iter(series.values())))
  figure = Figure(figsize=(max(5.5, 1.8 + (len(domains) + 1) * (0.3 + 0.24 * len(series))), 3.9), layout="constrained")
  axes = figure.subplots()
  width = 0.8 / len(series)
  heights = [[100 * scores.get(domain, np.nan) for domain in domains] for scores in series.values()]
  for i, (name, values) in enumerate(zip(series, heights, strict=True)):
    place = np.arange(len(domains) + 1) + (i - (len(series) - 1) / 2) * width
    bars = axes.bar(place, np.append(values, np.mean(values)), 0.92 * width, label=name,
                    color=COLOURS[i % len(COLOURS)])
    axes.bar_label(bars, fmt="%.1f", fontsize=7, padding=2, rotation=90)
  axes.axvline(len(domains) - 0.5, color="#777777", linewidth=0.8, linestyle=":")
  axes.set_xticks(range(len(domains) + 1), [*domains, "mean"], fontsize=8)
  lowest, highest = np.nanmin(heights), np.nanmax(heights)
  room = max(highest - lowest, 5.0)
  axes.set_ylim(max(0.0, lowest - room), highest + 0.5 * room)
  axes.set_ylabel("accuracy (%)")
  axes.spines[["top", "right"]].set_visible(False)
  figure.legend(loc="outside upper center", ncols=min(len(series), 4), frameon=False, fontsize=9)
  return figure


def image_rows(rows: Mapping[str, Any], columns: Sequence[str] = ()) -> Figure:
  """Images in rows.

  Args:
    rows: name of a row -> (images, height, width, channels) float in [0, 1], of 1 or 3 channels; rows may differ in
      length.
    columns: what stands above the first images of each row.

  Returns:
    The figure.

  Source: Duboudin et al. 2021 (RCL), Fig. 1.
  """
  longest = max(len(images) for images in rows.values())
  figure = Figure(figsize=(1.2 + 0.75 * longest, 0.3 + 0.8 * len(rows)), layout="constrained")
  grid = figure.subplots(len(rows), longest, squeeze=False)
  for (name, images), line in zip(rows.items(), grid, strict=True):
    for axes, image in itertools.zip_longest(line, images):
      axes.set_xticks([])
      axes.set_yticks([])
      axes.spines[:].set_visible(False)
      if image is not None:
        axes.imshow(image[..., 0] if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=1)
    line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
  for axes, name in zip(grid[0], columns, strict=False):
    axes.set_title(name, fontsize=9)
  return figure


def save(figure: Figure, path: pathlib.Path) -> pathlib.Path:
  """Writes a figure as PNG, and as PDF beside it, making its folder.

  Args:
    figure: what one of the functions above returned.
    path: where to; the name must end in `.png`.

  Returns:
    `path`.
  """
  path.parent.mkdir(parents=True, exist_ok=True)
  figure.savefig(path, format="png", dpi=150)
  figure.savefig(path.with_suffix(".pdf"), format="pdf", metadata={"CreationDate": None})  # the same each time
  return path


def save_all(folder: pathlib.Path, results: Mapping[str, Any]) -> list[pathlib.Path]:
  """Draws every figure that a finished run has data for, into its sub-folder `figures`.

  Args:
    folder: the run's folder. `metrics.jsonl` is read for curves, and `masks.npz` (an array of mask probabilities
      (p, k) for each masked layer) for the masks, where they are there.
    results: the contents of its `results.json`: `sources`, the `groups` that took their part in training where the
      data set has groups, and where the method has them `mask_matrix` and `overlap`.

  Returns:
    The PNG files written, in `folder/figures`, each with a PDF beside it: curves.png, masks.png, overlap.png,
    overlap_curves.png, mask_matrix.png.
  """
  figures, trained = {}, results.get("groups") or results["sources"]
  lines = read_lines(folder / "metrics.jsonl")
  if any(key.startswith("train/") for line in lines for key in line):
    figures["curves"] = curves(lines)
  if (folder / "masks.npz").exists():
    with np.load(folder / "masks.npz", allow_pickle=False) as probs:
      figures["masks"] = masks(dict(probs), trained)
  if "iou/mean" in results.get("overlap", {}):  # a single source domain has no overlap to show
    figures["overlap"] = overlap_bars(results["overlap"], trained)
    figures["overlap_curves"] = overlap_curves(lines)
  if results.get("mask_matrix"):
    figures["mask_matrix"] = mask_matrix(results["mask_matrix"])
  return [save(figure, folder / "figures" / f"{name}.png") for name, figure in figures.items()]
