"""How far a method's losses are apart on 1, 4 and 8 devices after some steps: the same sums in another order.

  python benchmarks/devices.py [METHOD ...] [--steps=20] [--devices=1,4,8]

Each method of the digits' config is trained on virtual CPU devices of this machine, with the defaults of the config but
for the batch, which the devices must divide. Prints, for each number of devices, the largest relative difference of a
training loss from that on one device: of the first step, whose parameters are the same, and of all steps. The last
column is what the method makes of any rounding: one device against itself, with one parameter changed by its last bit.
"""

import argparse
import os
import sys

if __name__ == "__main__":  # before JAX starts
  os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8 " + os.environ.get("XLA_FLAGS", "")

from typing import Any

import jax
import numpy as np

from dgjax import config
from dgjax.algorithms import ALGORITHMS
from dgjax.experiment import Experiment
from dgjax.feed import Feed
from dgjax.group import build


def losses(method: str, devices: int, steps: int, nudge: bool = False) -> np.ndarray:
  """The training loss of each step, (steps,).

  Args:
    method: of `configs/digits.py`.
    devices: how many.
    steps: how many.
    nudge: whether the first element of the largest parameter is changed by its last bit.
  """
  settings = config.load("digits:" + method, {"target": "plain", "steps": steps, "devices": devices})
  experiment = Experiment.build(settings)
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


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("methods", nargs="*", default=sorted(ALGORITHMS))
  parser.add_argument("--steps", type=int, default=20)
  parser.add_argument("--devices", default="1,4,8")
  flags = parser.parse_args()
  one, *others = map(int, flags.devices.split(","))
  print(f"{'method':<20}" + "".join(f"  {count} devices: first  {count} devices: all" for count in others)
        + "  one bit: all")
  for method in flags.methods:
    expected = losses(method, one, flags.steps)
    apart = [np.abs(losses(method, count, flags.steps) / expected - 1) for count in others]
    bit = np.abs(losses(method, one, flags.steps, nudge=True) / expected - 1).max()
    print(f"{method:<20}" + "".join(f"  {x[0]:>16.0e}  {x.max():>14.0e}" for x in apart) + f"  {bit:>12.0e}",
          flush=True)
  return 0


if __name__ == "__main__":
  sys.exit(main())
