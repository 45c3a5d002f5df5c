"""Digits whose colour tells their class in training but not in testing: MNIST-MP, MNIST-UP and an embedded twin."""

import abc
from collections.abc import Sequence
from typing import Any

import numpy as np

from dgjax.data.builders import base, mnist
from dgjax.errors import UserError, nearest

REVISION = 1  # counts changes of the drawing below, so that what an older one prepared is not read
# RGB by class. Around their mean, middle grey, the first six lie on a sphere and the last four on a cube's vertices.
COLOURS = np.array([
  (255, 127, 127), (0, 127, 127), (127, 255, 127), (127, 0, 127), (127, 127, 255),
  (127, 127, 0), (0, 255, 255), (255, 0, 0), (255, 0, 255), (0, 255, 0)], np.uint8)
RANGES = {"unit": ((0.0,) * 3, (1.0,) * 3), "symmetric": ((0.5,) * 3, (0.5,) * 3)}  # mean and std
ENLARGE = ("resize", "pad")


def paint(digit: np.ndarray, colour: np.ndarray) -> np.ndarray:
  """Colours a digit on black.

  Args:
    digit: (h, w) uint8, white on black.
    colour: (3,) in [0, 255].

  Returns:
    (h, w, 3) uint8: intensity times colour.

  Source: RCL, Section 3.
  """
  return (digit[..., None] / 255.0 * colour + 0.5).astype(np.uint8)


class Coloured(mnist.Parts):
  """Coloured digits; a subclass says which parts its domains have, and their colours.

  Training uses the train part; validation and test share the test part, as in the paper.

  Settings: `enlarge`: how images of 28 pixels are enlarged: "resize" to `image_size` (bilinear), or "pad" to 32 by two
  black pixels on each side; `input_range`: range of the network's input: "unit", [0, 1], or "symmetric", [-1, 1].

  Attributes:
    parts: domain -> those of "train" and "test" that it has.
  """

  source_test = False
  defaults = {"image_size": 32, "augment": "none", "enlarge": "resize", "input_range": "unit"}  # noqa: RUF012
  parts: dict[str, tuple[str, ...]]

  def __init__(self, config: Any):
    super().__init__(config)
    for key, known in (("enlarge", ENLARGE), ("input_range", tuple(RANGES))):
      if config[key] not in known:
        raise UserError(f"unknown config.data.{key} {config[key]!r}{nearest(config[key], known)}")
    self.mean, self.std = RANGES[config.input_range]

  @abc.abstractmethod
  def colour(self, domain: str, label: int, number: int) -> np.ndarray:
    """Returns the colour, (3,) in [0, 255], of the digit of that number and label in a domain."""

  def examples(self, store: str) -> list[base.Example]:
    """Lists the digits by part and number."""
    return [base.Example(f"{store}/{part}/{number:05d}", label, stamp=stamp, splits=(part,))
            for part in self.parts[store] for stamp in [self.stamp(part)]
            for number, label in enumerate(self.labels(part).tolist())]

  def recipe(self) -> str:
    """Returns the revision of the drawing, and how digits are enlarged."""
    return f"revision {REVISION}, {self.config.enlarge}"

  def read(self, example: base.Example) -> bytes:
    """Draws one digit."""
    domain, part, number = example.name.split("/")
    digit = self.images(part)[int(number)]
    if self.config.enlarge == "pad":
      digit = np.pad(digit, 2)
    return base.encode_png(paint(digit, self.colour(domain, example.label, int(number))))

  def split(self, domain: str, examples: Sequence[base.Example], seed: int) -> dict[str, np.ndarray]:
    """Returns the two parts."""
    del seed
    parts = {part: np.array([i for i, example in enumerate(examples) if part in example.splits], np.int32)
             for part in mnist.FILES}
    none = np.zeros(0, np.int32)
    return {"train": parts["train"], "val": parts["test"] if len(parts["train"]) else none, "test": parts["test"]}

  def split_name(self, seed: int) -> str:
    """Returns that nothing was drawn."""
    return "official"


class MissingPatterns(Coloured):
  """Domain "coloured", each class in a colour of its own, and "grey", all in the mean of these colours.

  Both domains have all digits. With target "coloured" a network is trained and validated on grey digits, which is the
  paper's row of plain MNIST. Settings: `grey`: level of the grey digits, in [0, 255].

  Source: RCL, Section 3; colours from the authors' repository.
  """

  domains = ("coloured", "grey")
  parts = {"coloured": ("train", "test"), "grey": ("train", "test")}  # noqa: RUF012
  defaults = {**Coloured.defaults, "grey": 127}  # noqa: RUF012

  def __init__(self, config: Any):
    super().__init__(config)
    if not 0 <= config.grey <= 255:
      raise UserError(f"config.data.grey must be in [0, 255], got {config.grey}")

  def colour(self, domain: str, label: int, number: int) -> np.ndarray:
    """Returns the class's colour, or grey."""
    del number
    return COLOURS[label] if domain == "coloured" else np.full(3, self.config.grey)

  def recipe(self) -> str:
    """Returns what `Coloured` does, and the grey."""
    return f"{super().recipe()}, grey {self.config.grey}"


class MnistMp(MissingPatterns, mnist.Mnist):
  """MNIST-MP (missing patterns).

  Source: Duboudin et al., "Encouraging Intra-Class Diversity Through a Reverse Contrastive Loss for Better
  Single-Source Domain Generalization", ICCV Workshops 2021 (RCL, Section 3).
  """

  name = "mnist_mp"


class DigitsMp(MissingPatterns, mnist.Embedded):
  """Scikit-learn's digits coloured as MNIST-MP's."""

  name = "digits_mp"
  defaults = {**MissingPatterns.defaults, "image_size": 16}  # noqa: RUF012


class MnistUp(Coloured, mnist.Mnist):
  """MNIST-UP (uncorrelated patterns): colours as in MNIST-MP that, in testing, tell nothing or mislead.

  The paper names it (RCL, Section 5) and does not say what it is; this is our definition. Domain "correlated" is
  MNIST-MP's "coloured", the only one to train on. The others have the 10,000 test digits: in "uncorrelated" a digit's
  colour is drawn from the ten, each as likely; in "anticorrelated" class k has the colour of class (k + 1) mod 10, so
  that no digit has its own class's colour, and a classifier that goes by colour is always wrong.
  """

  name = "mnist_up"
  domains = ("correlated", "uncorrelated", "anticorrelated")
  sources, targets = ("correlated",), ("uncorrelated", "anticorrelated")
  parts = {"correlated": ("train", "test"), "uncorrelated": ("test",), "anticorrelated": ("test",)}  # noqa: RUF012

  def colour(self, domain: str, label: int, number: int) -> np.ndarray:
    """Returns the class's colour, a random one that the number decides, or the next class's."""
    if domain == "uncorrelated":
      return COLOURS[np.random.default_rng([REVISION, number]).integers(10)]
    return COLOURS[label if domain == "correlated" else (label + 1) % 10]
