"""Spoken commands, split by speaker: the archive's own layout, WORD/SPEAKER_nohash_N.wav."""

import os
import re
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from dgjax.data import audio, files
from dgjax.data.builders import base
from dgjax.data.builders.grouped import Grouped
from dgjax.data.dataset import Source
from dgjax.errors import UserError, nearest

REVISION = 1  # counts changes of the features, and of what is drawn below
WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
SILENCE, UNKNOWN = "silence", "unknown"
SCALINGS = ("none", "standard")
NOISE = "_background_noise_"
FOREIGN = (".aac", ".aif", ".aiff", ".flac", ".m4a", ".mp3", ".ogg", ".opus", ".sph", ".wma")
RECORDING = re.compile(r"(?P<speaker>.+)_nohash_\d+\.wav", re.IGNORECASE)
LEAST = 1e-3  # deviation of a coefficient that hardly changes
FRAMES = 1 + (audio.RATE - audio.WINDOW) // audio.STRIDE


def first_second(samples: np.ndarray) -> np.ndarray:
  """Returns (16000,) samples. A longer recording is cut, and a shorter one is filled up with zeros, as is usual."""
  return np.pad(samples[: audio.RATE], (0, max(audio.RATE - len(samples), 0)))


class SpeechCommands(Grouped, base.RootedLayout):
  """Twelve classes: ten commands, "silence", and "unknown" for any other word. A speaker is a domain.

  Every recording of the ten commands is used. The two other classes are a speaker's other words, and cuts of the
  background noise at random volume. Which of them are drawn depends on the speaker alone. Recordings shorter than a
  second, of which the archive has many, are filled up with zeros. Empty and damaged recordings are errors.

  Settings: `features`: features of a recording, "mfcc" or "logmel", float32 (98, 40, 1); `scaling`: "none": features
  are used as they are; "standard": every coefficient has mean 0 and deviation 1 over all frames of the training
  examples; `speakers`: number of speakers to train on; 0: all; with the same seed, fewer speakers are a subset of more;
  `unknown`: number of examples of the class "unknown" for each command of a speaker, as far as its other words go;
  `silence`: number of examples of the class "silence" for each command; `val_fraction`: share of the speakers for
  validation, 20 % as in the paper; `test_fraction`: share of the speakers for testing, 20 % as in the paper.

  Perturbations, such as CrossGrad's, apply to the scaled features. Under "standard" a step of 1 is one deviation of
  each coefficient. Under "none" it is a unit of the MFCC, of which the first is about -144 and the others are below 1.

  Source: Warden, "Speech Commands", arXiv:1804.03209, 2018; CrossGrad, Section 4.
  """

  name = "speech_commands"
  noun = "recording"
  groups_noun = "speakers"
  looks_like = "WORD/SPEAKER_nohash_N.wav"
  classes = (*WORDS, SILENCE, UNKNOWN)
  array_shape = (FRAMES, audio.CHANNELS, 1)
  mean, std = (0.0,), (1.0,)
  channels = 1
  defaults = {  # noqa: RUF012
    "augment": "none", "val_fraction": 0.2, "test_fraction": 0.2, "features": "mfcc", "scaling": "none", "speakers": 0,
    "silence": 0.1, "unknown": 0.1}

  def __init__(self, config: Any):
    super().__init__(config)
    if config.features not in audio.FEATURES:
      raise UserError(f"unknown config.data.features {config.features!r}{nearest(config.features, audio.FEATURES)}")
    if config.scaling not in SCALINGS:
      raise UserError(f"unknown config.data.scaling {config.scaling!r}{nearest(config.scaling, SCALINGS)}")
    for key in ("speakers", "silence", "unknown"):
      if config[key] < 0:
        raise UserError(f"config.data.{key} must be at least 0, got {config[key]}")
    words = [name for name in self.subfolders(self.groups_noun, self.root) if name != NOISE]
    if absent := [word for word in WORDS if word not in words]:
      raise UserError(f"{files.no_folder(self.root / absent[0])}: config.data.dir must be the folder that holds "
                      f"{self.looks_like} for each of {', '.join(WORDS)}{self.level()}")
    self._others = [word for word in words if word not in WORDS]
    self._noises: list[np.ndarray] = []
    if config.silence and not ((self.root / NOISE).is_dir() and files.listing(self.root / NOISE).files):
      self._without_noise()

  def fits(self, root: Path) -> bool:
    """Returns whether a folder has one for each command."""
    return all((root / word).is_dir() for word in WORDS)

  def readable(self, name: str) -> bool:
    """Returns whether a file's name is of a recording that can be read."""
    return name.lower().endswith(".wav")

  def foreign(self, name: str) -> bool:
    """Returns whether a file's name is of a recording in a format that is not read."""
    return name.lower().endswith(FOREIGN)

  def _without_noise(self) -> NoReturn:
    raise UserError(f"there is no {self.root / NOISE}/*.wav to cut silence from: put the archive's folder there, or "
                    "set config.data.silence=0")

  def _read_noises(self) -> int:
    """Reads the noise that silence is cut from, and returns when it was last changed."""
    self._noises, stamp = [], 0
    for entry in self.usable_files(self.groups_noun, self.root / NOISE):
      try:
        self._noises.append(audio.read_wav(Path(entry.path)))
      except OSError as error:
        self.unusable(self.groups_noun, Path(entry.path), error.strerror or str(error))
      stamp = max(stamp, entry.stat().st_mtime_ns)
    if not self._noises:
      self._without_noise()
    return stamp

  def _recordings(self, word: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yields the speaker and the file of each recording of a word, by name."""
    for entry in self.usable_files(self.groups_noun, self.root / word):
      if match := RECORDING.fullmatch(entry.name):
        yield match["speaker"], entry
      else:
        self.problem(self.groups_noun, f"{word}/{entry.name}",
                     f"the name of {entry.path} is not SPEAKER_nohash_N.wav", "rename or remove the file")

  def group(self, example: base.Example) -> str:
    """Returns the speaker."""
    return example.name.split("/")[1].split("_nohash_")[0]

  def examples(self, store: str) -> list[base.Example]:
    """Lists the recordings by class and name: commands, then silence, then some other words."""
    size = 4 * FRAMES * audio.CHANNELS

    def listed(entry: os.DirEntry[str], label: str) -> base.Example:
      name = Path(entry.path).relative_to(self.root).as_posix()
      return base.Example(name, self.classes.index(label), size, entry.stat().st_mtime_ns)

    examples, commands, others = [], defaultdict[str, int](int), defaultdict[str, list[os.DirEntry[str]]](list)
    for word in WORDS:
      for speaker, entry in self._recordings(word):
        commands[speaker] += 1
        examples.append(listed(entry, word))
    if self.config.unknown:
      for word in self._others:
        for speaker, entry in self._recordings(word):
          others[speaker].append(entry)
    silent, unknown = [], []
    noise_stamp = self._read_noises() if self.config.silence else 0
    self.say_unused(store)
    for speaker in sorted(commands):
      rng = np.random.default_rng([REVISION, zlib.crc32(speaker.encode())])
      # Rounded up or down by chance, because most speakers have only a dozen commands
      of_silence, of_unknown = (int(commands[speaker] * share + rng.random())
                                for share in (self.config.silence, self.config.unknown))
      silent += [base.Example(f"{SILENCE}/{speaker}_nohash_{number}", self.classes.index(SILENCE), size, noise_stamp)
                 for number in range(of_silence)]
      chosen = rng.permutation(len(others[speaker]))[:of_unknown]
      unknown += [listed(others[speaker][i], UNKNOWN) for i in sorted(chosen)]
    return [*examples, *silent, *unknown]

  def recipe(self) -> str:
    """Returns the revision and the kind of the features."""
    return f"revision {REVISION}, {self.config.features}"

  def read(self, example: base.Example) -> np.ndarray:
    """Computes the features of one recording, or of one cut of noise."""
    if self.classes[example.label] == SILENCE:
      samples = self._silence(example.name)
    else:
      samples = first_second(audio.read_wav(self.root / example.name))
    return audio.FEATURES[self.config.features](samples)[..., None]

  def _silence(self, name: str) -> np.ndarray:
    """Cuts a second of noise, which the name decides, and makes it quieter."""
    rng = np.random.default_rng([REVISION, zlib.crc32(name.encode())])
    noise = self._noises[rng.integers(len(self._noises))]
    start = rng.integers(max(len(noise) - audio.RATE, 0) + 1)
    return first_second(noise[start:]) * np.float32(rng.random())

  def assign(self, names: list[str], seed: int) -> dict[str, list[str]]:
    """Draws the speakers of each split, and those of the training speakers that are used."""
    assigned = super().assign(names, seed)
    train, wanted = assigned["train"], self.config.speakers
    if wanted > len(train):
      raise UserError(f"config.data.speakers is {wanted}, and {len(train)} of the {len(names)} speakers are for "
                      "training: use fewer, or smaller config.data.val_fraction and config.data.test_fraction")
    order = np.random.default_rng([seed, zlib.crc32(b"speakers")]).permutation(len(train))
    return assigned | {"train": sorted(train[i] for i in order[: wanted or None])}

  def normalisation(self, training: Sequence[Source]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns 0 and 1 or, scaled, the mean and deviation of each coefficient."""
    if self.config.scaling == "none":
      return super().normalisation(training)
    count, total, squares = 0, np.zeros(audio.CHANNELS), np.zeros(audio.CHANNELS)
    for source in training:
      for i in range(len(source)):
        frames = source[i]["image"][..., 0].astype(np.float64)
        count += len(frames)
        total += frames.sum(0)
        squares += np.square(frames).sum(0)
    mean = total / count
    std = np.sqrt(squares / count - np.square(mean))
    return tuple(mean.tolist()), tuple(np.maximum(std, LEAST).tolist())

  def split_name(self, seed: int) -> str:
    """Returns the settings the drawn splits depend on."""
    return f"{super().split_name(seed)}-speakers{self.config.speakers or 'all'}"
