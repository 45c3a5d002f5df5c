"""What phases save: a step of a method with two phases, against a step that computes both and keeps one.

  python benchmarks/phases_step.py [--model=smallnet] [--image_size=32] [--batch_size=64] [--repeats=15]

The second column is a phase's own compiled update, as the training loop runs it; the first one update for the whole
run, which does both and selects by `state.step`. A `cond` would not do in its place: XLA's convolutions on a CPU are
many times as slow inside a branch. How it is measured: `alternating.py`.
"""

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import alternating
import jax
import jax.numpy as jnp

from dgjax import algorithms, config, experiment, parallel
from dgjax.memory import use_huge_pages

DOMAINS, CLASSES = 3, 10
METHODS = ("adda", "metareg")
STEPS = 1_000


def settings(argv: Sequence[str] | None = None) -> argparse.Namespace:
  parser = alternating.parser(__doc__, model="smallnet", image_size=32, batch_size=64)
  return parser.parse_args(argv)


def steps(method: str, flags: argparse.Namespace) -> list[tuple[str, Callable[[], Any], Callable[[], Any]]]:
  """For each phase its name, the step that computes both phases, and the phase's own."""
  c = config.default(algorithm=method, model=flags.model, data="digits")
  algorithm: Any = algorithms.build(c, classes=CLASSES, domains=DOMAINS, steps_per_epoch=100.0, steps=STEPS)
  devices = parallel.make("jit", 1, flags.batch_size)
  first, second = algorithm.phases

  def select(state: Any, batch: Any) -> Any:
    one, two = (phase.update(state, batch) for phase in (first, second))
    loss = jnp.where(state.step < second.begin, one[1]["loss"], two[1]["loss"])
    return jax.tree.map(lambda a, b: jnp.where(state.step < second.begin, a, b), one[0], two[0]), loss

  images = alternating.images(flags.batch_size, flags.image_size, CLASSES, DOMAINS)
  source = {name: images[name] for name in ("image", "label", "domain")} | {
      "image": images["image"].astype("float32") / 255}
  batch = devices.put({"source": source, "target": {"image": source["image"]}} if algorithm.adapts else source)
  fresh = devices.init(algorithm, experiment.batch_shapes(source["image"].shape[1:], algorithm.adapts))

  def call(function: Callable[..., Any], begin: int) -> Callable[[], Any]:
    state = fresh(jax.random.key(0)).replace(step=jnp.int32(begin))
    compiled = devices.compile(function, updates=True).lower(state, batch).compile()

    def step() -> Any:
      nonlocal state
      state, metrics = compiled(state, batch)
      return jax.block_until_ready((state, metrics))

    return step

  return [(phase.name, call(select, phase.begin), call(phase.update, phase.begin)) for phase in algorithm.phases]


def report(flags: argparse.Namespace) -> str:
  """Measures, and returns the table."""
  lines = [alternating.head(flags, f"batch {flags.batch_size}", "both phases", "one phase")]
  for method in METHODS:
    for name, both, one in steps(method, flags):
      lines.append(alternating.compare(both, one, flags.repeats, flags.warmup).line(f"{method}, {name}", 1))
  return "\n".join(lines)


if __name__ == "__main__":
  use_huge_pages()
  print(report(settings()))
