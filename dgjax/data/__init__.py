"""Data sets by name, prepared on first use.

A new data set is a file in `builders/` with a `Layout`, and a line in `DATASETS`. Or it is a `Layout` in a file of your
own, with `config.data.name=path/to/file.py:ClassName`.
"""

import inspect
from typing import Any, NamedTuple

from dgjax import registry
from dgjax.data import preparation
from dgjax.data.builders.base import Layout
from dgjax.data.builders.coloured import DigitsMp, MnistMp, MnistUp
from dgjax.data.builders.digit_five import DigitFive
from dgjax.data.builders.digits import Digits
from dgjax.data.builders.domainnet import DomainNet
from dgjax.data.builders.folder import Folder
from dgjax.data.builders.fonts import Fonts
from dgjax.data.builders.handwriting import Handwriting
from dgjax.data.builders.office31 import Office31
from dgjax.data.builders.pacs import Pacs
from dgjax.data.builders.rotated import RotatedDigits, RotatedMnist
from dgjax.data.builders.speech_commands import SpeechCommands
from dgjax.data.builders.tfds import Tfds
from dgjax.data.builders.visda2017 import Visda2017
from dgjax.data.dataset import Dataset
from dgjax.errors import UserError


class Entry(NamedTuple):
  """A known data set: its layout, and one line that says what it is and where it is from."""

  builder: type[Layout]
  description: str


DATASETS: dict[str, Entry] = {
  "digit_five": Entry(DigitFive, "MNIST, MNIST-M, SVHN, synthetic, USPS: found or made (Peng et al., ICCV 2019)"),
  "digits": Entry(Digits, "scikit-learn's handwritten digits in four appearances (Alpaydin and Kaynak, UCI 1998)"),
  "digits_mp": Entry(DigitsMp, "the embedded digits coloured by class, and grey, as in mnist_mp"),
  "domainnet": Entry(DomainNet, "six domains, 345 classes, official lists (Peng et al., ICCV 2019)"),
  "folder": Entry(Folder, "your own images as ROOT/DOMAIN/CLASS/*, splits drawn from the seed"),
  "fonts": Entry(Fonts, "characters rendered in many fonts, split by font (Shankar et al., ICLR 2018)"),
  "handwriting": Entry(Handwriting, "handwritten characters, split by writer (LipiTk's; Shankar et al., ICLR 2018)"),
  "mnist_mp": Entry(MnistMp, "MNIST coloured by class, tested in grey: MNIST-MP (Duboudin et al., ICCV-W 2021)"),
  "mnist_up": Entry(MnistUp, "MNIST coloured by class, tested in other colours: MNIST-UP (named in the same paper)"),
  "office31": Entry(Office31, "amazon, dslr, webcam; 31 classes (Saenko et al., ECCV 2010)"),
  "pacs": Entry(Pacs, "photo, art painting, cartoon, sketch; 7 classes, official lists (Li et al., ICCV 2017)"),
  "rotated_digits": Entry(RotatedDigits, "the embedded digits at six angles, as in rotated_mnist"),
  "rotated_mnist": Entry(RotatedMnist, "MNIST at six angles (Ghifary et al., ICCV 2015)"),
  "speech_commands": Entry(SpeechCommands, "spoken words as MFCC or log-mel, split by speaker (Warden, 2018)"),
  "tfds": Entry(Tfds, "any data sets prepared with TensorFlow Datasets, each a domain (tensorflow.org/datasets)"),
  "visda2017": Entry(Visda2017, "renderings to real images; 12 classes, scored class by class (Peng et al., 2017)"),
}


def find(name: str) -> Entry:
  """Returns the entry of a data set.

  Args:
    name: one of `DATASETS`, or FILE.py:NAME for a subclass of `Layout` in a file of your own.

  Raises:
    UserError: there is no such data set; the message names the nearest one.
  """
  key = "config.data.name"
  found = registry.resolve(name, DATASETS, "data set", key)
  if isinstance(found, Entry):
    return found
  builder = registry.subclass(found, Layout, name, key)
  if not getattr(builder, "name", ""):
    raise UserError(f"{key}: {name} needs an attribute `name`, the name of the data set")
  return Entry(builder, inspect.cleandoc(builder.__doc__ or name).splitlines()[0])


def defaults(name: str) -> dict[str, Any]:
  """Returns every key of `config.data` with its default for one data set.

  Args:
    name: as `find` takes it.

  Returns:
    name: the data set.
    dir: folder of the data set's files; "" for data sets that need none.
    cache_dir: folder of prepared data sets; "": $DGJAX_CACHE or ~/.cache/dgjax.
    image_size: height and width of the network's input in pixels.
    augment: augmentation of training images: "none", "paper", "domainnet", "shorter", "office" or "visda".
    mixing: how batches draw from the source domains: "pooled", in proportion to their size, or "balanced", equally.
    val_fraction: share of each domain that is held out for validation, in [0, 1), where splits are drawn.
    test_fraction: share of each domain that is held out for testing, in [0, 1), where splits are drawn.
    split_seed: seed of the splits; -1: the run's seed.
    on_error: what to do about a file that cannot be used: "raise" an error, or "skip" the file.
    threads: number of threads that decode and crop images; 0: one for each core.
    prefetch: number of batches made ahead; 0: two more than threads.
    on_device: whether images stay in the device's memory: "auto", if they fit; "always"; or "never".
    Then follow the settings that the data set's layout in `builders` describes.

  Raises:
    UserError: no such data set.
  """
  return {
    "name": name, "dir": "", "cache_dir": "", "image_size": 224, "augment": "paper", "mixing": "pooled",
    "val_fraction": 0.1, "test_fraction": 0.2, "split_seed": -1, "on_error": "raise", "threads": 0, "prefetch": 0,
    "on_device": "auto",
    **find(name).builder.defaults,
  }


def input_shape(config: Any) -> tuple[int, int, int]:
  """Returns the shape (h, w, c) of an example in a batch, without preparing anything.

  Args:
    config: `config.data`.

  Raises:
    UserError: no such data set.
  """
  builder = find(config.name).builder
  return builder.array_shape or (config.image_size, config.image_size, builder.channels)


def load(config: Any, seed: int) -> Dataset:
  """Opens a data set, preparing it on first use.

  Args:
    config: `config.data`: the keys of `defaults`.
    seed: seed of the splits, if the data set has none of its own and `config.split_seed` is -1.

  Returns:
    The data set.

  Raises:
    UserError: unknown name, absent folder, bad input, or no room to prepare in.
  """
  return preparation.prepare(find(config.name).builder(config), seed)
