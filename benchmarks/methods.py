"""What a training step of each method costs: its time and its arithmetic over those of Aggregate.

  python benchmarks/methods.py [--model=smallnet] [--image_size=32] [--batch_size=64] [--repeats=9] [METHOD ...]

A method that adapts has as many images of the target as of the sources in a step, beside these; of one with several
phases each is measured. Arithmetic is XLA's count of floating-point operations. How time is measured: `alternating.py`.
"""

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import alternating
import jax
import jax.numpy as jnp

from dgjax import algorithms, config, experiment, parallel
from dgjax.memory import use_huge_pages

DOMAINS, CLASSES, STEPS = 3, 10, 1_000


def settings(argv: Sequence[str] | None = None) -> argparse.Namespace:
  parser = alternating.parser(__doc__, model="smallnet", image_size=32, batch_size=64, repeats=9)
  parser.add_argument("methods", nargs="*", default=sorted(algorithms.ALGORITHMS), metavar="METHOD")
  return parser.parse_args(argv)


def steps(method: str, flags: argparse.Namespace) -> list[tuple[str, Callable[[], Any], float]]:
  """For each phase its name, its step, and the step's arithmetic."""
  c = config.default(algorithm=method, model=flags.model, data="digits")
  algorithm = algorithms.build(c, classes=CLASSES, domains=DOMAINS, steps_per_epoch=100.0, steps=STEPS)
  devices = parallel.make("jit", 1, flags.batch_size)
  drawn = alternating.images(flags.batch_size, flags.image_size, CLASSES, DOMAINS)
  source = {"image": drawn["image"].astype("float32") / 255, "label": drawn["label"], "domain": drawn["domain"]}
  batch = devices.put({"source": source, "target": {"image": source["image"]}} if algorithm.adapts else source)
  fresh = devices.init(algorithm, experiment.batch_shapes(source["image"].shape[1:], algorithm.adapts))

  def call(phase: Any) -> tuple[str, Callable[[], Any], float]:
    state = fresh(jax.random.key(0)).replace(step=jnp.int32(phase.begin))
    compiled = devices.compile(phase.update, updates=True).lower(state, batch).compile()

    def step() -> Any:
      nonlocal state
      state, metrics = compiled(state, batch)
      return jax.block_until_ready((state, metrics))

    return phase.name, step, compiled.cost_analysis()["flops"]

  return [call(phase) for phase in algorithm.phases]


def report(flags: argparse.Namespace) -> str:
  """Measures, and returns the table."""
  [(_, plain, arithmetic)] = steps("aggregate", flags)
  lines = [alternating.head(flags, f"batch {flags.batch_size}", "aggregate", "method").replace("target", "flops")]
  for method in flags.methods:
    phases = steps(method, flags)
    for name, step, flops in phases:
      what = f"{method}, {name}" if len(phases) > 1 else method
      compared = alternating.compare(plain, step, flags.repeats, flags.warmup)
      lines.append(compared.line(what, round(flops / arithmetic, 2)))
  return "\n".join(lines)


if __name__ == "__main__":
  use_huge_pages()
  print(report(settings()))
