"""Speech features in NumPy: WAV files to log-mel energies or MFCCs."""

import functools
import wave
from pathlib import Path

import numpy as np

RATE = 16000  # samples a second
WINDOW, STRIDE = 480, 160  # samples: 30 and 10 ms
TRANSFORM = 512  # the next power of two from WINDOW
CHANNELS = 40
LOWEST, HIGHEST = 20.0, 4000.0  # Hz, the edges of the filters
FLOOR = 1e-12  # of filter energies, before the logarithm


def read_wav(path: Path) -> np.ndarray:
  """Reads a recording of 16-bit samples, one channel, 16 kHz.

  Args:
    path: a WAV file.

  Returns:
    (n,) float32 in [-1, 1), n > 0.

  Raises:
    OSError: with the reason, where the file is absent, cut short, empty, or of another format.
  """
  try:
    with wave.open(str(path), "rb") as file:
      found = {"channels": file.getnchannels(), "bytes a sample": file.getsampwidth(), "Hz": file.getframerate()}
      count = file.getnframes()
      content = file.readframes(count)
  except (wave.Error, EOFError) as error:
    raise OSError(f"no WAV file of PCM samples: {str(error) or 'it ends early'}") from error
  for (what, value), wanted in zip(found.items(), (1, 2, RATE), strict=True):
    if value != wanted:
      raise OSError(f"{value} {what} instead of {wanted}")
  if not count:
    raise OSError("it holds no samples")
  if len(content) < 2 * count:
    raise OSError(f"cut short: {len(content) // 2} of {count} samples")
  return (np.frombuffer(content, "<i2") / 32768).astype(np.float32)


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
  Continuously Spoken Sentences", IEEE TASSP 1980; 30 ms, 10 ms and 40 channels: crossgrad.txt's recogniser.
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
