"""Spoken commands, split by speaker: the archive's own layout, WORD/SPEAKER_nohash_N.wav."""

import functools
import re
import zlib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dgjax.data import audio
from dgjax.data.builders import base
from dgjax.data.builders.folder import folders
from dgjax.data.builders.grouped import Grouped
from dgjax.errors import UserError, nearest

REVISION = 1  # counts changes of the features, and of what is drawn below
WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
SILENCE, UNKNOWN = "silence", "unknown"
NOISE = "_background_noise_"
RECORDING = re.compile(r"(?P<speaker>.+)_nohash_\d+\.wav", re.IGNORECASE)
FRAMES = 1 + (audio.RATE - audio.WINDOW) // audio.STRIDE


def first_second(samples: np.ndarray) -> np.ndarray:
  """Returns (16000,) samples: a longer recording is cut, a shorter one goes on with zeros, as is usual in the field."""
  return np.pad(samples[: audio.RATE], (0, max(audio.RATE - len(samples), 0)))


class SpeechCommands(Grouped, base.RootedLayout):
  """Twelve classes: ten commands, "silence", and "unknown" for any other word; who said a command is a domain.

  Every recording of the ten commands is used. A speaker's other words give `unknown` times as many examples as its
  commands (as far as they go), and cuts of the background noise, at random volume, `silence` times as many; what is
  drawn depends on the speaker alone. Recordings shorter than a second, of which the archive has many, are filled up
  with zeros; empty and damaged ones are errors.

  Examples are float32 features (98, 40, 1): `features` is "mfcc" or "logmel". `speakers` is the number of speakers to
  train on, 0 for all; with one seed, fewer are a part of more. `val_fraction` and `test_fraction` are 20 % of the
  speakers each, as in the paper.

  Source: Warden, "Speech Commands", arXiv:1804.03209, 2018; crossgrad.txt, Section 4.
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
    "augment": "none", "val_fraction": 0.2, "test_fraction": 0.2, "features": "mfcc", "speakers": 0, "silence": 0.1,
    "unknown": 0.1}

  def __init__(self, config: Any):
    super().__init__(config)
    if config.features not in audio.FEATURES:
      raise UserError(f"unknown config.data.features {config.features!r}{nearest(config.features, audio.FEATURES)}")
    for key in ("speakers", "silence", "unknown"):
      if config[key] < 0:
        raise UserError(f"config.data.{key} must be at least 0, got {config[key]}")
    words = [name for name in folders(self.root) if name != NOISE]
    if absent := [word for word in WORDS if word not in words]:
      raise UserError(f"there is no folder {self.root / absent[0]}: config.data.dir must be the folder that holds "
                      f"{self.looks_like} for each of {', '.join(WORDS)}")
    self._others = [word for word in words if word not in WORDS]
    self._noise_files = sorted((self.root / NOISE).glob("*.wav"))
    if config.silence and not self._noise_files:
      raise UserError(f"there is no {self.root / NOISE}/*.wav to cut silence from: put the archive's folder there, or "
                      "set config.data.silence=0")
    self._noises = functools.cache(self._read_noises)

  def _read_noises(self) -> list[np.ndarray]:
    noises = []
    for path in self._noise_files:
      try:
        noises.append(audio.read_wav(path))
      except OSError as error:
        raise UserError(f"cannot read recording {path} ({error}): replace or remove the file") from error
    return noises

  def _recordings(self, word: str) -> Iterator[tuple[str, Path]]:
    """Yields the speaker and the path of each recording of a word, by name."""
    for path in sorted((self.root / word).iterdir()):
      if path.suffix.lower() != ".wav" or path.name.startswith("."):
        continue
      if match := RECORDING.fullmatch(path.name):
        yield match["speaker"], path
      else:
        self.problem(self.groups_noun, f"{word}/{path.name}", f"the name of {path} is not SPEAKER_nohash_N.wav",
                     "rename or remove the file")

  def group(self, example: base.Example) -> str:
    """Returns the speaker."""
    return example.name.split("/")[1].split("_nohash_")[0]

  def examples(self, store: str) -> list[base.Example]:
    """Lists the recordings by class and name: commands, then silence, then some other words."""
    del store
    size = 4 * FRAMES * audio.CHANNELS

    def listed(path: Path, label: str) -> base.Example:
      name = path.relative_to(self.root).as_posix()
      return base.Example(name, self.classes.index(label), size, path.stat().st_mtime_ns)

    examples, commands, others = [], defaultdict[str, int](int), defaultdict[str, list[Path]](list)
    for word in WORDS:
      for speaker, path in self._recordings(word):
        commands[speaker] += 1
        examples.append(listed(path, word))
    if self.config.unknown:
      for word in self._others:
        for speaker, path in self._recordings(word):
          others[speaker].append(path)
    silent, unknown = [], []
    noise_stamp = max((path.stat().st_mtime_ns for path in self._noise_files), default=0)
    for speaker in sorted(commands):
      rng = np.random.default_rng([REVISION, zlib.crc32(speaker.encode())])
      # Rounded up or down by chance: most speakers have but a dozen commands
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
    noises = self._noises()
    noise = noises[rng.integers(len(noises))]
    start = rng.integers(max(len(noise) - audio.RATE, 0) + 1)
    return first_second(noise[start:]) * np.float32(rng.random())

  def assign(self, names: list[str], seed: int) -> dict[str, list[str]]:
    """Draws which speakers are for what, and which of those for training are used."""
    assigned = super().assign(names, seed)
    train, wanted = assigned["train"], self.config.speakers
    if wanted > len(train):
      raise UserError(f"config.data.speakers is {wanted}, and {len(train)} of the {len(names)} speakers are for "
                      "training: use fewer, or smaller config.data.val_fraction and config.data.test_fraction")
    order = np.random.default_rng([seed, zlib.crc32(b"speakers")]).permutation(len(train))
    return assigned | {"train": sorted(train[i] for i in order[: wanted or None])}

  def split_name(self, seed: int) -> str:
    """Returns the settings the drawn splits depend on."""
    return f"{super().split_name(seed)}-speakers{self.config.speakers or 'all'}"
