"""Convolutions whose kernels differ from run to run: one grouped convolution, patches times matrices, or in turn.

  python benchmarks/lanes.py [--lanes 1 5 10] [--repeats 20]

What `jax.vmap` over runs makes of a convolution decides how much is gained by training runs together. Each form is
timed forward and with both gradients, on the shapes of the small networks; rounds alternate, numbers are medians.
"""

import argparse
import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

# images (batch, side, channels), kernel (side, filters), stride
SHAPES = {"smallnet conv2": (64, 16, 16, 3, 32), "smallnet conv3": (64, 8, 32, 3, 64),
          "mnistnet conv1": (128, 32, 3, 5, 32), "mnistnet conv2": (128, 14, 32, 5, 64),
          "convnet2 conv2": (32, 14, 32, 3, 64), "resnet18 layer2": (32, 12, 128, 3, 128)}
NUMBERS = ("NHWC", "HWIO", "NHWC")


def convolve(x: jax.Array, w: jax.Array) -> jax.Array:
  """(b, h, w, c) by (k, k, c, f), same padding."""
  return lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=NUMBERS)


def as_products(x: jax.Array, w: jax.Array) -> jax.Array:
  """The same, as one product of patches and the kernel."""
  size, (height, width) = w.shape[0], x.shape[1:3]
  low = (size - 1) // 2
  padded = jnp.pad(x, ((0, 0), (low, size - 1 - low), (low, size - 1 - low), (0, 0)))
  patches = jnp.concatenate([padded[:, i:i + height, j:j + width] for i in range(size) for j in range(size)], -1)
  return patches @ w.reshape(-1, w.shape[-1])


FORMS: dict[str, Callable[..., Any]] = {
    "grouped": jax.vmap(convolve),
    "products": jax.vmap(as_products),
    "in turn": lambda x, w: jnp.stack([convolve(x[i], w[i]) for i in range(x.shape[0])]),
}


def step(form: Callable[..., Any], x: jax.Array, w: jax.Array) -> Any:
  """Forward, and the gradients by images and kernels."""
  return jax.value_and_grad(lambda x, w: (form(x, w) ** 2).mean(), (0, 1))(x, w)


def main() -> None:
  """Measures, and prints a line for each shape and number of lanes."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--lanes", type=int, nargs="+", default=[1, 5, 10])
  parser.add_argument("--repeats", type=int, default=20)
  parser.add_argument("--dtype", default="float32")
  flags = parser.parse_args()
  rng = np.random.default_rng(0)
  print(f"{jax.devices()[0].device_kind}, {flags.dtype}: ms for forward and both gradients")
  for name, (batch, side, channels, size, filters) in SHAPES.items():
    for lanes in flags.lanes:
      x = jnp.asarray(rng.normal(size=(lanes, batch, side, side, channels)), flags.dtype)
      w = jnp.asarray(rng.normal(size=(lanes, size, size, channels, filters)), flags.dtype)
      calls = {form: jax.jit(functools.partial(step, function)) for form, function in FORMS.items()}
      times: dict[str, list[float]] = {form: [] for form in calls}
      for call in calls.values():
        jax.block_until_ready(call(x, w))
      for _ in range(flags.repeats):
        for form, call in calls.items():
          start = time.perf_counter()
          for _ in range(5):
            result = call(x, w)
          jax.block_until_ready(result)
          times[form].append((time.perf_counter() - start) / 5)
      print(f"{name:<16} {lanes:>3} lanes  " + "  ".join(
          f"{form} {1e3 * statistics.median(taken):8.3f}" for form, taken in times.items()), flush=True)


if __name__ == "__main__":
  main()
