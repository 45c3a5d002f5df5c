"""Any data sets that TensorFlow Datasets prepared, each a domain."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dgjax.data import digests
from dgjax.data.builders import base
from dgjax.data.dataset import SPLITS
from dgjax.errors import UserError, nearest

VERSION = re.compile(r"\d+\.\d+\.\d+")
PARTS = {"train": "train", "validation": "val", "test": "test"}  # TFDS's splits -> ours


class Tfds(base.RootedLayout):
  """Image data sets with the same classes that TFDS prepared as ArrayRecord files below `dir`, its data_dir.

  TensorFlow is not needed. Images are copied once, encoded as they are; grey ones become RGB. A domain has the name of
  its data set, with "-" for "/".

  Settings: `domains`: data sets to use, a comma-separated list of NAME[/CONFIG][:VERSION]; without a version, the
  newest that is prepared.

  Splits are TFDS's "train", "validation" and "test". If one of the last two is missing, a share of `val_fraction` or
  `test_fraction` of each class of "train" takes its place. Other splits, such as "extra", are not used.

  Source: TensorFlow Datasets, https://www.tensorflow.org/datasets.
  """

  name = "tfds"
  looks_like = "NAME/VERSION/dataset_info.json (or NAME/CONFIG/VERSION/...) as TFDS prepares them"
  defaults = {  # noqa: RUF012
    "image_size": 32, "augment": "none", "val_fraction": 0.1, "test_fraction": 0.2, "domains": ""}

  def __init__(self, config: Any):
    super().__init__(config)
    base.check_fractions(val_fraction=config.val_fraction, test_fraction=config.test_fraction)
    entries = [entry.strip() for entry in config.domains.split(",") if entry.strip()]
    if not entries:
      raise UserError("config.data.domains must name the data sets to use, of those prepared in "
                      f"{self.root}: {', '.join(self._prepared()) or 'none are'}")
    self.domains = tuple(entry.partition(":")[0].replace("/", "-") for entry in entries)
    for domain in self.domains:
      if self.domains.count(domain) > 1:
        raise UserError(f"config.data.domains names {domain!r} twice: take one of them out")
    self._builders = {domain: self._builder(entry) for domain, entry in zip(self.domains, entries, strict=True)}
    self._keys = {domain: self._features(domain) for domain in self.domains}
    names = {domain: self._names(domain) for domain in self.domains}
    self.classes = names[self.domains[0]]
    for domain, classes in names.items():
      if set(classes) != set(self.classes):
        other = sorted(set(classes) ^ set(self.classes))[0]
        raise UserError(f"the classes of {domain!r} in config.data.domains are not those of {self.domains[0]!r}: "
                        f"{other!r} is in one of them only ({len(classes)} classes, and {len(self.classes)})")
    self._numbers = {domain: np.array([self.classes.index(name) for name in classes], np.int32)
                     for domain, classes in names.items()}
    self._open: dict[str, Any] = {}

  def _prepared(self) -> list[str]:
    """Returns the names, with configs, of what is prepared below the root."""
    found = (path.parent.parent for depth in ("*", "*/*") for path in self.root.glob(f"{depth}/*/dataset_info.json"))
    return sorted({path.relative_to(self.root).as_posix() for path in found})

  def _builder(self, entry: str) -> Any:
    """Opens what TFDS prepared of one data set, from its files alone."""
    import tensorflow_datasets as tfds  # here, as it takes long to import that other data sets need not wait

    name, _, version = entry.partition(":")
    if name not in (known := self._prepared()):
      if below := [other for other in known if other.startswith(f"{name}/")]:
        raise UserError(f"config.data.domains: {name!r} is prepared in several forms: write {' or '.join(below)}")
      raise UserError(f"config.data.domains: no data set {name!r} is prepared in {self.root}{nearest(name, known)}")
    versions = sorted((path.parent.name for path in (self.root / name).glob("*/dataset_info.json")
                       if VERSION.fullmatch(path.parent.name)), key=lambda text: tuple(map(int, text.split("."))))
    if not versions or (version and version not in versions):
      raise UserError(f"config.data.domains: {name!r} is not prepared in version {version!r} in {self.root}"
                      f"{nearest(version, versions)}")
    folder = self.root / name / (version or versions[-1])
    try:
      builder = tfds.builder_from_directory(str(folder))
    except Exception as error:  # of whatever kind: its files are not what TFDS writes
      raise UserError(f"cannot open the data set in {folder} ({error}): prepare it anew") from error
    if builder.info.file_format != tfds.core.FileFormat.ARRAY_RECORD:
      raise UserError(f"the data set in {folder} is not in ArrayRecord files: prepare it with "
                      f"tfds.builder({name!r}, file_format='array_record').download_and_prepare()")
    return builder

  def _features(self, domain: str) -> tuple[str, str]:
    """Returns the names of the features that are the image and the label."""
    import tensorflow_datasets as tfds

    info, keys = self._builders[domain].info, []
    for noun, kind, position in (("an image", tfds.features.Image, 0), ("a label", tfds.features.ClassLabel, 1)):
      found = [key for key, feature in dict(info.features).items() if type(feature) is kind]
      main = [key for key in found if info.supervised_keys and key == info.supervised_keys[position]]
      if len(main or found) != 1:
        raise UserError(f"data set {domain!r} in config.data.domains has {len(found)} features that are {noun}, and "
                        f"must have one ({', '.join(info.features)})")
      keys += main or found
    return keys[0], keys[1]

  def _names(self, domain: str) -> tuple[str, ...]:
    return tuple(self._builders[domain].info.features[self._keys[domain][1]].names)

  def _source(self, domain: str, part: str) -> Any:
    """Returns random access to one of TFDS's splits, images as the bytes that they were stored as."""
    import tensorflow_datasets as tfds

    if f"{domain}/{part}" not in self._open:
      raw = {self._keys[domain][0]: tfds.decode.SkipDecoding()}
      self._open[f"{domain}/{part}"] = self._builders[domain].as_data_source(part, decoders=raw)
    return self._open[f"{domain}/{part}"]

  def examples(self, domain: str) -> list[base.Example]:
    """Lists the examples by split and number."""
    builder = self._builders[domain]
    parts = [part for part in PARTS if part in builder.info.splits and builder.info.splits[part].num_examples]
    if not parts:
      raise UserError(f"data set {domain!r} in config.data.domains has none of the splits {', '.join(PARTS)}")
    examples = []
    for part in parts:
      info = builder.info.splits[part]
      files = [os.stat(path) for path in info.filepaths]
      stamp = digests.texts(f"{file.st_size} {file.st_mtime_ns}" for file in files)[:16]
      size = sum(file.st_size for file in files) // info.num_examples
      labels = self._labels(domain, part, stamp)
      examples += [base.Example(f"{domain}/{part}/{i:07d}", int(label), size, int(stamp, 16), (PARTS[part],))
                   for i, label in enumerate(labels)]
    return examples

  def _labels(self, domain: str, part: str, stamp: str) -> np.ndarray:
    """Reads the labels of a split, all of it the first time; they are noted in the cache."""
    from dgjax.data import preparation  # here, as it builds on the layouts

    folder = Path(self._builders[domain].data_path)
    notes = preparation.cache_dir(self.config) / self.name / "labels"
    note = notes / f"{digests.texts([str(folder), part, stamp])}.npy"
    count = self._builders[domain].info.splits[part].num_examples
    try:
      labels = np.load(note, allow_pickle=False)
      if labels.shape == (count,):
        return self._numbers[domain][labels]
    except (OSError, ValueError, EOFError, IndexError):
      pass  # not there yet, or damaged
    source, key = self._source(domain, part), self._keys[domain][1]
    try:
      labels = np.fromiter((source[i][key] for i in range(count)), np.int32, count)
    except Exception as error:  # TFDS, ArrayRecord and its parser have errors of their own
      raise UserError(f"cannot read split {part!r} of the data set in {folder} ({error}): prepare it anew") from error
    if labels.min() < 0:
      raise UserError(f"split {part!r} of data set {domain!r} in config.data.domains has examples without a label")
    with preparation.cache_errors(notes):
      notes.mkdir(parents=True, exist_ok=True)
      partial = note.with_suffix(f".{os.getpid()}.npy")
      np.save(partial, labels, allow_pickle=False)
      partial.replace(note)
    return self._numbers[domain][labels]

  def read(self, example: base.Example) -> bytes:
    """Returns the encoded image."""
    domain, part, number = example.name.split("/")
    try:
      return self._source(domain, part)[int(number)][self._keys[domain][0]]
    except Exception as error:  # as above
      raise OSError(str(error)) from error

  def where(self, example: base.Example) -> str:
    """Returns the split, its folder and the number in it."""
    domain, part, number = example.name.split("/")
    return f"{int(number)} of split {part!r} in {self._builders[domain].data_path}"

  def release(self, store: str) -> None:
    """Closes the files."""
    self._open = {key: source for key, source in self._open.items() if key.split("/")[0] != store}

  def split(self, domain: str, examples: Sequence[base.Example], seed: int) -> dict[str, np.ndarray]:
    """Takes TFDS's splits, and draws from "train", class by class, those that it does not have."""
    given = {split: np.array([i for i, example in enumerate(examples) if split in example.splits], np.int32)
             for split in SPLITS}
    fractions = {"val": self.config.val_fraction, "test": self.config.test_fraction}
    missing = {split: fraction for split, fraction in fractions.items() if not len(given[split])}
    labels = np.array([examples[i].label for i in given["train"]], np.int32)
    drawn = base.draw_by_class(labels, self.classes, missing, seed, domain)
    return given | {split: np.sort(given["train"][chosen]) for split, chosen in drawn.items()}

  def split_name(self, seed: int) -> str:
    """Returns the settings the drawn splits depend on."""
    return f"seed{seed}-val{self.config.val_fraction:g}-test{self.config.test_fraction:g}"
