import io
import os
import struct
import subprocess
import sys
import textwrap
import zlib

import numpy as np
import pytest
from PIL import Image, features

from dgjax.data import decoding

RAMP = np.tile(np.linspace(0.0, 1.0, 32), (24, 1))
PIXELS = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)


def encode(image, form="PNG", **keys):
  stream = io.BytesIO()
  image.save(stream, form, **keys)
  return stream.getvalue()


def png(values, bits, kind):
  """A PNG of (h, w, c) values of 8 or 16 bits; `kind` is its colour type: 0 grey, 2 RGB, 4 grey and alpha, 6 RGBA."""
  rows = b"".join(b"\0" + row.astype(">u2" if bits == 16 else "u1").tobytes() for row in values)
  header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], bits, kind, 0, 0, 0)
  chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
  return b"\x89PNG\r\n\x1a\n" + b"".join(
    struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA", "P", "1", "CMYK"])
@pytest.mark.parametrize("channels", [1, 3])
def test_eight_bits_come_as_pillow_converts_them(mode, channels):
  image = Image.fromarray(PIXELS).convert(mode)
  encoded = encode(image, "TIFF" if mode == "CMYK" else "PNG")
  decoded = decoding.decode(encoded, channels)
  wanted = Image.open(io.BytesIO(encoded)).convert("RGB" if channels == 3 else "L")
  assert decoded.mode == wanted.mode and not decoding.unreadable(encoded)
  np.testing.assert_array_equal(np.asarray(decoded), np.asarray(wanted))


@pytest.mark.parametrize("values,form,tags", [
  (RAMP.astype(np.float32), "TIFF", {}),
  ((RAMP * 4.0).astype(np.float32), "TIFF", {341: 4.0}),
  ((RAMP * 65535).astype(np.uint16), "TIFF", {}),
  ((RAMP * 65535).astype(np.uint16), "PNG", {}),
  ((RAMP * 4095).astype(np.uint16), "TIFF", {281: 4095}),
  ((RAMP * 1000).astype(np.int32), "TIFF", {281: 1000}),
  ((RAMP * 65535).astype(np.int32), "PPM", {})])
def test_more_than_eight_bits_are_scaled_by_the_white_that_is_stated(values, form, tags):
  encoded = encode(Image.fromarray(values), form, **({"tiffinfo": tags} if tags else {}))
  assert not decoding.unreadable(encoded)
  pixels = np.asarray(decoding.decode(encoded))
  np.testing.assert_allclose(pixels, np.repeat(RAMP[..., None] * 255, 3, axis=2), atol=1)
  assert pixels.max() == 255


@pytest.mark.parametrize("values,reason", [
  ((RAMP * 255).astype(np.float32), "its values are from 0.0 to 255.0, not from 0 to 1"),
  ((RAMP - 0.5).astype(np.float32), "its values are from -0.5 to 0.5"),
  ((RAMP * np.nan).astype(np.float32), "its values are from nan to nan"),
  ((RAMP * 0.01).astype(np.float32), "almost black"),
  ((RAMP * 255).astype(np.int32), "its integers are from 0 to 255, and it does not say which one is white"),
  ((RAMP * 2**31).astype(np.uint32).astype(np.int32), "does not say which one is white"),
  ((RAMP * 255).astype(np.uint16), "its values end at 255 where 65535 is white, which is almost black"),
  ((RAMP * 4095).astype(np.uint16), "its values end at 4095 where 65535 is white")])
def test_nothing_is_black_in_silence(values, reason):
  encoded = [encode(Image.fromarray(values), "TIFF")]
  if values.dtype == np.uint16:
    encoded += [png(values[..., None], 16, 0), encode(Image.fromarray(values), "JPEG2000", irreversible=False),
                encode(Image.fromarray(values.astype(np.int32)), "PPM"),  # written with 65535 as its white
                b"P6\n32 24\n65535\n" + np.repeat(values[..., None], 3, axis=2).astype(">u2").tobytes()]
    encoded += [png(np.repeat(values[..., None], count, axis=2), 16, kind) for kind, count in ((2, 3), (4, 2))]
  for content in encoded:
    assert "almost black" in decoding.unreadable(content) or reason in decoding.unreadable(content)
    with pytest.raises(ValueError):
      decoding.decode(content)
  assert reason in decoding.unreadable(encoded[0])


def test_black_is_black():
  for content in (encode(Image.fromarray(np.zeros((4, 4), np.uint16))), encode(Image.new("RGB", (4, 4)))):
    assert not decoding.unreadable(content) and not np.asarray(decoding.decode(content)).any()


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied(form):
  turned = {1: PIXELS, 2: PIXELS[:, ::-1], 3: PIXELS[::-1, ::-1], 4: PIXELS[::-1], 5: PIXELS.transpose(1, 0, 2),
            6: np.rot90(PIXELS, -1), 7: PIXELS.transpose(1, 0, 2)[::-1, ::-1], 8: np.rot90(PIXELS)}
  for orientation, upright in turned.items():
    exif = Image.Exif()
    exif[0x0112] = orientation
    keys = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}.get(form, {})
    encoded = encode(Image.fromarray(PIXELS), form, exif=exif, **keys)
    pixels = np.asarray(decoding.decode(encoded))
    assert decoding.sides(encoded) == pixels.shape[1::-1]
    np.testing.assert_allclose(pixels, upright, atol=8 if form == "JPEG" else 0)


def test_damaged_exif_does_not_matter():
  whole = encode(Image.fromarray(PIXELS), "JPEG")
  damaged = whole[:2] + b"\xff\xe1" + struct.pack(">H", 14) + b"Exif\0\0no exif" [:12] + whole[2:]
  np.testing.assert_array_equal(np.asarray(decoding.decode(damaged)), np.asarray(decoding.decode(whole)))


def test_suffixes_are_those_that_pillow_reads(monkeypatch):
  assert {".jpg", ".jpe", ".jfif", ".png", ".tiff", ".webp", ".pgm"} <= set(decoding.suffixes())
  assert (".avif" in decoding.suffixes()) >= features.check("avif")
  assert not {".pdf", ".eps", ".svg", ".heic"} & set(decoding.suffixes())
  for suffix in (".jpe", ".jfif"):
    assert Image.registered_extensions()[suffix] == "JPEG"


@pytest.mark.parametrize("error", [RuntimeError("bad block"), TypeError("a"), NotImplementedError(), IndexError("b"),
                                   MemoryError(), OverflowError("c"), Image.DecompressionBombError("d")])
def test_whatever_a_decoder_raises_is_a_reason(monkeypatch, error):
  def fail(image):
    raise error
  monkeypatch.setattr(Image.Image, "getexif", lambda image: {})
  monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fail)
  assert decoding.unreadable(encode(Image.new("RGB", (4, 4)), "BMP")) == (str(error) or type(error).__name__)


def test_large_pictures_are_shrunk(monkeypatch):
  monkeypatch.setattr(decoding, "MOST_PIXELS", 1000)
  image = Image.fromarray(PIXELS).resize((90, 60), Image.Resampling.BILINEAR)
  small = image.resize((23, 15), Image.Resampling.BOX)
  exif = Image.Exif()
  exif[0x0112] = 6
  for form in ("JPEG", "PNG", "WEBP", "TIFF"):
    for mode in ("RGB", "L", "RGBA", "P"):
      if form in ("PNG", "TIFF") or mode == "RGB":
        encoded = encode(image.convert(mode), form, exif=exif, **({"lossless": True} if form == "WEBP" else {}))
        assert not decoding.unreadable(encoded)
        decoded = decoding.decode(encoded)
        assert decoded.size == decoding.sides(encoded) == (15, 23) and decoded.mode == "RGB"
        if mode == "RGB":
          assert np.abs(np.asarray(decoded).astype(int) - np.rot90(np.asarray(small), -1)).mean() < 8
  assert decoding.decode(encode(image.crop((0, 0, 40, 25)))).size == (40, 25)


def test_a_jpeg_is_decoded_as_small_as_is_enough():
  encoded = encode(Image.new("RGB", (640, 480)), "JPEG")
  assert {n: decoding.decode(encoded, smallest=n).size for n in (None, 400, 100)} == {
    None: (640, 480), 400: (640, 480), 100: (160, 120)}


def test_a_huge_picture_takes_little_memory(tmp_path):
  path = tmp_path / "huge.jpg"
  Image.new("L", (13000, 13000), 77).save(path)
  code = f"""
    from concurrent.futures import ThreadPoolExecutor
    from dgjax.data import decoding
    encoded = open({str(path)!r}, "rb").read()
    peak = lambda: int(next(line for line in open("/proc/self/status") if "VmHWM" in line).split()[1])
    before = peak()
    assert not decoding.unreadable(encoded)
    with ThreadPoolExecutor(2) as pool:
      assert [image.size for image in pool.map(decoding.decode, [encoded] * 2)] == [(3250, 3250)] * 2
    print(peak() - before)"""
  ended = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True,
                         env={**os.environ, "PYTHONWARNINGS": ""})
  assert not ended.stderr and int(ended.stdout) < 150_000  # kB
