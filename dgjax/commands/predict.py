"""`dgjax predict`: classifies images by a finished run."""

import concurrent.futures
import csv
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from dgjax import commands
from dgjax.errors import UserError, printable
from dgjax.files import replacing

if TYPE_CHECKING:
  import numpy as np

  from dgjax.runs import Run

EPILOG = """The CSV file has a line for each image: its path, class and probability. For methods with a member for each
source domain (the masks of DMG, the heads of Multi-Headed) it also has vote/DOMAIN, the class that this member alone
predicts. Folders are searched for images at any depth. An image that cannot be read ends the command with its name.
With --on_error=skip it is left out, named and counted."""


def main(argv: Sequence[str]) -> int:
  """Predicts, and writes the file."""
  parser = commands.parser("predict", __doc__, EPILOG)
  parser.add_argument("run", help="folder of a finished run")
  parser.add_argument("images", nargs="+", help="image files, or folders of them")
  parser.add_argument("--out", required=True, type=pathlib.Path, help="the CSV file to write")
  parser.add_argument("--rule", default="", help="the selection rule whose state predicts; default: the run's own")
  parser.add_argument("--batch_size", type=int, default=256, help="images at a time; default: 256")
  parser.add_argument("--on_error", choices=("raise", "skip"), default="raise", help="what an unreadable image does")
  options = parser.parse_args(argv)
  if options.batch_size < 1:
    raise UserError(f"--batch_size is {options.batch_size}: it must be at least 1")

  from dgjax import runs
  run = runs.load(options.run, options.rule)
  paths = list(find(options.images))
  skipped: list[str] = []
  with replacing(options.out.expanduser()) as partial:
    write(partial, run, paths, options.batch_size, skipped if options.on_error == "skip" else None)
  for line in skipped:
    print(f"left out: {printable(line)}", file=sys.stderr)
  print(f"{len(paths) - len(skipped)} images in {options.out}" + (f", {len(skipped)} left out" if skipped else ""))
  return 0


def find(places: Sequence[str]) -> Iterator[pathlib.Path]:
  """Yields the files that are named, and below the folders that are what has the name of an image, in order.

  Raises:
    UserError: a place is not there, or a folder holds no image.
  """
  from dgjax.data import files
  for place in places:
    path = pathlib.Path(place).expanduser()
    if path.is_dir():
      found = sorted(file for file, _ in files.walk(path) if files.is_picture(file.name))
      if not found:
        raise UserError(f"{path} holds no images")
      yield from found
    elif path.exists():
      yield path
    else:
      raise UserError(f"there is no file or folder {path}")


def write(out: pathlib.Path, run: "Run", paths: Sequence[pathlib.Path], batch_size: int,
          skipped: list[str] | None) -> None:
  """Classifies images in batches, and writes a line for each.

  Args:
    out: the file.
    run: opened.
    paths: of the images.
    batch_size: images at a time.
    skipped: takes what is wrong with images that cannot be read; None: such an image is an error.

  Raises:
    UserError: an image cannot be read.
  """
  import tqdm

  from dgjax.data.threads import thread_count
  batch_size = min(batch_size, len(paths))
  with (out.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
        concurrent.futures.ThreadPoolExecutor(thread_count(0)) as readers,
        tqdm.tqdm(total=len(paths), unit=" images", disable=None) as bar):
    writer = csv.writer(file)
    writer.writerow(["path", "class", "probability", *(f"vote/{name}" for name in run.members)])
    for start in range(0, len(paths), batch_size):
      part = paths[start:start + batch_size]
      images = {}
      for path, image in zip(part, readers.map(lambda path: read(run, path), part), strict=True):
        if not isinstance(image, UserError):
          images[path] = image
        elif skipped is None:
          raise UserError(f"{image}: remove the file, or use --on_error=skip") from image
        else:
          skipped.append(str(image))
      writer.writerows([path, *row] for path, row in zip(images, rows(run, list(images.values()), batch_size),
                                                         strict=True))
      bar.update(len(part))


def read(run: "Run", path: pathlib.Path) -> "np.ndarray | UserError":
  """Decodes an image as evaluation does, or returns what is wrong with it."""
  try:
    return run.read_image(path)
  except UserError as error:
    return error


def rows(run: "Run", images: Sequence["np.ndarray"], batch_size: int) -> Iterator[list[str]]:
  """Yields for each image its class, the probability of it and the members' classes."""
  import numpy as np
  if not images:
    return
  outputs = run.outputs(np.stack(images), batch_size)
  votes = [outputs[f"member/{index}"].argmax(-1) for index in range(len(run.members))]
  for index, probs in enumerate(outputs[run.algorithm.prediction]):
    best = int(probs.argmax())
    yield [run.classes[best], f"{probs[best]:.6f}", *(run.classes[vote[index]] for vote in votes)]
