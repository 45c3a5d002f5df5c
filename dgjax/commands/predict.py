"""`dgjax predict`: classifies images by a finished run."""

import argparse
import csv
import pathlib
import sys
from collections.abc import Iterator, Sequence

import numpy as np
import tqdm

from dgjax.errors import UserError, printable

EPILOG = """The CSV file has a line an image: its path, class and probability and, for methods with a member for every
source domain (the masks of DMG, the heads of Multi-Headed), `vote/DOMAIN`, the class that the member alone predicts.
Folders are searched for images at any depth. An image that cannot be read ends the command with its name; with
--on_error=skip it is left out, and counted."""


def main(argv: Sequence[str]) -> int:
  """Predicts, and writes the file."""
  parser = argparse.ArgumentParser(prog="dgjax predict", description=__doc__, epilog=EPILOG)
  parser.add_argument("run", help="folder of a finished run")
  parser.add_argument("images", nargs="+", help="image files, or folders of them")
  parser.add_argument("--out", required=True, type=pathlib.Path, help="the CSV file to write")
  parser.add_argument("--rule", default="", help="the selection rule whose state predicts; default: the run's own")
  parser.add_argument("--batch_size", type=int, default=256)
  parser.add_argument("--on_error", choices=("raise", "skip"), default="raise")
  options = parser.parse_args(argv)

  from dgjax import runs
  run = runs.load(options.run, options.rule)
  paths = list(find(options.images))
  members = run.members
  skipped: list[str] = []
  partial = options.out.with_name(f"{options.out.name}.partial")
  try:
    partial.parent.mkdir(parents=True, exist_ok=True)
    with partial.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
      writer = csv.writer(file)
      writer.writerow(["path", "class", "probability", *(f"vote/{name}" for name in members)])
      with tqdm.tqdm(total=len(paths), unit=" images", disable=None) as bar:
        for start in range(0, len(paths), options.batch_size):
          part = paths[start:start + options.batch_size]
          good, pixels = read(run, part, options.on_error == "skip", skipped)
          for path, row in zip(good, rows(run, pixels, options.batch_size), strict=True):
            writer.writerow([path, *row])
          bar.update(len(part))
    partial.replace(options.out)
  except OSError as error:
    raise UserError(f"cannot write {options.out} ({error.strerror or error})") from error
  for line in skipped:
    print(f"left out: {printable(line)}", file=sys.stderr)
  print(f"{len(paths) - len(skipped)} images in {options.out}" + (f", {len(skipped)} left out" if skipped else ""))
  return 0


def find(places: Sequence[str]) -> Iterator[pathlib.Path]:
  """Yields the files that are named, and the images below the folders that are.

  Raises:
    UserError: a place is not there, or a folder holds no image.
  """
  from dgjax.data import files
  for place in map(pathlib.Path, places):
    path = place.expanduser()
    if path.is_dir():
      found = sorted(file for file, fault in files.walk(path) if not fault and files.is_image(file.name))
      if not found:
        raise UserError(f"{path} holds no images")
      yield from found
    elif path.exists():
      yield path
    else:
      raise UserError(f"there is no file or folder {path}")


def read(run, paths: Sequence[pathlib.Path], skip: bool,
         skipped: list[str]) -> tuple[list[pathlib.Path], np.ndarray]:
  """Decodes images as evaluation does; those that cannot be are named in an error, or added to `skipped`."""
  good, pixels = [], []
  for path in paths:
    try:
      pixels.append(run.read_image(path))
      good.append(path)
    except UserError as error:
      if not skip:
        raise UserError(f"{error}: remove the file, or use --on_error=skip") from error
      skipped.append(str(error))
  return good, np.stack(pixels) if pixels else np.zeros((0, 1, 1, 1), np.uint8)


def rows(run, pixels: np.ndarray, batch_size: int) -> Iterator[list[str]]:
  """Yields for each image its class, the probability of it and the members' classes."""
  if not len(pixels):
    return
  outputs = run.outputs(pixels, batch_size)
  votes = [outputs[f"member/{index}"].argmax(-1) for index in range(len(run.members))]
  for index, probs in enumerate(outputs[run.algorithm.prediction]):
    best = int(probs.argmax())
    yield [run.classes[best], f"{probs[best]:.6f}", *(run.classes[vote[index]] for vote in votes)]
