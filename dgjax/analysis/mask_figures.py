"""Figures of DMG's masks: the masks themselves, their overlap, and accuracy under each."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter

from dgjax.algorithms.overlap import ALL, hard_iou, hard_masks, layers, unit_kinds
from dgjax.analysis.style import COLOURMAP, COLOURS, MARKERS

SHARED, SPECIFIC, OFF = COLOURS[0], COLOURS[1], "#E4E4E4"


def order_units(on: np.ndarray, probs: np.ndarray) -> np.ndarray:
  """Sorts units so that the pattern of a layer's masks can be seen.

  Args:
    on: (p, k) bool, thresholded masks.
    probs: (p, k) float, their probabilities.

  Returns:
    (k,) int, a permutation. Units that are on for all domains come first, then those on for fewer and fewer, and units
    that are off everywhere come last. Equal patterns are side by side, sorted by falling mean probability.
  """
  pattern = (on * 2 ** np.arange(on.shape[0])[::-1, None]).sum(0)
  return np.lexsort((-probs.mean(0), -pattern, -on.sum(0)))


def shown(report: Mapping[str, Any]) -> list[str]:
  """The layers to draw: those of the report, without `all` if there is only one masked layer.

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
    The figure. It has a group of bars for each pair and for the mean over pairs. A group has a bar for every masked
    layer and one for the units of all layers together. The legend gives the share of units that are on.

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
      then the target), "accuracy": a list of rows in [0, 1], "split" (optional): the split of the sources}.

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
    The figure. On the left: the mean IoU over pairs for every masked layer and for the units of all layers together. On
    the right: the share of units that are on for every domain (dashed) and for some but not all (solid).

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
