"""How much the learned masks of the source domains overlap, and which units they share."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dgjax.losses.overlap import SMOOTHING

THRESHOLD = 0.5  # a unit is on for a domain when its mask probability is above this
ALL = "all"  # name under which the units of all masked layers together are reported


def hard_masks(probs: Any) -> np.ndarray:
  """Thresholds mask probabilities at 0.5.

  Args:
    probs: (p, k) array, mask probabilities in [0, 1]. Logits are refused if any lies outside.

  Returns:
    (p, k) bool, True where the unit is on: probability above 0.5.

  Raises:
    ValueError: if the shape is not (domains, units), or a value lies outside [0, 1].

  Source: Chattopadhyay et al. 2020 (DMG), section 5 and appendix 7.1.
  """
  probs = np.asarray(probs)
  if probs.ndim != 2:
    raise ValueError(f"mask probabilities must be (domains, units), not {probs.shape}")
  if (probs < 0).any() or (probs > 1).any():
    raise ValueError(f"mask probabilities must be in [0, 1], not [{probs.min()}, {probs.max()}] (logits?)")
  return probs > THRESHOLD


def hard_iou(on: np.ndarray) -> np.ndarray:
  """Intersection over union of the units that are on, for every pair of domains.

  Args:
    on: (p, k) bool.

  Returns:
    (p, p) float64 in (0, 1], symmetric, with ones on the diagonal. Two masks that are off everywhere have an IoU of 1.

  Source: Chattopadhyay et al. 2020 (DMG), appendix 7.1, with the released code's smoothing of 1e-6.
  """
  units = on.astype(np.float64)
  both = units @ units.T
  size = units.sum(1)
  return (both + SMOOTHING) / (size[:, None] + size[None, :] - both + SMOOTHING)


def unit_kinds(on: np.ndarray) -> dict[str, np.ndarray]:
  """Sorts units into the paper's three kinds.

  Args:
    on: (p, k) bool.

  Returns:
    `off`: (k,) bool, on for no domain. `shared`: (k,) bool, on for all. `specific`: (k,) bool, on for some but not all.
    `exclusive`: (p, k) bool, on for this domain alone. With a single domain every unit that is on is shared, and none
    is specific or exclusive.

  Source: Chattopadhyay et al. 2020 (DMG), appendix 7.1, (1) to (3).
  """
  count = on.sum(0)
  off, shared = count == 0, count == on.shape[0]
  specific = ~off & ~shared
  exclusive = on & (specific & (count == 1))[None]
  return {"off": off, "shared": shared, "specific": specific, "exclusive": exclusive}


def layers(report: Mapping[str, Any]) -> list[str]:
  """The layers that an overlap report is about.

  Args:
    report: what `overlap_report` returned, or a line of metrics that contains it.

  Returns:
    The masked layers in order, then `all`; empty if there are no masks.
  """
  keys = [key.split("/") for key in report]
  return [key[1] for key in keys if len(key) == 3 and key[0] == "units" and key[2] == "off"]


def overlap_report(mask_probs: Mapping[str, Any], domains: Sequence[str]) -> dict[str, float]:
  """Overlap of thresholded masks, and the shares of units that are on, off, shared and domain-specific.

  It takes one small matrix product a layer, so it can be logged at every evaluation.

  Args:
    mask_probs: per masked layer, (p, k) mask probabilities in [0, 1], as NumPy or JAX arrays on the host.
    domains: the p source domains, in the order of the rows.

  Returns:
    A flat mapping of floats in [0, 1] that can go into JSON or a metrics line. LAYER is each masked layer,
    and `all`: the units of all layers taken together as if they were one layer.
    - `iou/LAYER/A-B`: intersection over union of domains A and B (A before B in `domains`);
    - `iou/LAYER/mean`: its mean over pairs;
    - `iou/mean`: mean over layers of `iou/LAYER/mean`: every layer counts alike (`iou/all/mean`: every unit);
    - `units/LAYER/on`: share of units that are on, averaged over domains; `units/LAYER/on/A`: for one domain;
    - `units/LAYER/off`, `shared`, `specific`: share of units on for no, for every, for some but not every
      domain; the three add to 1;
    - `units/LAYER/exclusive/A`: share of units on for A alone.
    A single domain has no pairs, and so no `iou/` keys. Without masked layers the mapping is empty.

  Raises:
    ValueError: if shapes do not fit, values lie outside [0, 1], or a layer bears the name `all` or `mean`.

  Source: Chattopadhyay et al. 2020 (DMG), section 5, Figs. 3-5 and appendix 7.1.
  """
  masks = {layer: hard_masks(probs) for layer, probs in mask_probs.items()}
  for layer, on in masks.items():
    if on.shape[0] != len(domains):
      raise ValueError(f"{len(domains)} domains, but the masks of {layer} have {on.shape[0]} rows")
    if layer in (ALL, "mean"):
      raise ValueError(f"a masked layer cannot be called {layer!r}: the report uses that name")
  if not masks:
    return {}

  report: dict[str, float] = {}
  for layer, on in {**masks, ALL: np.concatenate(list(masks.values()), axis=1)}.items():
    iou, pairs = hard_iou(on), list(itertools.combinations(range(len(domains)), 2))
    for i, j in pairs:
      report[f"iou/{layer}/{domains[i]}-{domains[j]}"] = float(iou[i, j])
    if pairs:
      report[f"iou/{layer}/mean"] = float(np.mean([iou[i, j] for i, j in pairs]))
    kinds = unit_kinds(on)
    report[f"units/{layer}/on"] = float(on.mean())
    for kind in ("off", "shared", "specific"):
      report[f"units/{layer}/{kind}"] = float(kinds[kind].mean())
    for name, own, exclusive in zip(domains, on, kinds["exclusive"], strict=True):
      report[f"units/{layer}/on/{name}"] = float(own.mean())
      report[f"units/{layer}/exclusive/{name}"] = float(exclusive.mean())
  if len(domains) > 1:
    report["iou/mean"] = float(np.mean([report[f"iou/{layer}/mean"] for layer in masks]))
  return report
