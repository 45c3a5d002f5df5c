"""Decodes image files. No other module does, so that training can read whatever preparation accepts."""

import contextlib
import functools
import io
import math
import threading
import warnings
from typing import cast

import numpy as np
from PIL import ExifTags, Image, ImageFile

# Pillow warns of damaged metadata and of large pictures without naming the file. Large ones are shrunk here.
warnings.filterwarnings("ignore", module=r"PIL\.")

# Formats of pictures that Pillow reads by itself or with a plugin (HEIF, JXL); its others are documents or stubs.
FORMATS = ("AVIF", "BMP", "DIB", "GIF", "HEIF", "JPEG", "JPEG2000", "JXL", "PNG", "PPM", "QOI", "TIFF", "WEBP")
# Suffixes of pictures that are not read, or not without a plugin. Such a file is named and never ignored.
FOREIGN = (".arw", ".cr2", ".cr3", ".dng", ".eps", ".exr", ".hdr", ".heic", ".heif", ".hif", ".jxl", ".jxr", ".nef",
           ".orf", ".pcx", ".psd", ".raf", ".rw2", ".svg", ".tga", ".wdp")
# A picture of more pixels (4096 x 4096) is decoded at a half, a quarter ... of its sides, until it has no more.
MOST_PIXELS = 1 << 24
# An image of more than 8 bits must have values above this; 16-bit files that hold at most 12-bit values do not.
DARK = 16

TURNS = {
  2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
  5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
  8: Image.Transpose.ROTATE_90}
"""EXIF orientation -> what brings the picture upright."""
TURNS_BY_A_QUARTER = tuple(TURNS[orientation] for orientation in (5, 6, 7, 8))

_large = threading.Lock()  # one large picture at a time, as each takes hundreds of megabytes until it is shrunk


@functools.cache
def suffixes() -> tuple[str, ...]:
  """Returns the suffixes, in lower case, of the image files that can be read here, sorted."""
  known = Image.registered_extensions()
  return tuple(sorted(suffix for suffix, form in known.items() if form in FORMATS and form in Image.OPEN))


def decode(encoded: bytes, channels: int = 3, smallest: int | None = None) -> Image.Image:
  """Decodes one image file, the first picture in it.

  Its EXIF orientation is applied. Values of more than 8 bits are scaled by the white that the file states; of a float
  image it is 1. A picture of more than `MOST_PIXELS` pixels comes at a half, a quarter ... of its sides.

  Args:
    encoded: the bytes of an image file.
    channels: 3 for RGB, 1 for grey.
    smallest: width and height that are enough. A JPEG is decoded at a half, a quarter or an eighth of its sides if
      neither becomes smaller than that. None: it is decoded whole, up to `MOST_PIXELS`.

  Returns:
    A loaded Pillow image of mode RGB or L; transparency is dropped.

  Raises:
    Exception: of any type, if the bytes are no whole image, since Pillow's decoders raise all sorts of errors.
    ValueError: the file does not state its white, or the image would come out almost black.
  """
  return _decode(encoded, channels, MOST_PIXELS, smallest)


def unreadable(encoded: bytes) -> str:
  """Returns why `decode` would fail on the bytes of an image file, or "" if it would not."""
  try:
    # JPEG: walks the whole stream but reconstructs an eighth of each side
    _decode(encoded, channels=3, draft=1, smallest=None)
  except Exception as error:
    return reason(error)
  return ""


def reason(error: Exception) -> str:
  """Returns why an image was not read, from what reading or decoding it raised."""
  # Pillow names the in-memory stream by its address, which tells a reader nothing and changes every time
  if "cannot identify" in str(error):
    return "not an image that Pillow reads"
  return getattr(error, "strerror", None) or str(error) or type(error).__name__


def sides(encoded: bytes) -> tuple[int, int]:
  """Returns the width and height that `decode` would give an image file, without decoding it."""
  image = Image.open(io.BytesIO(encoded))
  turn, width, height = _turn(image), image.width, image.height
  if width * height > MOST_PIXELS:
    fraction = _fraction(width * height, MOST_PIXELS)
    width, height = -(-width // fraction), -(-height // fraction)
  swapped = turn in TURNS_BY_A_QUARTER and image.format != "TIFF"  # of which Pillow gives the upright size at once
  return (height, width) if swapped else (width, height)


def _decode(encoded: bytes, channels: int, draft: int, smallest: int | None) -> Image.Image:
  """Decodes as `decode` does; a JPEG of more than `draft` pixels is reconstructed at a fraction of its size."""
  opened = Image.open(io.BytesIO(encoded))
  cut, image = _cut(opened, encoded), cast(Image.Image, opened)
  if smallest:
    image.draft(None, (smallest, smallest))
  pixels = image.width * image.height
  if pixels > draft:
    shrink = _fraction(pixels, draft)
    image.draft(None, (max(image.width // shrink, 1), max(image.height // shrink, 1)))  # does nothing but for JPEG
  with _large if pixels > MOST_PIXELS else contextlib.nullcontext():
    image.load()
    turn = _turn(image)
    if image.mode == "P" and "transparency" in image.info:
      image = image.convert("RGBA")  # without it Pillow warns that it guesses
    elif image.mode == "F" or image.mode.startswith("I"):
      image, cut = _eight_bits(image), False  # convert() would clip instead of scale
    if image.width * image.height > MOST_PIXELS:
      if image.mode not in ("L", "RGB", "CMYK"):
        image = _with_mode(image, channels)  # of palettes no mean can be taken
      image = image.reduce(_fraction(image.width * image.height, MOST_PIXELS))
    if turn is not None:
      image = image.transpose(turn)
    image = _with_mode(image, channels)
  if cut and np.asarray(image).max() <= DARK:
    raise ValueError(f"its 16-bit values are all below {DARK << 8} of 65535, which is almost black: "
                     "save it with 8 bits, or scaled")
  return image


def _cut(image: ImageFile.ImageFile, encoded: bytes) -> bool:
  """Returns whether Pillow keeps but the high bytes of 16-bit colours; asked before loading, which clears the tiles."""
  if image.format == "JPEG2000":
    sizes = encoded.find(b"\xff\x4f\xff\x51")  # the codestream's first two markers; the depth is 42 bytes on
    return len(encoded) > sizes + 42 and sizes >= 0 and encoded[sizes + 42] & 0x7F == 15
  if image.format == "PPM":
    return any(isinstance(tile.args, tuple) and tile.args[1] > 255 for tile in image.tile)  # (mode, white)
  return any(";16" in str(tile.args) for tile in image.tile)


def _fraction(pixels: int, most: int) -> int:
  """Returns the power of two by which both sides are divided to keep at most so many pixels."""
  return 2 ** max(0, math.ceil(math.log(pixels / most, 4)))


def _with_mode(image: Image.Image, channels: int) -> Image.Image:
  mode = "RGB" if channels == 3 else "L"
  return image if image.mode == mode else image.convert(mode)


def _turn(image: Image.Image) -> Image.Transpose | None:
  """Returns what brings an image upright by its EXIF orientation, or None where it is."""
  try:
    return TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
  except Exception:  # damaged metadata, of any type of error: shown as stored, as viewers do
    return None


def _eight_bits(image: Image.Image) -> Image.Image:
  """Scales a grey image of 16-bit or 32-bit integers, or of floats, to 8 bits.

  Raises:
    ValueError: its white is not known, values lie outside black and white, or all come out almost black.
  """
  values, white = np.asarray(image), _white(image)
  if white is None:
    raise ValueError(f"its integers are from {values.min()} to {values.max()}, and it does not say which one is "
                     "white: save it with 8 or 16 bits")
  low, high = values.min(), values.max()
  if not (low >= 0 and high <= white):  # also where there is a NaN
    raise ValueError(f"its values are from {low} to {high}, not from 0 to {white:g}: save it with 8 bits, or scaled")
  scaled = (values >> 8 if white == 65535 else values * (255.0 / white) + 0.5).astype(np.uint8)
  if high > 0 and scaled.max() <= DARK:
    raise ValueError(f"its values end at {high} where {white:g} is white, which is almost black: "
                     "save it with 8 bits, or scaled")
  return Image.fromarray(scaled)


def _white(image: Image.Image) -> float | None:
  """Returns the value of white, or None where the file states none."""
  tags = getattr(image, "tag_v2", {})
  if stated := tags.get(341) or tags.get(281):  # TIFF's SMaxSampleValue and MaxSampleValue
    return float(np.max(stated))
  if image.mode == "F":
    return 1.0
  if image.mode == "I":
    return 65535.0 if image.format in ("PNG", "PPM") else None  # to which Pillow scales a PGM, and reads an old PNG
  return float(2 ** min(np.max(tags.get(258, 16)), 16) - 1)  # TIFF's BitsPerSample
