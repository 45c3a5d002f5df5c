"""Whether the training loop's memory stays level, and does not depend on the number of images.

  python benchmarks/memory.py [--images 300 6000] [--steps 1000]

For each size a folder of JPEG files is made and a fresh process trains on it through `plan.train`: preparation,
input pipeline, update, evaluation, checkpoints and records. If images were held, 6,000 of them would show as 70 MB
decoded and as 35 MB encoded; if batches were, 1,000 steps would show as 190 MB. The table gives the resident memory
of the process. Compilation leaves some that is returned in the first hundred steps, and an update's scratch memory
may or may not be there when a sample is taken.

--held counts instead what Python objects and JAX arrays hold, which no allocator blurs: a leak of either shows to the
byte, one in native code does not.

glibc keeps freed memory for later, how much being a matter of chance among threads. Here it is told to return it
(MALLOC_MMAP_THRESHOLD_ and MALLOC_TRIM_THRESHOLD_, unless they are set), so that what is counted is what is held.
"""

import argparse
import gc
import multiprocessing
import os
import pathlib
import tempfile
import tracemalloc
from concurrent import futures
from typing import Any

import numpy as np
from PIL import Image

DOMAINS, CLASSES, SIDE = ("indoors", "outdoors", "unseen"), ("cat", "dog"), 64
MB = 1 << 20
RETURN_FREED = {"MALLOC_MMAP_THRESHOLD_": "1000000", "MALLOC_TRIM_THRESHOLD_": "1000000"}


def make_folder(root: pathlib.Path, images: int) -> None:
  """Writes `images` JPEG files of noise, as ROOT/DOMAIN/CLASS/NUMBER.jpg."""
  rng = np.random.default_rng(0)
  for domain in DOMAINS:
    for name in CLASSES:
      (root / domain / name).mkdir(parents=True)
  for i in range(images):
    pixels = rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    folder = root / DOMAINS[i % len(DOMAINS)] / CLASSES[i // len(DOMAINS) % len(CLASSES)]
    Image.fromarray(pixels).save(folder / f"{i}.jpg", quality=90)


def train(folder: pathlib.Path, flags: argparse.Namespace) -> list[tuple[int, int]]:
  """Trains on the images in `folder`, and returns pairs of a step and this process's bytes after it."""
  import jax
  import psutil

  from dgjax import config, data, plan, training
  from dgjax.recorder import Recorder

  samples, process = [], psutil.Process()

  def held() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0] + sum(x.nbytes for x in jax.live_arrays() if x.dtype.kind in "fiu")

  class Watched(Recorder):
    """The run's record, which also notes memory."""

    def train(self, step: int, metrics: Any) -> None:
      super().train(step, metrics)
      if step % flags.every == 0:
        jax.block_until_ready(metrics)
        samples.append((step, held() if flags.held else process.memory_info().rss))

  c = config.load(f"digits:{flags.algorithm}")
  c.data = config.ConfigDict(data.defaults("folder"))
  c.data.update(dir=str(folder / "images"), cache_dir=str(folder / "cache"), image_size=flags.image_size,
                on_device="never")
  c.update(target=DOMAINS[-1], steps=flags.steps, eval_every=flags.eval_every, batch_size=16, eval_batch_size=64,
           devices=1)
  training.Recorder = Watched  # type: ignore[misc]
  if flags.held:
    tracemalloc.start()
  plan.train(c, folder / "run")
  return samples


def measure(images: int, flags: argparse.Namespace) -> list[tuple[int, int]]:
  """Makes a folder of `images` files, and returns what `train` does in a process of its own."""
  with tempfile.TemporaryDirectory() as name:
    make_folder(pathlib.Path(name) / "images", images)
    os.environ.update({key: os.environ.get(key, value) for key, value in RETURN_FREED.items()})
    with futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
      return pool.submit(train, pathlib.Path(name), flags).result()


def report() -> str:
  """Measures what the arguments say, and returns the table."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--images", type=int, nargs="+", default=[300, 6000])
  parser.add_argument("--steps", type=int, default=1000)
  parser.add_argument("--every", type=int, default=100, help="steps between samples")
  parser.add_argument("--eval_every", type=int, default=250, help="steps between evaluations, each with a checkpoint")
  parser.add_argument("--image_size", type=int, default=64)
  parser.add_argument("--algorithm", default="dmg")
  parser.add_argument("--held", action="store_true", help="count objects and arrays instead of resident memory")
  flags = parser.parse_args()
  columns = [dict(measure(images, flags)) for images in flags.images]
  lines = [f"{'step':>6}" + "".join(f"{f'{images} images':>16}" for images in flags.images),
           *(f"{step:>6}" + "".join(f"{column[step] / MB:>13.1f} MB" for column in columns) for step in columns[0])]
  return "\n".join(lines)


if __name__ == "__main__":
  print(report())
