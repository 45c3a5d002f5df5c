"""Two methods' training steps and evaluations, timed in turn in one process.

The functions are the training loop's own: a method's update with the state donated, and the evaluator's count of
right predictions in the mode that the target is scored in. Calls alternate, and the order within a pair alternates
too, so that whatever else the machine does falls on both; a ratio is the median of the pairs' ratios.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from dgjax import models, ops
from dgjax.data.dataset import Dataset
from dgjax.evaluation.evaluator import count
from dgjax.experiment import Experiment


def parser(description: str, *, model: str, image_size: int, batch_size: int, repeats: int = 15) -> Any:
  """The options that every comparison has, with a comparison's own defaults."""
  made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
  made.add_argument("--model", default=model, choices=sorted(models.NETWORKS))
  made.add_argument("--image_size", type=int, default=image_size)
  made.add_argument("--batch_size", type=int, default=batch_size, help="of training")
  made.add_argument("--repeats", type=int, default=repeats, help="pairs of calls that are measured")
  made.add_argument("--warmup", type=int, default=2, help="pairs before those")
  return made


def images(rows: int, side: int, classes: int, domains: int) -> dict[str, np.ndarray]:
  """A batch of noise; what is in the images does not change what they cost."""
  rng = np.random.default_rng(0)
  return {"image": rng.integers(0, 256, (rows, side, side, 3), np.uint8),
          "label": rng.integers(0, classes, rows, np.int32), "domain": rng.integers(0, domains, rows, np.int32),
          "mask": np.ones(rows, bool)}


def on_noise(c: Any, classes: int, domains: int) -> Experiment:
  """A config's run on one device, with a data set that is never read. The config's target is set."""
  names = tuple("abcdef"[:domains + 1])
  dataset = Dataset(name="noise", domains=names, classes=tuple("0123456789"[:classes]),
                    splits={name: {"train": 100 * c.batch_size} for name in names}, source_test=True, mean=(0.5,) * 3,
                    std=(0.25,) * 3, channels=3, opener=None)
  c.update(target=names[-1], devices=1)
  return Experiment.build(c, dataset)


def training_batch(experiment: Experiment) -> dict[str, Any]:
  """A batch of noise as the run's method takes it, with as many images of the target if it adapts."""
  c = experiment.config
  batch = images(c.batch_size, c.data.image_size, len(experiment.dataset.classes), len(experiment.sources))
  del batch["mask"]
  return {"source": batch, "target": {"image": batch["image"]}} if experiment.algorithm.adapts else batch


def calls(c: Any, classes: int, domains: int) -> tuple[Callable[[], Any], Callable[[], Any]]:
  """Makes a config's training step and its evaluation of one batch, each a function that waits for its result.

  The step is compiled here for the backend in use, the evaluation at its first call.
  """
  experiment = on_noise(c, classes, domains)
  placed = experiment.devices.put(training_batch(experiment))
  scored = images(c.eval_batch_size, c.data.image_size, classes, domains)
  state = experiment.first_state()
  # Compiled now, since the backend may be another one at the first call.
  update = experiment.devices.compile(
      lambda state, batch, _: experiment.algorithm.update(state, experiment.normalise(batch)), updates=True)
  score = experiment.devices.compile(
      lambda state, batch: count(experiment.algorithm, state, experiment.normalise(batch), known=False)[
          experiment.algorithm.prediction])
  compiled = update.lower(state, placed, None).compile()

  def step() -> Any:
    nonlocal state
    state, metrics = compiled(state, placed, None)
    return jax.block_until_ready((state, metrics))

  def evaluate() -> Any:
    return jax.block_until_ready(score(state, scored))

  return step, evaluate


def seconds(call: Callable[[], Any]) -> float:
  start = time.perf_counter()
  call()
  return time.perf_counter() - start


class Comparison(NamedTuple):
  """Median seconds of two calls, and the quartiles over pairs of second / first."""

  first: float
  second: float
  ratios: tuple[float, float, float]

  def line(self, what: str, target: float) -> str:
    """A row of the table: what was measured, the two times, the ratio and the ratio that is aimed at."""
    low, ratio, high = self.ratios
    return (f"{what:<32}{1e3 * self.first:>9.1f} ms{1e3 * self.second:>9.1f} ms{ratio:>8.3f}"
            f"{f'{low:.3f}-{high:.3f}':>16}{target:>8}")


def head(flags: argparse.Namespace, details: str, first: str, second: str) -> str:
  """What was measured on what, and the head of the table that `Comparison.line` makes rows of."""
  what = ", ".join(filter(None, [flags.model, f"{flags.image_size} px", details, jax.devices()[0].device_kind]))
  return (f"{what}, {ops.backend()}; medians of {flags.repeats} alternating repetitions\n"
          f"{'':<32}{first:>12}{second:>12}{'ratio':>8}{'quartiles':>16}{'target':>8}")


def compare(first: Callable[[], Any], second: Callable[[], Any], repeats: int, warmup: int) -> Comparison:
  """Times two calls in turn."""
  pairs = []
  for i in range(warmup + repeats):
    if i % 2:
      b, a = seconds(second), seconds(first)
    else:
      a, b = seconds(first), seconds(second)
    if i >= warmup:
      pairs.append((a, b))
  a, b = np.median(pairs, axis=0)
  low, middle, high = np.quantile([b / a for a, b in pairs], [0.25, 0.5, 0.75])
  return Comparison(float(a), float(b), (float(low), float(middle), float(high)))
