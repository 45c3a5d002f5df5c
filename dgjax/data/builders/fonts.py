"""Characters rendered in many fonts: any folder of font files, or those that come with matplotlib."""

import functools
import hashlib
import logging
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dgjax.data import files
from dgjax.data.builders import base
from dgjax.data.builders.grouped import Grouped
from dgjax.errors import UserError, nearest

log = logging.getLogger("dgjax")

REVISION = 1  # counts changes of the drawing below
SIZE = 32
OVERSAMPLING = 4  # glyphs are drawn and turned at this many times the size
INK = 0.7  # share of the image's side for a font's largest glyph; below 1 / sqrt(2), so that it fits at any angle
FONT_SPLITS = ("drawn", "order")
ORDER = (80, 20, 9)  # training, test and validation fonts of the released code, out of 109
OTHERS = (".dfont", ".fon", ".otc", ".pfa", ".pfb", ".ttc", ".woff", ".woff2")  # fonts of other forms
# Fonts of matplotlib that hold mathematical symbols in place of digits, or placeholders for everything
NO_TEXT = ("LastResortHE-Regular.ttf", "cmex10.ttf", "cmsy10.ttf")


def bundled() -> Path:
  """Returns the folder of the fonts that come with matplotlib."""
  import matplotlib  # here, as it takes a while to import that other data sets need not wait

  return Path(matplotlib.get_data_path()) / "fonts" / "ttf"


def lacking(path: Path, characters: str) -> str:
  """Returns why a font cannot write some characters, or "" if it can.

  Args:
    path: a TTF or OTF file.
    characters: what it should write.

  Raises:
    OSError: it is no font.
  """
  from matplotlib.ft2font import FT2Font

  if path.name in NO_TEXT:
    return "holds no text"
  try:
    glyphs = FT2Font(str(path)).get_charmap()
  except (RuntimeError, OSError) as error:
    raise OSError(f"not a font that FreeType reads: {error}") from error
  if absent := [character for character in characters if not glyphs.get(ord(character))]:
    return f"has no {absent[0]!r}"
  if 2 * len({glyphs[ord(character)] for character in characters}) < len(characters):
    return "draws the characters alike"  # a font of placeholders
  return ""


@functools.lru_cache(maxsize=8)
def scaled(path: Path, characters: str) -> ImageFont.FreeTypeFont:
  """Opens a font at the size at which its largest character fills `INK` of the oversampled image."""
  trial = ImageFont.truetype(str(path), 100)
  boxes = [trial.getbbox(character) for character in characters]
  largest = max(max(right - left, bottom - top) for left, top, right, bottom in boxes)
  return ImageFont.truetype(str(path), 100 * INK * SIZE * OVERSAMPLING / max(largest, 1))


def draw(font: ImageFont.FreeTypeFont, character: str, rotation: float, noise: float,
         rng: np.random.Generator) -> np.ndarray:
  """Draws a character, white on black, turned about the centre by a random angle, with noise on every pixel.

  Args:
    font: as `scaled` opens it.
    character: to draw, centred by its ink.
    rotation: the angle is uniform in [-rotation, rotation], in degrees.
    noise: standard deviation of the normal noise, as a share of white.
    rng: drawn from.

  Returns:
    (32, 32) uint8.

  Source: CrossGrad, Section 4, which does not state the magnitudes.
  """
  side = SIZE * OVERSAMPLING
  canvas = Image.new("L", (side, side))
  left, top, right, bottom = font.getbbox(character)
  ImageDraw.Draw(canvas).text(((side - left - right) / 2, (side - top - bottom) / 2), character, fill=255, font=font)
  turned = canvas.rotate(rng.uniform(-rotation, rotation), Image.Resampling.BICUBIC).reduce(OVERSAMPLING)
  pixels = np.asarray(turned) + rng.normal(0.0, 255.0 * noise, (SIZE, SIZE))
  return np.clip(pixels + 0.5, 0.0, 255.0).astype(np.uint8)


class Fonts(Grouped):
  """Characters in fonts; a font is a domain.

  `dir` is a folder of TTF and OTF files, searched with all its sub-folders; "" means matplotlib's. Fonts
  that lack a character, draw all characters alike or copy another font exactly are left out.

  Settings: `characters`: the classes; `per_character`: number of images of each character in each font; `rotation`:
  largest angle in degrees, in either direction; `noise`: standard deviation of the noise, as a share of white;
  `font_split`: how fonts are split: "drawn" by the seed, 65 % of the fonts for training, 25 % for testing and 10 % for
  validation, as in the paper; or "order", by file name, with the shares of the released code.

  Source: Shankar et al., "Generalizing Across Domains via Cross-Gradient Training", ICLR 2018 (CrossGrad,
  Section 4).
  """

  name = "fonts"
  groups_noun = "fonts"
  channels = 1
  mean = std = (128 / 255,)
  defaults = {  # noqa: RUF012
    "image_size": SIZE, "augment": "none", "val_fraction": 0.1, "test_fraction": 0.25,
    "characters": "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", "per_character": 4, "rotation": 20.0, "noise": 0.1,
    "font_split": "drawn"}

  def __init__(self, config: Any):
    super().__init__(config)
    if config.font_split not in FONT_SPLITS:
      raise UserError(f"unknown config.data.font_split {config.font_split!r}{nearest(config.font_split, FONT_SPLITS)}")
    if len(set(config.characters)) != len(config.characters) or len(config.characters) < 2:
      raise UserError("config.data.characters must be two or more different ones, got "
                      f"{config.characters!r}")
    for key, least in (("per_character", 1), ("rotation", 0), ("noise", 0)):
      if config[key] < least:
        raise UserError(f"config.data.{key} must be at least {least}, got {config[key]}")
    self.classes = tuple(config.characters)
    self.root = base.find_folder(config.dir, "TTF or OTF files") if config.dir else bundled()
    self.fonts = tuple(self._fonts())
    if not self.fonts:
      raise UserError(f"no font in {self.root} has all of config.data.characters {config.characters!r}: use other "
                      "fonts (config.data.dir) or fewer characters")

  def _fonts(self) -> Iterator[str]:
    """Yields the paths below the root of the fonts that are used, sorted."""
    seen: dict[bytes, str] = {}
    found = dict(files.walk(self.root))
    if others := [path.relative_to(self.root).as_posix() for path in found if path.suffix.lower() in OTHERS]:
      files.say_once(f"Not looked at in {self.root} for {self.name}: {files.counted(others)}")
    for path in sorted(path for path in found if path.suffix.lower() in (".ttf", ".otf")):
      name = path.relative_to(self.root).as_posix()
      try:
        if found[path]:
          raise OSError(found[path])
        digest = hashlib.sha256(path.read_bytes()).digest()
        reason = f"is a copy of {seen[digest]}" if digest in seen else lacking(path, self.config.characters)
      except Exception as error:  # FreeType's reader raises what it happens to
        reason = str(error) or type(error).__name__
        self.problem(self.groups_noun, name, f"cannot read font {path} ({reason})", "replace or remove the file")
        continue
      seen.setdefault(digest, name)
      if reason:
        log.info("Font %s is left out: it %s.", path, reason)
      else:
        yield name

  def group(self, example: base.Example) -> str:
    """Returns the font's path."""
    return example.name.rsplit("/", 2)[0]

  def examples(self, store: str) -> list[base.Example]:
    """Lists the images font by font, character by character."""
    del store
    return [base.Example(f"{font}/{label:02d}/{number}", label, stamp=stamp)
            for font in self.fonts for stamp in [(self.root / font).stat().st_mtime_ns]
            for label in range(len(self.classes)) for number in range(self.config.per_character)]

  def recipe(self) -> str:
    """Returns the revision and the magnitudes of the drawing."""
    return f"revision {REVISION}, rotation {self.config.rotation:g}, noise {self.config.noise:g}"

  def read(self, example: base.Example) -> bytes:
    """Draws one image, which the font's path, the character and the number decide."""
    font, _, number = example.name.rsplit("/", 2)
    character = self.classes[example.label]
    rng = np.random.default_rng([REVISION, zlib.crc32(font.encode()), ord(character), int(number)])
    opened = scaled(self.root / font, self.config.characters)
    return base.encode_png(draw(opened, character, self.config.rotation, self.config.noise, rng))

  def assign(self, names: list[str], seed: int) -> dict[str, list[str]]:
    """Draws which fonts are for training, validation and testing, or goes by their order."""
    if self.config.font_split == "drawn":
      return super().assign(names, seed)
    train, test, _ = (max(1, round(len(names) * share / sum(ORDER))) for share in ORDER)
    train = min(train, len(names) - 2)  # at least one each to test and to validate on
    test = min(test, len(names) - 1 - train)
    return {"train": names[:train], "test": names[train : train + test], "val": names[train + test :]}

  def split_name(self, seed: int) -> str:
    """Returns what the splits depend on."""
    return super().split_name(seed) if self.config.font_split == "drawn" else "order"
