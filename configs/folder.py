"""Your own images, as ROOT/DOMAIN/CLASS/*, under any method: each domain in turn is held out.

  python -m dgjax.main --config=configs/folder.py --config.data.dir=ROOT [--config.model.weights=resnet18.safetensors]
  python -m dgjax.main --config=configs/folder.py:aggregate ...

With published weights (`--config.model.weights`): ResNet-18 on 224 pixels, learning rate 1e-4. From random weights,
at 1e-3: the largest of 16, 32, 64 and 96 pixels that is not above the median of the images' shorter sides; ResNet-18,
or for 16 and 32 pixels a network of three convolutions. Either way training is 50 passes over the images of the source
domains, but 2,000 updates at least and 20,000 at most, with 20 evaluations; a step has 64 images, or fewer where there
are few. Masks learn at a rate of 1e-2, with which they can cross zero in that time. What the command sets stays as it
is set. Images of characters should not be mirrored: `--config.data.augment=none`.

Arguments: a method (default `dmg`); a dynamic residual of the network's convolutions, `subspace`, `channel`, `both` or
`static` (default), of a subspace with `k=4` matrices.
"""

import contextlib
import pathlib
import statistics
from typing import NamedTuple

from ml_collections import ConfigDict

from dgjax import algorithms, config, shared
from dgjax.data import decoding, files

METHODS = {name: {} for name in ("dmg", *algorithms.ALGORITHMS)}
ARGUMENTS = {"method": METHODS, "residual": {"": {}} | shared.RESIDUALS, "k": 4}
SIDES = (16, 32, 64, 96)
SAMPLE = 100  # images whose sizes are looked at
PASSES, STEPS = 50, (2_000, 20_000)
MASK_RATE = 1e-2


def get_config(arg: str | None = None) -> ConfigDict:
  """The config of these arguments; see above. What depends on the images is set by `finish`."""
  arg = config.parse(arg, ARGUMENTS)
  c = config.default(algorithm=arg.method, model="resnet18", data="folder")
  c.data.augment = "paper"
  c.data.val_fraction, c.data.test_fraction = 0.1, 0.2
  c.model.dynamic_k = arg.k
  c.epochs = PASSES
  c.batch_size = 64
  c.optimizer.name = "adam"
  c.optimizer.learning_rate = 1e-4
  c.optimizer.weight_decay = 1e-5
  c.update_from_flattened_dict(ARGUMENTS["residual"][arg.residual])
  shared.ramps_over_the_run(c)
  return c


def finish(c: ConfigDict, given: set[str]) -> None:
  """Sets what depends on the images and on whether there are weights, but not what the command has set.

  Args:
    c: the config, overrides applied.
    given: the keys that were overridden.
  """
  found = look(pathlib.Path(c.data.dir).expanduser()) if c.data.name == "folder" and c.data.dir else None
  settings = {"optimizer.learning_rate": 1e-4 if c.model.weights else 1e-3}
  if found and not c.model.weights:
    fitting = max(size for size in SIDES if size <= max(found.side, SIDES[0]))
    settings["data.image_size"] = fitting
    pixels = c.data.image_size if "data.image_size" in given else fitting
    settings["model.name"] = "smallnet" if pixels <= 32 else "resnet18"
  if found:
    fewest = sum(found.images) - max(found.images)  # the sources' images where the largest domain is the target
    while "batch_size" not in given and c.batch_size > max(1, min(fewest, *found.images) // 2):
      c.batch_size //= 2
    if not given & {"steps", "epochs"}:
      settings["steps"] = min(max(round(PASSES * fewest / c.batch_size), STEPS[0]), STEPS[1])
      settings["eval_every"] = settings["steps"] // 20
  c.update_from_flattened_dict({key: value for key, value in settings.items() if key not in given})
  if "masks" in algorithms.roles(c) and "optimizer.roles.masks.rate" not in given:
    c.optimizer.roles.masks.rate = MASK_RATE / c.optimizer.learning_rate


class Found(NamedTuple):
  """What own images are: how many each domain has, and the median of their shorter sides."""

  images: tuple[int, ...]
  side: int


def look(root: pathlib.Path) -> Found | None:
  """What lies below `root`; None where no image does."""
  if not root.is_dir():
    return None
  domains = [[entry.path for name in files.folders(root / domain) for entry in files.listing(root / domain / name).files
              if files.is_image(entry.name)] for domain in files.folders(root)]
  images = [path for paths in domains for path in sorted(paths)]
  sides = []
  for path in images[::max(1, len(images) // SAMPLE)]:
    with contextlib.suppress(Exception):  # of any type; preparation will name the file
      sides.append(min(decoding.sides(pathlib.Path(path).read_bytes())))
  return Found(tuple(filter(None, map(len, domains))), round(statistics.median(sides))) if sides else None
