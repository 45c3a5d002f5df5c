import numpy as np
import pytest

from dgjax import data
from dgjax.data import audio
from dgjax.data.builders import speech_commands
from dgjax.errors import UserError
from dgjax.experiment import normalise


@pytest.fixture
def root(tmp_path, commands):
  return commands(tmp_path / "root")


def test_speakers_are_seen_or_unseen(speech):
  assert speech.domains == ("seen", "unseen") and speech.targets == ("unseen",) and len(speech.groups) == 4
  assert speech.classes[:3] == ("yes", "no", "up") and speech.classes[10:] == ("silence", "unknown")
  assert speech.array_shape == (98, 40, 1) and (speech.mean, speech.std) == ((0.0,), (1.0,))
  total = sum(sum(splits.values()) for splits in speech.splits.values())
  assert total == 6 * 10 + 6 + 2  # each says ten commands, so one silence each; two say "cat"
  source = speech.open("seen", "train")
  assert set(source.groups) == set(range(4))
  labels = [source[i]["label"] for i in range(len(source))]
  assert all(labels.count(label) == 4 for label in range(10)) and labels.count(10) == 4


def test_features_are_stored_as_they_are(config, root):
  dataset = data.load(config("speech_commands", dir=str(root), features="logmel"), 0)
  source = dataset.open("unseen", "test")
  layout = speech_commands.SpeechCommands(config("speech_commands", dir=str(root), features="logmel"))
  examples = layout.examples("speakers")
  for i in range(len(source)):
    example, listed = source[i], examples[source.indices[i]]
    assert example["image"].dtype == np.float32 and example["image"].shape == (98, 40, 1)
    np.testing.assert_array_equal(example["image"], layout.read(listed))
    if example["label"] < 10:
      samples = np.zeros(16000, np.float32)
      samples[:1600] = audio.read_wav(root / listed.name)  # filled up with zeros
      np.testing.assert_array_equal(example["image"][..., 0], audio.log_mel(samples))


def test_coefficients_are_scaled_by_the_training_speakers(config, root):
  load = lambda **keys: data.load(config("speech_commands", dir=str(root), speakers=2, **keys), 0)  # noqa: E731
  plain, scaled = load(), load(scaling="standard")
  source = scaled.open("seen", "train")
  frames = np.concatenate([source[i]["image"][..., 0] for i in range(len(source))])
  np.testing.assert_allclose(scaled.mean, frames.mean(0), rtol=1e-4, atol=1e-4)
  np.testing.assert_allclose(scaled.std, frames.std(0), rtol=1e-3, atol=1e-3)
  batch = {"image": np.stack([source[i]["image"] for i in range(len(source))])}
  images = np.asarray(normalise(scaled, batch)["image"]).reshape(-1, 40)
  np.testing.assert_allclose(images.mean(0), 0, atol=1e-3)
  np.testing.assert_allclose(images.std(0), 1, rtol=1e-2)
  np.testing.assert_array_equal(normalise(plain, batch)["image"], batch["image"])
  assert plain.digests == scaled.digests


def test_longer_recordings_are_cut():
  samples = np.random.default_rng(0).normal(size=16500)
  np.testing.assert_array_equal(speech_commands.first_second(samples), samples[:16000])


def test_silence_is_quiet_noise_and_differs(config, root):
  layout = speech_commands.SpeechCommands(config("speech_commands", dir=str(root), silence=0.5))
  silent = [example for example in layout.examples("speakers") if example.label == 10]
  assert len(silent) == 30 and len({layout.read(example).tobytes() for example in silent}) == 30
  noise = np.abs(audio.read_wav(root / "_background_noise_" / "hum.wav")).mean()
  loud = np.array([np.abs(layout._silence(example.name)).mean() for example in silent]) / noise
  assert (loud < 1.1).all() and loud.min() < 0.3 < 0.6 < loud.max()


def test_other_words_are_unknown_as_far_as_wanted(config, root):
  def unknown(share):
    layout = speech_commands.SpeechCommands(config("speech_commands", dir=str(root), unknown=share))
    return [example.name for example in layout.examples("speakers") if example.label == 11]
  assert unknown(0.1) == [f"cat/{speaker:08x}_nohash_1.wav" for speaker in range(2)]
  assert unknown(0.0) == []


def test_number_of_training_speakers(config, root):
  some = {count: data.load(config("speech_commands", dir=str(root), speakers=count), 0) for count in (0, 1, 2, 4)}
  assert {count: len(dataset.groups) for count, dataset in some.items()} == {0: 4, 1: 1, 2: 2, 4: 4}
  assert set(some[1].groups) < set(some[2].groups) < set(some[4].groups) == set(some[0].groups)
  assert some[1].splits["unseen"] == some[0].splits["unseen"] and some[1].splits["seen"]["val"] == 11
  assert some[2].splits["seen"]["train"] < some[0].splits["seen"]["train"]
  with pytest.raises(UserError, match=r"config\.data\.speakers is 5, and 4 of the 6 speakers are for training"):
    data.load(config("speech_commands", dir=str(root), speakers=5), 0)


@pytest.mark.parametrize("content,reason", [(b"", "it ends early"), (b"no sound", "no WAV file"), ("cut", "cut short")])
def test_a_broken_recording_is_named(config, root, content, reason):
  path = root / "up" / "00000002_nohash_0.wav"
  path.write_bytes(path.read_bytes()[:-2] if content == "cut" else content)
  with pytest.raises(UserError, match=f"cannot read recording {path} .*{reason}.*: replace or remove the file, or set "
                                      "config.data.on_error=skip"):
    data.load(config("speech_commands", dir=str(root)), 0)
  dataset = data.load(config("speech_commands", dir=str(root), on_error="skip"), 0)
  assert [name for name, _ in dataset.left_out["speakers"]] == ["up/00000002_nohash_0.wav"]
  assert sum(sum(splits.values()) for splits in dataset.splits.values()) == 67


def test_wrong_folders(config, root, record):
  load = lambda **keys: data.load(config("speech_commands", dir=str(root), **keys), 0)  # noqa: E731
  record(root / "go" / "who.wav", [1, 2])
  with pytest.raises(UserError, match=f"the name of {root}/go/who.wav is not SPEAKER_nohash_N.wav: rename or remove"):
    load()
  (root / "go" / "who.wav").unlink()
  (root / "_background_noise_" / "hum.wav").write_bytes(b"")
  with pytest.raises(UserError, match="cannot read recording .*hum.wav"):
    load()
  (root / "_background_noise_" / "hum.wav").unlink()
  with pytest.raises(UserError, match=r"_background_noise_/\*\.wav to cut silence from: .*config\.data\.silence=0"):
    load()
  assert load(silence=0.0).splits["unseen"]["test"] >= 10
  (root / "stop").rename(root / "halt")
  with pytest.raises(UserError, match=f"there is no folder {root}/stop: config.data.dir must be the folder"):
    load(silence=0.0)


@pytest.mark.parametrize("keys,message", [
  ({"features": "mfc"}, r"config\.data\.features 'mfc' \(did you mean 'mfcc'"),
  ({"scaling": "standart"}, r"config\.data\.scaling 'standart' \(did you mean 'standard'"),
  ({"speakers": -1}, r"config\.data\.speakers must be at least 0")])
def test_bad_settings(config, root, keys, message):
  with pytest.raises(UserError, match=message):
    data.load(config("speech_commands", dir=str(root), **keys), 0)
