"""Where a training step's time goes, by kind of operation: oneDNN inside jit, and PyTorch.

  python benchmarks/breakdown.py [--model=resnet18] [--image_size=96] [--batch_size=64] [--dtype=bfloat16]

The steps are those of `ops_step.py`. XLA fuses what lies between convolutions, so that a fusion's time is counted where
its last operation belongs, by the name of the module it comes from: a ReLU that is fused with a BatchNorm before it
counts as "ReLU, sum", one that is fused with a BatchNorm after it (in the gradient) as BatchNorm. Sums of what the
operations took, not of the step: two that run side by side count twice.
"""

import argparse
import collections
import pathlib
import re
import tempfile

import jax
import ops_step

from dgjax import models
from dgjax.memory import use_huge_pages
from dgjax.ops import native

STEPS = 5
KINDS = ("convolution", "BatchNorm", "ReLU, sum", "pooling", "optimiser", "rest")
TORCH = {"convolution": "convolution", "batch_norm": "BatchNorm", "pool": "pooling", "add_": "optimiser",
         "mul_": "optimiser", "SGD": "optimiser", "threshold": "ReLU, sum", "clamp_min": "ReLU, sum",
         "add": "ReLU, sum"}


def kinds(program: str) -> dict[str, str]:
  """Instruction of a compiled program -> kind, by the names its operations had when it was traced."""
  found = {}
  for name, rest in re.findall(r"^  (?:ROOT )?%?([\w.-]+) = (.*)$", program, re.MULTILINE):
    source = re.search(r'op_name="([^"]*)"', rest)
    path = source.group(1) if source else ""
    if "convolution" in name or "convolution" in path.rsplit("/", 1)[-1]:
      kind = "convolution"
    elif "max_pool" in name or "reduce_window" in path:
      kind = "pooling"
    elif re.search(r"/(bn\d?|downsample\.1)/", path):
      kind = "BatchNorm"
    elif re.search(r"/(layer\d|conv\d)/", path):
      kind = "ReLU, sum"
    elif " copy(" in rest or (path and "Network" not in path):
      kind = "optimiser"  # with the copies of parameters that it overwrites while they are still read
    else:
      kind = "rest"
    found[name] = kind
  return found


def jax_times(options: argparse.Namespace) -> dict[str, float]:
  """Kind -> milliseconds of a step under oneDNN."""
  call = ops_step.jax_step(options, "native")
  call(), call()
  with tempfile.TemporaryDirectory() as folder:
    with jax.profiler.trace(folder):
      for _ in range(STEPS):
        call()
    trace, = pathlib.Path(folder).rglob("*.xplane.pb")
    planes = jax.profiler.ProfileData.from_file(str(trace)).planes
    of, times = kinds(call.program()), collections.Counter()
    for event in (event for plane in planes for line in plane.lines for event in line.events):
      if "hlo_op" in dict(event.stats):
        times[of.get(event.name, "rest")] += event.duration_ns / 1e6 / STEPS
  return times


def torch_times(options: argparse.Namespace) -> dict[str, float]:
  """The same of PyTorch's step."""
  from torch.profiler import ProfilerActivity, profile
  call = ops_step.torch_step(options)
  call(), call()
  with profile(activities=[ProfilerActivity.CPU]) as profiler:
    for _ in range(STEPS):
      call()
  times = collections.Counter()
  for event in profiler.key_averages():
    kind = next((kind for word, kind in TORCH.items() if word in event.key), "rest")
    times[kind] += event.self_cpu_time_total / 1e3 / STEPS
  return times


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--model", default="resnet18", choices=sorted(models.NETWORKS))
  parser.add_argument("--image_size", type=int, default=96)
  parser.add_argument("--batch_size", type=int, default=64)
  parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
  options = parser.parse_args()
  if native.reason():
    parser.error(native.reason())
  columns = {"native": jax_times(options), "torch": torch_times(options)}
  print(f"{options.model}, {options.image_size} px, batch {options.batch_size}, {options.dtype}; "
        f"{native.describe()}; milliseconds of a step")
  print(f"{'':<14}" + "".join(f"{name:>10}" for name in columns))
  for kind in KINDS:
    print(f"{kind:<14}" + "".join(f"{times[kind]:>10.1f}" for times in columns.values()))
  print(f"{'sum':<14}" + "".join(f"{sum(times.values()):>10.1f}" for times in columns.values()))


if __name__ == "__main__":
  use_huge_pages(__file__)
  main()
