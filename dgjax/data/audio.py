"""Speech features in NumPy: WAV files to log-mel energies or MFCCs."""

import functools
import math
import struct
from pathlib import Path

import numpy as np

from dgjax.data import files

RATE = 16000  # samples a second
WINDOW, STRIDE = 480, 160  # samples: 30 and 10 ms
TRANSFORM = 512  # the next power of two from WINDOW
CHANNELS = 40
LOWEST, HIGHEST = 20.0, 4000.0  # Hz, the edges of the filters
EXTENSIBLE, STREAMED = 0xFFFE, 0xFFFFFFFF  # a WAV format whose true format follows; an unknown size
LOWEST_RATE, HIGHEST_RATE = 1000, 768_000  # samples a second; a header with more must be wrong
# (format, bytes a sample) -> (dtype, what silence is, what full scale is); format 1 is PCM, 3 is floats
SAMPLES = {(1, 1): ("u1", 128.0, 128.0), (1, 2): ("<i2", 0.0, 32768.0), (1, 3): ("<i4", 0.0, 2.0**31),
           (1, 4): ("<i4", 0.0, 2.0**31), (3, 4): ("<f4", 0.0, 1.0), (3, 8): ("<f8", 0.0, 1.0)}
FLOOR = 1e-12  # least filter energy, before the logarithm


def read_wav(path: Path) -> np.ndarray:
  """Reads a recording. Channels are averaged, and rates other than 16 kHz are resampled; a warning says so once.

  Args:
    path: a WAV file of 8, 16, 24 or 32-bit integers or of 32 or 64-bit floats, of any rate and number of channels.

  Returns:
    (n,) float32 at 16 kHz, n > 0, in [-1, 1] except for floats beyond it and for overshoot of the resampling.

  Raises:
    OSError: the file is absent, cut short, empty, or of another format; the message has the reason.
  """
  samples, rate = _samples(files.contents(path))
  if samples.shape[1] > 1:
    files.say_once(f"Recordings of {samples.shape[1]} channels are mixed down to one.")
  mono = samples.mean(axis=1)
  if not np.isfinite(mono).all():
    raise OSError("it holds samples that are not finite")
  if rate != RATE:
    from scipy.signal import resample_poly  # imported here, because it takes a while and most recordings do not need it

    files.say_once(f"Recordings at {rate} Hz are resampled to {RATE} Hz.")
    common = math.gcd(rate, RATE)
    mono = resample_poly(mono, RATE // common, rate // common)
  return mono.astype(np.float32)


def _samples(content: bytes) -> tuple[np.ndarray, int]:
  """Returns the samples of a WAV file, (n, channels) float64, and their rate.

  Python's `wave` lacks floats and extensible headers, and SciPy's reader passes over files that are cut short.
  """
  if not content:
    raise OSError("no WAV file: it ends early")
  if content[:4] != b"RIFF" or content[8:12] != b"WAVE":
    raise OSError("no WAV file")
  header, place = b"", 12
  while place + 8 <= len(content):
    kind, size = struct.unpack_from("<4sI", content, place)
    place += 8
    if kind == b"fmt ":
      header = content[place : place + size]
    elif kind == b"data":
      break
    place += size + size % 2  # chunks start at even places
  else:
    raise OSError("no WAV file: it ends before its samples")
  if len(header) < 16:
    raise OSError("no WAV file: it does not say what its samples are")
  form, channels, rate, _, block, _ = struct.unpack_from("<HHIIHH", header)
  if form == EXTENSIBLE and len(header) >= 26:
    form, = struct.unpack_from("<H", header, 24)
  width = block // channels if channels and block % channels == 0 else 0
  if (form, width) not in SAMPLES:
    raise OSError(f"its samples are of format {form} with {block} bytes for {channels} channels, not PCM of 1 to 4 "
                  "bytes or floats")
  if not LOWEST_RATE <= rate <= HIGHEST_RATE:
    raise OSError(f"it says that it has {rate} samples a second")
  if size not in (0, STREAMED) and len(content) - place < size:
    raise OSError(f"cut short: {(len(content) - place) // block} of {size // block} samples")
  if size == STREAMED:
    size = len(content) - place
  size -= size % block
  if not size:
    raise OSError("it holds no samples")
  dtype, zero, one = SAMPLES[form, width]
  stored = np.frombuffer(content, np.uint8, size, place)
  if width == 3:  # shifted into 4 bytes, the lowest of which is 0
    stored = np.pad(stored.reshape(-1, 3), ((0, 0), (1, 0))).reshape(-1)
  return ((stored.view(dtype) - zero) / one).reshape(-1, channels), rate


@functools.cache
def _filters() -> np.ndarray:
  """Returns triangles on the mel scale, (TRANSFORM / 2 + 1, CHANNELS), each from its left neighbour's centre to its
  right one's."""
  mel = lambda frequency: 1127.0 * np.log1p(frequency / 700.0)  # noqa: E731
  edges = np.linspace(mel(LOWEST), mel(HIGHEST), CHANNELS + 2)
  bins = mel(np.arange(TRANSFORM // 2 + 1) * RATE / TRANSFORM)[:, None]
  width = edges[1] - edges[0]
  return np.clip(np.minimum(bins - edges[:-2], edges[2:] - bins) / width, 0.0, None)


@functools.cache
def _cosines() -> np.ndarray:
  """Returns the scaled DCT-II, (CHANNELS, CHANNELS)."""
  places = np.arange(CHANNELS)
  return np.sqrt(2.0 / CHANNELS) * np.cos(np.pi / CHANNELS * (places[:, None] + 0.5) * places)


def log_mel(samples: np.ndarray) -> np.ndarray:
  """Computes the logarithm of mel filters' energies.

  Frames of 30 ms every 10 ms, Hann window, magnitudes of a 512-point transform, 40 triangular filters from 20 Hz to
  4 kHz.

  Args:
    samples: (n,) float in [-1, 1], n >= 480, at 16 kHz.

  Returns:
    (1 + (n - 480) // 160, 40) float32, at least log(1e-12) = -27.6.

  Source: Davis and Mermelstein, "Comparison of Parametric Representations for Monosyllabic Word Recognition in
  Continuously Spoken Sentences", IEEE TASSP 1980; 30 ms, 10 ms and 40 channels: CrossGrad's recogniser.
  """
  frames = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::STRIDE]
  hann = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(WINDOW) / WINDOW)
  magnitudes = np.abs(np.fft.rfft(frames * hann, TRANSFORM))
  return np.log(np.maximum(magnitudes @ _filters(), FLOOR)).astype(np.float32)


def mfcc(samples: np.ndarray) -> np.ndarray:
  """Computes 40 mel-frequency cepstral coefficients: the discrete cosine transform (DCT-II) of `log_mel`.

  Args:
    samples: (n,) float in [-1, 1], n >= 480, at 16 kHz.

  Returns:
    (1 + (n - 480) // 160, 40) float32.

  Source: as `log_mel`.
  """
  return (log_mel(samples) @ _cosines()).astype(np.float32)


FEATURES = {"mfcc": mfcc, "logmel": log_mel}
