"""A small finished run on a folder of images, which the commands work on."""

import pathlib
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

import dgjax

DOMAINS, CLASSES = ("photo", "sketch", "cartoon"), ("cat", "dog")


class Trained(NamedTuple):
  """A run's folder, and the data set that it was trained on."""

  folder: pathlib.Path
  data: pathlib.Path


def write(root: pathlib.Path, domains, classes, each: int, seed: int = 0) -> pathlib.Path:
  """ROOT/DOMAIN/CLASS/N.png of noise, brighter from class to class."""
  rng = np.random.default_rng(seed)
  for domain in domains:
    for number, name in enumerate(classes):
      (root / domain / name).mkdir(parents=True)
      for i in range(each):
        pixels = rng.integers(100 * number, 100 * number + 100, (18, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / domain / name / f"{i}.png")
  return root


@pytest.fixture(scope="package")
def trained(tmp_path_factory):
  base = tmp_path_factory.mktemp("trained")
  data = write(base / "data", DOMAINS, CLASSES, 10)
  config = dgjax.load_config("dmg_digits", {
      "target": "cartoon", "steps": 2, "batch_size": 8, "eval_batch_size": 8, "data": {"name": "folder", "dir": data},
      "data.image_size": 16, "data.augment": "none"})
  dgjax.train(config, workdir=base / "run")
  return Trained(base / "run", data)


@pytest.fixture
def write_images():
  """The function that makes a folder of images."""
  return write
