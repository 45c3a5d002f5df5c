import math
import os
import struct

import numpy as np
import pytest

from dgjax.data import audio, files


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


@pytest.mark.parametrize("form,dtype,full", [
  (1, "u1", 128), (1, "<i2", 2**15), (1, "i3", 2**23), (1, "<i4", 2**31), (3, "<f4", 1.0), (3, "<f8", 1.0)])
@pytest.mark.parametrize("extensible", [False, True])
def test_every_width_is_scaled_to_one_and_channels_are_averaged(tmp_path, form, dtype, full, extensible):
  wanted = np.array([[0.5, 0.25], [-0.5, 0.0], [0.0, -1.0]])
  values = wanted * full
  if dtype == "u1":
    stored = (values + 128).astype(np.uint8).tobytes()
  elif dtype == "i3":
    stored = b"".join(int(value).to_bytes(3, "little", signed=True) for value in values.ravel())
  else:
    stored = values.astype(dtype).tobytes()
  width = len(stored) // wanted.size
  header = struct.pack("<HHIIHH", 0xFFFE if extensible else form, 2, 16000, 0, 2 * width, 8 * width)
  if extensible:
    header += struct.pack("<HHIH14x", 22, 8 * width, 3, form)
  chunks = b"LIST" + struct.pack("<I", 3) + b"abc\0"  # of odd length, so filled up
  chunks += b"fmt " + struct.pack("<I", len(header)) + header + b"data" + struct.pack("<I", len(stored)) + stored
  (tmp_path / "a.wav").write_bytes(b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks)
  np.testing.assert_array_equal(audio.read_wav(tmp_path / "a.wav"), wanted.mean(axis=1).astype(np.float32))


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_another_rate_is_resampled_and_said_once(tmp_path, record, caplog, rate):
  files.say_once.cache_clear()
  tone = np.sin(2 * np.pi * 440 * np.arange(rate) / rate)
  record(tmp_path / "a.wav", 16384 * tone, rate=rate)
  for _ in range(2):
    samples = audio.read_wav(tmp_path / "a.wav")
  assert samples.shape == (16000,) and samples.dtype == np.float32
  wanted = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
  np.testing.assert_allclose(samples[500:-500], wanted[500:-500], atol=2e-3)
  assert [line.message for line in caplog.records] == [f"Recordings at {rate} Hz are resampled to 16000 Hz."]


def test_damaged_files(tmp_path, record):
  path = tmp_path / "a.wav"
  record(path, np.zeros(100))
  whole = path.read_bytes()
  for content, reason in [
      (b"", "it ends early"), (b"no sound at all", "no WAV file"), (whole[:-51], "cut short: 74 of"),
      (whole[:30], "no WAV file"), (whole[:20] + b"\7" + whole[21:], "format 7 with 2 bytes for 1 channels"),
      (whole[:24] + struct.pack("<I", 7) + whole[28:], "it says that it has 7 samples a second"),
      (whole[:22] + b"\0\0" + whole[24:], "format 1 with 2 bytes for 0 channels"),
      (whole[:22] + b"\2\0" + whole[24:32] + b"\3" + whole[33:], "format 1 with 3 bytes for 2 channels"),
      (whole[:16] + struct.pack("<I", 2) + whole[20:], "no WAV file")]:
    path.write_bytes(content)
    with pytest.raises(OSError, match=reason):
      audio.read_wav(path)
  record(path, [])
  with pytest.raises(OSError, match="holds no samples"):
    audio.read_wav(path)
  with pytest.raises(FileNotFoundError):
    audio.read_wav(tmp_path / "absent.wav")
  os.mkfifo(tmp_path / "pipe.wav")
  with pytest.raises(OSError, match="a pipe, not a file"):
    audio.read_wav(tmp_path / "pipe.wav")
