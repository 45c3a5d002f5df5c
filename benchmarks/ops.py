"""Convolutions and pools: plain XLA, XLA in our form, oneDNN inside jit, and PyTorch channels-last, in one session.

  python benchmarks/ops.py [--dtype=bfloat16] [--repeats=9] [--only=resnet]

The implementations take turns on every operation, so that a machine's changing load falls on all; medians over the
turns, and each one's ratio to PyTorch (above 1: faster than PyTorch).
"""
import argparse
import functools
import os
import statistics
import time

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # whichever library loads OpenMP first, all wait alike

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dgjax import ops
from dgjax.memory import use_huge_pages
from dgjax.ops import native

# name, batch, size, channels, filters, kernel, stride, padding; a pool has no filters
RESNET = [("conv1", 224, 3, 64, 7, 2, 3), ("maxpool", 112, 64, None, 3, 2, 1), ("layer1", 56, 64, 64, 3, 1, 1),
          ("layer2.0", 56, 64, 128, 3, 2, 1), ("layer2.down", 56, 64, 128, 1, 2, 0), ("layer2", 28, 128, 128, 3, 1, 1),
          ("layer3.0", 28, 128, 256, 3, 2, 1), ("layer3", 14, 256, 256, 3, 1, 1), ("layer4.0", 14, 256, 512, 3, 2, 1),
          ("layer4", 7, 512, 512, 3, 1, 1)]
CASES = [
    *((f"resnet224 {name}", 32, *rest) for name, *rest in RESNET),
    *((f"resnet96 {name}", 64, -(-size * 96 // 224), *rest) for name, size, *rest in RESNET),
    ("mnist conv1", 128, 28, 3, 64, 5, 1, 0), ("mnist pool1", 128, 24, 64, None, 2, 2, 0),
    ("mnist conv2", 128, 12, 64, 128, 5, 1, 0), ("mnist pool2", 128, 8, 128, None, 2, 2, 0),
    ("lenet3 conv1", 32, 32, 3, 32, 5, 1, 2),
]


def jax_operation(case, plain):
  _, _, _, _, filters, kernel, stride, padding = case
  pads = ((padding, padding), (padding, padding))
  if filters is None:
    geometry = {"window": (kernel, kernel), "strides": (stride, stride), "padding": pads}
    if not plain:
      return lambda x, w: ops.max_pool(x, **geometry)
    return lambda x, w: lax.reduce_window(x, np.array(-np.inf, x.dtype), lax.max, (1, kernel, kernel, 1),
                                          (1, stride, stride, 1), ((0, 0), *pads, (0, 0)))
  op = lax.conv_general_dilated if plain else ops.conv_general_dilated
  return functools.partial(op, window_strides=(stride, stride), padding=pads,
                           dimension_numbers=("NHWC", "HWIO", "NHWC"))


def compiled(case, arrays, plain, backend):
  """The three passes of an operation, compiled with `backend`: forward, and the gradient of each operand."""
  x, w, dy = arrays
  f = jax_operation(case, plain)
  ops.use(backend)
  forward = jax.jit(f).lower(x, w).compile()
  if w is None:
    pull = jax.jit(lambda x, w, dy: jax.vjp(lambda x: f(x, w), x)[1](dy)).lower(x, w, dy).compile()
    return {"forward": lambda: forward(x, w), "both": lambda: pull(x, w, dy)}
  to_x = jax.jit(lambda x, w, dy: jax.vjp(lambda x: f(x, w), x)[1](dy)).lower(x, w, dy).compile()
  to_w = jax.jit(lambda x, w, dy: jax.vjp(lambda w: f(x, w), w)[1](dy)).lower(x, w, dy).compile()
  return {"forward": lambda: forward(x, w), "images": lambda: to_x(x, w, dy), "kernel": lambda: to_w(x, w, dy)}


def torch_passes(case, arrays):
  import torch
  _, _, _, _, filters, kernel, stride, padding = case
  to = lambda a: torch.from_numpy(np.array(a, np.float32)).to(getattr(torch, arrays[0].dtype.name))  # noqa: E731
  last = {"memory_format": torch.channels_last}
  x, dy = (to(a).permute(0, 3, 1, 2).contiguous(**last) for a in (arrays[0], arrays[2]))
  if filters is None:
    def both():
      leaf = x.detach().requires_grad_()
      torch.nn.functional.max_pool2d(leaf, kernel, stride, padding).backward(dy)
      return leaf.grad

    def forward():
      with torch.no_grad():
        return torch.nn.functional.max_pool2d(x, kernel, stride, padding)
    return {"forward": forward, "both": both}
  w = to(arrays[1]).permute(3, 2, 0, 1).contiguous(**last)

  def gradient(mask):
    return torch.ops.aten.convolution_backward(dy, x, w, None, [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], 1,
                                               mask)
  return {"forward": lambda: torch.nn.functional.conv2d(x, w, None, stride, padding),
          "images": lambda: gradient([True, False, False]), "kernel": lambda: gradient([False, True, False])}


def main():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
  parser.add_argument("--repeats", type=int, default=9)
  parser.add_argument("--only", default="", help="cases whose name contains this")
  options = parser.parse_args()
  columns = {"lax": (True, "xla"), "xla": (False, "xla")}
  if native.available():
    columns["native"] = (False, "native")
  try:
    import torch
    torch_version = torch.__version__
  except ImportError:
    torch_version = None
  print(f"jax {jax.__version__}, {native.reason() or native.describe()}, torch {torch_version}, "
        f"{os.cpu_count()} cores, {options.dtype}, median ms of {options.repeats} turns (ratio to PyTorch)")
  ratios = {}
  for case in CASES:
    name, batch, size, channels, filters, kernel, stride, padding = case
    if options.only not in name:
      continue
    random = np.random.default_rng(0)
    x = jnp.asarray(random.standard_normal((batch, size, size, channels)), options.dtype)
    w = None if filters is None else jnp.asarray(
        random.standard_normal((kernel, kernel, channels, filters)) * 0.05, options.dtype)
    out = (size + 2 * padding - kernel) // stride + 1
    dy = jnp.asarray(random.standard_normal((batch, out, out, filters or channels)), options.dtype)
    runs = {column: compiled(case, (x, w, dy), *choice) for column, choice in columns.items()}
    if torch_version:
      runs["torch"] = torch_passes(case, (x, w, dy))
    for part in next(iter(runs.values())):
      times = {column: [] for column in runs}
      for turn in range(options.repeats + 1):
        for column, passes in runs.items():
          start = time.perf_counter()
          jax.block_until_ready(passes[part]())
          if turn:  # the first warms up
            times[column].append(time.perf_counter() - start)
      medians = {column: statistics.median(t) for column, t in times.items()}
      line = f"{name:24} {part:8}"
      for column, median in medians.items():
        line += f"  {column} {median * 1e3:8.2f}"
        if torch_version and column != "torch":
          ratio = medians["torch"] / median
          ratios.setdefault(column, []).append(ratio)
          line += f" ({ratio:5.2f})"
      print(line, flush=True)
  for column, values in ratios.items():
    print(f"median ratio of {column} to PyTorch over {len(values)} passes: {statistics.median(values):.2f}")


if __name__ == "__main__":
  use_huge_pages(__file__)
  main()
