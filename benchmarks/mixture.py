"""Mixing channels by a matrix of each example's own, forward and back: einsums and `ops.mix_channels`, in turn.

  python benchmarks/mixture.py [--batch_size=16] [--k=4] [--repeats=20]

The shapes are those of ResNet-50's 3x3 convolutions at 96 and 224 px. The einsums are those of the form "mixing"
(`dgjax.models.dynamic`), which XLA differentiates. How it is measured: `alternating.py`.
"""

import argparse
from collections.abc import Sequence
from typing import Any

import alternating
import jax
import jax.numpy as jnp
import numpy as np

from dgjax import ops
from dgjax.memory import use_huge_pages

SIZES = {96: ((64, 24), (128, 12), (256, 6), (512, 3)), 224: ((64, 56), (128, 28), (256, 14), (512, 7))}


def settings(argv: Sequence[str] | None = None) -> argparse.Namespace:
  made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  made.add_argument("--batch_size", type=int, default=16)
  made.add_argument("--k", type=int, default=4, help="number of shared matrices")
  made.add_argument("--image_size", type=int, nargs="+", default=sorted(SIZES), choices=sorted(SIZES))
  made.add_argument("--repeats", type=int, default=20)
  made.add_argument("--warmup", type=int, default=2)
  return made.parse_args(argv)


def einsums(x: jax.Array, routing: jax.Array, phi: jax.Array) -> jax.Array:
  return jnp.einsum("bri,bio->bro", x, jnp.einsum("bk,kio->bio", routing, phi))


def calls(function: Any, batch: int, positions: int, channels: int, k: int) -> Any:
  rng = np.random.default_rng(0)
  shapes = ((batch, positions, channels), (batch, k), (k, channels, channels), (batch, positions, channels))
  *operands, dy = (jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in shapes)

  @jax.jit
  def both(dy, *operands):
    y, backward = jax.vjp(function, *operands)
    return y, backward(dy)

  return lambda: jax.block_until_ready(both(dy, *operands))


def report(flags: argparse.Namespace) -> str:
  """Measures, and returns the table."""
  lines = [f"batch {flags.batch_size}, k {flags.k}, float32, {ops.describe()}; medians of {flags.repeats} alternating "
           "repetitions", f"{'':<32}{'einsums':>12}{'ours':>12}{'ours / einsums (quartiles)':>30}"]
  for size in flags.image_size:
    for channels, side in SIZES[size]:
      first, second = (calls(f, flags.batch_size, side * side, channels, flags.k) for f in (einsums, ops.mix_channels))
      found = alternating.compare(first, second, flags.repeats, flags.warmup)
      low, ratio, high = found.ratios
      times = "".join(f"{1e3 * seconds:>9.2f} ms" for seconds in (found.first, found.second))
      lines.append(f"{f'{channels} channels, {side}x{side}':<32}{times}{f'{ratio:.2f} ({low:.2f}-{high:.2f})':>30}")
  return "\n".join(lines)


if __name__ == "__main__":
  use_huge_pages(__file__)
  print(report(settings()))
