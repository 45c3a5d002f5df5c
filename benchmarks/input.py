"""What input costs: images a second of one core and of all, from JPEG files, with the paper's augmentation.

  python benchmarks/input.py [--folder DIR] [--image_size 224] [--batch_size 64] [--batches 8] [--repeats 5]

Files are read through the training pipeline, one batch after the other in one thread, and counted by the CPU time of
the process, so that a busy machine changes little. Without --folder (DIR/DOMAIN/CLASS/*.jpg), 400 JPEGs of 227 px are
made of smoothed noise. The parts are timed apart, in turn; each number is the median of the repeats. The rows of the
device are what it does: on a CPU it is CPU time too, elsewhere time until the result is there. The last row is by the
clock: the pipeline as training runs it, with a thread a core.
"""

import argparse
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from dgjax import data
from dgjax.data import augment, pipeline, transforms
from dgjax.data.dataset import decode
from dgjax.data.threads import thread_count

SIDE = 227


def make_folder(root: pathlib.Path, images: int) -> None:
  """Writes JPEG files of smoothed noise, as ROOT/DOMAIN/CLASS/NUMBER.jpg."""
  rng = np.random.default_rng(0)
  for number in range(images):
    folder = root / "ab"[number % 2] / "xy"[number // 2 % 2]
    folder.mkdir(parents=True, exist_ok=True)
    coarse = Image.fromarray(rng.integers(0, 256, (SIDE // 8, SIDE // 8, 3), np.uint8))
    coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(folder / f"{number}.jpg", quality=90)


def training(root: pathlib.Path, flags: argparse.Namespace, cache: str) -> pipeline.TrainStream:
  """Returns the training batches of a folder of images."""
  settings = data.defaults("folder") | {"dir": str(root), "cache_dir": cache, "val_fraction": 0.0, "test_fraction": 0.0}
  dataset = data.load(ConfigDict(settings), 0)
  return pipeline.train(dataset, dataset.domains, batch_size=flags.batch_size, seed=0, image_size=flags.image_size)


def parts(root: pathlib.Path, flags: argparse.Namespace,
          stream: pipeline.TrainStream) -> dict[str, tuple[int, Callable[[], Any]]]:
  """Returns what is timed: name -> number of images, and a function that handles that many."""
  files = [path.read_bytes() for path in sorted(root.glob("*/*/*"))[: flags.batch_size]]
  images = [decode(file) for file in files]
  paper, size = augment.find("paper"), flags.image_size
  finish = jax.jit(augment.on_device("paper", size))
  batch = jax.device_put(stream.batches[0])
  stored = np.stack([np.asarray(transforms.resize(image, transforms.enlarged(size))) for image in images])
  resident = jax.device_put({"image": stored, "key": batch["key"][: len(stored)],
                             "sides": np.full((len(stored), 2), SIDE, np.int32)})
  steps = iter(range(1, 1 << 30))
  return {
    "decode": (len(files), lambda: [decode(file) for file in files]),
    "crop and resize": (len(images), lambda: [paper.on_host(image, size, [0, 0, 0, 0]) for image in images]),
    "pipeline, one core": (flags.batches * flags.batch_size,
                           lambda: [stream.batches[next(steps)] for _ in range(flags.batches)]),
    "device: flip and colours": (flags.batch_size, lambda: jax.block_until_ready(finish(batch))),
    "device: crop, flip and colours": (len(stored), lambda: jax.block_until_ready(finish(resident))),
  }


def all_cores(stream: pipeline.TrainStream, flags: argparse.Namespace) -> float:
  """Returns the seconds an image that the pipeline takes with all its threads, by the clock.

  The batches that are made ahead come first and are not counted: those that are counted are made while the clock runs.
  """
  batches, ahead = stream.iterator(), stream.read_options.prefetch_buffer_size
  counted = flags.repeats * max(flags.batches, ahead)
  for _ in range(ahead):
    next(batches)
  began = time.perf_counter()
  for _ in range(counted):
    next(batches)
  seconds = time.perf_counter() - began
  batches.close()
  return seconds / (counted * flags.batch_size)


def main(argv: Sequence[str] | None = None) -> None:
  """Prints a table: part, milliseconds an image, images a second."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--folder", type=pathlib.Path, help="of images; default: made")
  parser.add_argument("--images", type=int, default=400, help="that are made")
  parser.add_argument("--image_size", type=int, default=224)
  parser.add_argument("--batch_size", type=int, default=64)
  parser.add_argument("--batches", type=int, default=8, help="of the pipeline, in each repeat")
  parser.add_argument("--repeats", type=int, default=5)
  flags = parser.parse_args(argv)
  with tempfile.TemporaryDirectory() as temporary:
    root = flags.folder or pathlib.Path(temporary) / "images"
    if not flags.folder:
      make_folder(root, flags.images)
    stream = training(root, flags, temporary)
    timed = parts(root, flags, stream)
    on_cpu = jax.default_backend() == "cpu"
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    for repeat in range(flags.repeats + 1):
      for name, (_, run) in timed.items():
        clock = time.perf_counter if name.startswith("device") and not on_cpu else time.process_time
        began = clock()
        run()
        if repeat:  # the first one compiles
          seconds[name].append(clock() - began)
    each = {name: statistics.median(seconds[name]) / count for name, (count, _) in timed.items()}
    each[f"pipeline, {thread_count(0)} cores, by the clock"] = all_cores(stream, flags)
  print(f"{'':34}{'ms/image':>10}{'images/s':>10}")
  for name, value in each.items():
    print(f"{name:34}{value * 1e3:10.3f}{1 / value:10.0f}", flush=True)


if __name__ == "__main__":
  main()
