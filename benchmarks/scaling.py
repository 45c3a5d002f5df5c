"""How the cost of a training step follows the image size, the batch size and the number of cores, as a figure.

  python benchmarks/scaling.py [--model=resnet18] [--dtype=float32] [--out=scaling.svg]

Each point is a process of its own, in which XLA, oneDNN and PyTorch take turns where they are installed: the step of
`ops_step.py`. What is shown is examples for each second of all cores' time, which other programs on the machine change
little: a level line over the cores is a speed that grows with them.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
from matplotlib import ticker

from dgjax.memory import keep_freed_memory, use_huge_pages

SIZE, BATCH = 64, 16
NAMES = {"xla": "XLA", "native": "oneDNN", "torch": "PyTorch"}
COLOURS = {"xla": "tab:blue", "native": "tab:orange", "torch": "tab:gray"}


def measure(options: argparse.Namespace) -> dict[str, float]:
  """Seconds of all cores' time for an example, by implementation: the median over turns."""
  os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:options.cores])  # before jax makes its threads
  import ops_step
  keep_freed_memory()
  times = ops_step.in_turns(ops_step.steps(options), options.repeats)
  return {name: ops_step.medians(values)[1] / options.batch_size for name, values in times.items()}


def point(options: argparse.Namespace, **values: int) -> dict[str, float]:
  """`measure` in a process of its own."""
  changed = {**vars(options), **values}
  arguments = [f"--{name}={value}" for name, value in changed.items() if name not in ("out", "point", "dmg")]
  done = subprocess.run([sys.executable, __file__, "--point", *arguments], stdout=subprocess.PIPE, text=True,
                        check=True)
  return json.loads(done.stdout.splitlines()[-1])


def draw(axes: dict[str, dict[int, dict[str, float]]], title: str, file: pathlib.Path) -> None:
  """A panel for each axis, with a line for each implementation."""
  matplotlib.use("Agg")
  figure, panels = plt.subplots(1, len(axes), figsize=(9, 2.8), sharey=True, constrained_layout=True)
  for panel, (label, points) in zip(panels, axes.items(), strict=True):
    for name in next(iter(points.values())):
      panel.plot(list(points), [1 / found[name] for found in points.values()], "o-", label=NAMES[name],
                 color=COLOURS[name])
    panel.set_xscale("log", base=2)
    panel.set_yscale("log")
    panel.set_xticks(list(points), [str(value) for value in points])
    panel.set_xlabel(label)
    panel.minorticks_off()
    panel.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    panel.yaxis.set_major_formatter(ticker.ScalarFormatter())
    panel.grid(alpha=0.3)
  panels[0].set_ylabel("examples / s of cores' time")
  panels[0].legend(frameon=False)
  figure.suptitle(title, fontsize="medium")
  figure.savefig(file, dpi=110)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--model", default="resnet18")
  parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
  parser.add_argument("--repeats", type=int, default=5)
  parser.add_argument("--image_size", type=int, default=SIZE)
  parser.add_argument("--batch_size", type=int, default=BATCH)
  parser.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)))
  parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("scaling.svg"))
  parser.add_argument("--point", action="store_true", help="measure one point, and print it")
  parser.set_defaults(dmg=False)
  options = parser.parse_args()
  if options.point:
    print(json.dumps(measure(options)))
    return
  grid: dict[str, Any] = {
      "image size (pixels)": ("image_size", (32, 64, 96, 128)), "batch size": ("batch_size", (4, 8, 16, 32)),
      "cores": ("cores", [2**i for i in range(options.cores.bit_length())])}
  axes: dict[str, dict[int, dict[str, float]]] = {}
  for label, (name, values) in grid.items():
    axes[label] = {}
    for value in values:
      axes[label][value] = found = point(options, **{name: value})
      print(f"{label} {value}: " + ", ".join(f"{NAMES[one]} {1 / cost:.1f}" for one, cost in found.items()), flush=True)
  draw(axes, f"{options.model}, {options.dtype}; {options.image_size} pixels, {options.batch_size} examples and "
       f"{options.cores} cores where they are not the axis", options.out)


if __name__ == "__main__":
  use_huge_pages(__file__)
  main()
