import math

import numpy as np
import pytest

from dgjax.data import audio


def naive_log_mel(samples):
  """Frame by frame, filter by filter, with the transform as a sum."""
  def mel(frequency):
    return 1127 * math.log(1 + frequency / 700)
  edges = [mel(20) + (mel(4000) - mel(20)) * i / 41 for i in range(42)]
  times = np.arange(480)
  rows = []
  for start in range(0, len(samples) - 479, 160):
    frame = samples[start : start + 480] * (0.5 - 0.5 * np.cos(2 * np.pi * times / 480))
    magnitudes = [abs(np.sum(frame * np.exp(-2j * np.pi * k * times / 512))) for k in range(257)]
    row = []
    for channel in range(40):
      low, centre, high = edges[channel : channel + 3]
      energy = 0.0
      for k, magnitude in enumerate(magnitudes):
        at = mel(k * 16000 / 512)
        if low < at <= centre:
          energy += magnitude * (at - low) / (centre - low)
        elif centre < at < high:
          energy += magnitude * (high - at) / (high - centre)
      row.append(math.log(max(energy, 1e-12)))
    rows.append(row)
  return np.array(rows)


def naive_mfcc(samples):
  energies = naive_log_mel(samples)
  result = np.zeros_like(energies)
  for t in range(len(energies)):
    for j in range(40):
      total = sum(energies[t, i] * math.cos(math.pi / 40 * j * (i + 0.5)) for i in range(40))
      result[t, j] = math.sqrt(2 / 40) * total
  return result


def test_features_against_loops():
  samples = np.random.default_rng(0).normal(0, 0.1, 480 + 2 * 160 + 50).astype(np.float32)
  assert audio.log_mel(samples).shape == audio.mfcc(samples).shape == (3, 40)
  assert audio.mfcc(samples).dtype == audio.log_mel(samples).dtype == np.float32
  np.testing.assert_allclose(audio.log_mel(samples), naive_log_mel(samples), atol=2e-5)
  np.testing.assert_allclose(audio.mfcc(samples), naive_mfcc(samples), atol=2e-4)


def test_a_second_has_98_frames_and_silence_is_at_the_floor():
  features = audio.log_mel(np.zeros(16000, np.float32))
  assert features.shape == (98, 40) and np.isfinite(audio.mfcc(np.zeros(16000))).all()
  np.testing.assert_allclose(features, math.log(1e-12), rtol=1e-6)


@pytest.mark.parametrize("frequency", [300, 1000, 3000])
def test_a_tone_is_loudest_in_the_filter_around_it(frequency):
  loudest = audio.log_mel(np.sin(2 * np.pi * frequency * np.arange(16000) / 16000)).mean(0).argmax()
  edges = np.linspace(1127 * math.log(1 + 20 / 700), 1127 * math.log(1 + 4000 / 700), 42)
  assert abs(edges[loudest + 1] - 1127 * math.log(1 + frequency / 700)) <= edges[1] - edges[0]


def test_every_filter_hears_something():
  assert (audio._filters().sum(0) > 0.5).all() and (audio._filters() >= 0).all()


def test_read_wav(tmp_path, record):
  record(tmp_path / "a.wav", [0, 16384, -32768, 32767])
  samples = audio.read_wav(tmp_path / "a.wav")
  assert samples.dtype == np.float32
  np.testing.assert_array_equal(samples, np.array([0, 0.5, -1, 32767 / 32768], np.float32))


@pytest.mark.parametrize("keys,reason", [
  ({"rate": 8000}, "8000 Hz instead of 16000"), ({"channels": 2}, "2 channels instead of 1"),
  ({"width": 4}, "4 bytes a sample instead of 2")])
def test_another_format(tmp_path, record, keys, reason):
  record(tmp_path / "a.wav", np.zeros(8), **keys)
  with pytest.raises(OSError, match=reason):
    audio.read_wav(tmp_path / "a.wav")


def test_damaged_files(tmp_path, record):
  path = tmp_path / "a.wav"
  record(path, np.zeros(100))
  whole = path.read_bytes()
  for content, reason in [
      (b"", "it ends early"), (b"no sound at all", "no WAV file"), (whole[:-51], "cut short: 74 of"),
      (whole[:30], "no WAV file"), (whole[:20] + b"\3" + whole[21:], "unknown format: 3")]:
    path.write_bytes(content)
    with pytest.raises(OSError, match=reason):
      audio.read_wav(path)
  record(path, [])
  with pytest.raises(OSError, match="holds no samples"):
    audio.read_wav(path)
  with pytest.raises(FileNotFoundError):
    audio.read_wav(tmp_path / "absent.wav")
