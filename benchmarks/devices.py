"""How far a method's losses are apart on 1, 4 and 8 devices after some steps: the same sums in another order.

  python benchmarks/devices.py [METHOD ...] [--steps=20] [--devices=1,4,8] [--ordered]

Each method of the digits' config is trained on virtual CPU devices of this machine, with the defaults of the config but
for the batch, which the devices must divide. Prints, for each number of devices, the largest relative difference of a
training loss from that on one device: of the first step, whose parameters are the same, and of all steps. The last
column is what the method makes of any rounding: one device against itself, with one parameter changed by its last bit.

With --ordered, means over the batch (those of BatchNorm and of the losses) are taken in an order that does not depend
on the number of devices: of eight parts of the batch each, and then of these, one after the other, on every device.
"""

import argparse
import os
import sys

if __name__ == "__main__":  # before JAX starts
  os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8 " + os.environ.get("XLA_FLAGS", "")

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax._src import core
from jax.sharding import NamedSharding, PartitionSpec

from dgjax import config
from dgjax.algorithms import ALGORITHMS
from dgjax.experiment import Experiment
from dgjax.feed import Feed
from dgjax.group import build

PARTS = 8  # of the batch, under --ordered


def losses(method: str, devices: int, steps: int, ordered: bool = False, nudge: bool = False) -> np.ndarray:
  """The training loss of each step, (steps,).

  Args:
    method: of `configs/digits.py`.
    devices: how many.
    steps: how many.
    ordered: whether means over the batch are taken in an order of their own.
    nudge: whether the first element of the largest parameter is changed by its last bit.
  """
  settings = config.load("digits:" + method, {"target": "plain", "steps": steps, "devices": devices})
  experiment = Experiment.build(settings)
  if ordered:
    order_means(experiment.devices.replicated)
  group = build([experiment], Feed([experiment]), "map")
  states, found = group.first_states(), []
  if nudge:
    states = [nudged(states[0])]
  step = 0
  while step < steps:
    until = group.until(step, steps)
    states, metrics = group.advance(states, step, until - step, np.array([True]))
    found.append(np.ravel(group.lanes.rows(jax.device_get(metrics))[0]["loss"]))
    step = until
  return np.concatenate(found)


def nudged(state: Any) -> Any:
  """A state whose largest parameter's first element is the next number."""
  leaves, structure = jax.tree.flatten(state.params)
  largest = max(range(len(leaves)), key=lambda i: leaves[i].size)
  value = np.array(leaves[largest])
  value.flat[0] = np.nextafter(value.flat[0], np.float32(np.inf))
  leaves[largest] = jax.device_put(value, leaves[largest].sharding)
  return state.replace(params=jax.tree.unflatten(structure, leaves))


def order_means(replicated: NamedSharding) -> None:
  """Has every mean over a leading axis that divides into `PARTS` add parts of it in order, on every device."""
  plain = jnp.mean

  def mean(x: jax.Array, axis: Any = None, **options: Any) -> jax.Array:
    axes = tuple(range(x.ndim)) if axis is None else (axis,) if isinstance(axis, int) else tuple(axis)
    if options or 0 not in axes or not x.ndim or x.shape[0] % PARTS or not jnp.issubdtype(x.dtype, jnp.floating):
      return plain(x, axis, **options)
    parts = x.reshape(PARTS, -1, *x.shape[1:])
    sums = parts.sum(tuple(1 + axis % x.ndim for axis in axes))
    sums = jax.lax.with_sharding_constraint(sums, NamedSharding(replicated.mesh, PartitionSpec()))
    total = sums[0]
    for part in range(1, PARTS):
      total = total + sums[part]
    return total / np.prod([x.shape[axis] for axis in axes]).astype(x.dtype)

  jnp.mean = mean
  core.ShapedArray.mean = core.aval_method(mean)


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("methods", nargs="*", default=sorted(ALGORITHMS))
  parser.add_argument("--steps", type=int, default=20)
  parser.add_argument("--devices", default="1,4,8")
  parser.add_argument("--ordered", action="store_true", help="means in an order that does not depend on the devices")
  flags = parser.parse_args()
  one, *others = map(int, flags.devices.split(","))
  print(f"{'method':<20}" + "".join(f"  {count} devices: first  {count} devices: all" for count in others)
        + "  one bit: all")
  for method in flags.methods:
    expected = losses(method, one, flags.steps, flags.ordered)
    apart = [np.abs(losses(method, count, flags.steps, flags.ordered) / expected - 1) for count in others]
    bit = np.abs(losses(method, one, flags.steps, flags.ordered, nudge=True) / expected - 1).max()
    print(f"{method:<20}" + "".join(f"  {x[0]:>16.0e}  {x.max():>14.0e}" for x in apart) + f"  {bit:>12.0e}",
          flush=True)
  return 0


if __name__ == "__main__":
  sys.exit(main())
