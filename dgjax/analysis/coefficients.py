"""The coefficients by which a dynamic network chooses its kernels, collected for a data set."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from dgjax.errors import UserError
from dgjax.models.network import Network

KINDS = ("mixture", "gains")
"""What an attention branch computes: shares of the matrices Phi (Eq. 4), and gains of output channels (Eq. 3)."""


def collect(network: Network, variables: Mapping[str, Any], batches: Iterable[Mapping[str, Any]],
            prepare: Callable[[Any], Any] = lambda batch: batch) -> dict[str, dict[str, np.ndarray]]:
  """Runs a network in evaluation and keeps the coefficients that its attention branches compute for each image.

  Args:
    network: with dynamic residuals.
    variables: its "params" and "batch_stats". Stages after the last one that has variables are not run.
    batches: dicts of `image` (batch, height, width, channels) and, if some rows are padding, `mask` (batch,) bool.
    prepare: a function of a batch that is applied first, on the device, such as `experiment.normalise`.

  Returns:
    For each of KINDS that the network has, the path of each dynamic convolution ("layer1/0/conv2"), in the network's
    order -> (images, K) shares that sum to 1, or (images, channels) gains; float32.

  Raises:
    UserError: the network has no dynamic residual, or there are no batches.

  Source: DRT, section 4.5.
  """
  last = max(network.index(stage) for stage in variables["params"])
  stop = network.names[last + 1] if last + 1 < len(network.names) else None

  @jax.jit
  def run(batch):
    _, sown = network.apply(variables, prepare(batch)["image"], stop=stop, mutable=["intermediates"])
    return sown.get("intermediates", {})

  parts: dict[tuple[str, str], list[np.ndarray]] = {}
  for batch in batches:
    taken = np.asarray(batch.get("mask", np.ones(len(batch["image"]), bool)))
    for path, (value,) in traverse_util.flatten_dict(run({"image": batch["image"]})).items():
      if path[-1] in KINDS:
        parts.setdefault((path[-1], "/".join(path[:-2])), []).append(np.asarray(value, np.float32)[taken])
  if not parts:
    raise UserError("no dynamic coefficients to collect: set model.dynamic to 'channel', 'subspace' or 'both', and "
                    "give at least one batch")

  def order(layer: str) -> tuple[int, list[tuple[str, int]]]:
    stage, *rest = layer.split("/")
    # jit sorts names as text, which puts block 10 before block 2.
    return network.index(stage), [(word, int(number or 0)) for word, number in re.findall(r"([^\d/]*)(\d*)",
                                                                                           "/".join(rest))]

  layers = sorted({layer for _, layer in parts}, key=order)
  return {kind: {layer: np.concatenate(parts[kind, layer]) for layer in layers if (kind, layer) in parts}
          for kind in KINDS if any(kind == found for found, _ in parts)}


def vectors(coefficients: Mapping[str, np.ndarray], half: str = "") -> np.ndarray:
  """Puts the coefficients of all layers side by side.

  Args:
    coefficients: layer -> (images, n), one of the kinds that `collect` returns.
    half: "low" or "high" for the first or second half of the layers (an odd one counts as high); "": all.

  Returns:
    (images, sum of n): with K matrices in each of L layers (images, L K).

  Raises:
    ValueError: another half.

  Source: DRT, section 4.5, Fig. 4; Fig. 5 for the halves.
  """
  layers, middle = list(coefficients), len(coefficients) // 2
  parts = {"": layers, "low": layers[:middle], "high": layers[middle:]}
  if half not in parts:
    raise ValueError(f"no half {half!r} of the layers: use 'low', 'high' or ''")
  return np.concatenate([coefficients[layer] for layer in parts[half]], axis=1)
