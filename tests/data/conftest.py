"""Generated images and sounds in folders, and configs that prepare them in a temporary cache."""

import gzip
import struct
import wave
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from dgjax import data

DOMAINS, CLASSES = ("clay", "ink", "wool"), ("cat", "dog")
SHARED = Path(__file__).parents[3] / "shared" / "data"
PACS96, MNIST = SHARED / "pacs96", SHARED / "mnist"
WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory):
  return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def config(shared_cache):
  """Makes a `config.data`: the defaults of a data set, its cache in a temporary folder, and what is given."""
  def make(name, /, **keys):
    return ConfigDict(data.defaults(name) | {"cache_dir": str(shared_cache)} | keys)
  return make


@pytest.fixture(scope="session")
def draw():
  """Writes image files: `count(domain, class)` in each class folder, each of a colour of its own."""
  def make(root, count=lambda domain, name: 6, domains=DOMAINS, classes=CLASSES):
    number = 0
    for domain in domains:
      for name in classes:
        folder = Path(root) / domain / name
        folder.mkdir(parents=True)
        for i in range(count(domain, name)):
          pixels = np.empty((10 + i % 3, 12, 3), np.uint8)
          pixels[:] = number % 256, number // 256, 77
          Image.fromarray(pixels).save(folder / f"{i:03d}.png")
          number += 1
    return Path(root)
  return make


@pytest.fixture(scope="session")
def listed(draw):
  """Writes image files and PACS-like official lists; a third of every class is for validation."""
  def make(root, **keys):
    root = draw(root, **keys)
    (root / "splits").mkdir()
    for domain in sorted(p.name for p in root.iterdir() if p.name != "splits"):
      lines = {"train": [], "crossval": [], "test": []}
      for label, name in enumerate(sorted(p.name for p in (root / domain).iterdir()), 1):
        for i, path in enumerate(sorted((root / domain / name).iterdir())):
          line = f"{path.relative_to(root)} {label}\n"
          lines["test"].append(line)
          lines["crossval" if i % 3 == 0 else "train"].append(line)
      for split, text in lines.items():
        (root / "splits" / f"{domain}_{split}_kfold.txt").write_text("".join(text))
    return root
  return make


@pytest.fixture(scope="session")
def digits(config):
  return data.load(config("digits"), 0)


@pytest.fixture(scope="session")
def uneven(tmp_path_factory, config, draw):
  """A data set whose domains have 5, 8 and 14 training images, each image of a colour of its own."""
  sizes = {"clay": 3, "ink": 4, "wool": 7}
  root = draw(tmp_path_factory.mktemp("uneven"), lambda domain, name: sizes[domain] - (domain + name == "claycat"))
  return data.load(config("folder", dir=str(root), val_fraction=0.0, test_fraction=0.0), 0)


@pytest.fixture(scope="session")
def pacs96():
  if not PACS96.is_dir():
    pytest.skip(f"no real PACS images in {PACS96}")
  return str(PACS96)


@pytest.fixture(scope="session")
def mnist():
  if not MNIST.is_dir():
    pytest.skip(f"no real MNIST files in {MNIST}")
  return str(MNIST)


@pytest.fixture(scope="session")
def write_idx():
  """Writes an array as an IDX file of bytes, gzipped where the name says so."""
  def make(path, array):
    content = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()
    Path(path).write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
  return make


@pytest.fixture(scope="session")
def little_mnist(tmp_path_factory, write_idx):
  """A folder of MNIST's form: 240 digits for training and 60 for testing; each is a bar right of the centre, over noise
  of its own."""
  root = tmp_path_factory.mktemp("mnist")
  rng = np.random.default_rng(0)
  for name, count, end in (("train", 240, ""), ("t10k", 60, ".gz")):
    images = rng.integers(0, 60, (count, 28, 28))
    images[:, 13:15, 16:24] = 255
    write_idx(root / f"{name}-images-idx3-ubyte{end}", images)
    write_idx(root / f"{name}-labels-idx1-ubyte{end}", np.arange(count) % 10)
  return root


@pytest.fixture(scope="session")
def writers(tmp_path_factory, config):
  """Handwriting of 8 writers; each of the 48 images is of a grey of its own, 20 + 3 writer + 24 character + trial."""
  root = tmp_path_factory.mktemp("writers")
  for writer in range(8):
    for character in range(2):
      folder = root / f"w{writer}" / "ab"[character]
      folder.mkdir(parents=True)
      for trial in range(3):
        Image.new("L", (9, 8), 20 + 3 * writer + 24 * character + trial).save(folder / f"{trial}.png")
  return data.load(config("handwriting", dir=str(root)), 0)


@pytest.fixture(scope="session")
def record():
  """Writes a WAV file of 16-bit samples."""
  def make(path, samples, rate=16000, channels=1, width=2):
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
      file.setnchannels(channels)
      file.setsampwidth(width)
      file.setframerate(rate)
      file.writeframes(np.asarray(samples, f"<i{width}").tobytes())
  return make


@pytest.fixture(scope="session")
def commands(record):
  """Makes the speech archive's layout: 6 speakers say every word once, two of them "cat" too."""
  def make(root, seconds=0.1):
    rng = np.random.default_rng(0)
    for word in WORDS:
      for speaker in range(6):
        record(root / word / f"{speaker:08x}_nohash_0.wav", rng.normal(0, 3000, int(16000 * seconds)))
    for speaker in range(2):
      record(root / "cat" / f"{speaker:08x}_nohash_1.wav", rng.normal(0, 3000, int(16000 * seconds)))
    record(root / "_background_noise_" / "hum.wav", rng.normal(0, 3000, 20000))
    return root
  return make


@pytest.fixture(scope="session")
def speech(tmp_path_factory, config, commands):
  return data.load(config("speech_commands", dir=str(commands(tmp_path_factory.mktemp("speech")))), 0)
