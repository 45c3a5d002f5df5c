import textwrap

import pytest

from dgjax import data
from dgjax.errors import UserError

KEYS = {"name", "dir", "cache_dir", "image_size", "augment", "mixing", "val_fraction", "test_fraction", "split_seed",
        "on_error", "threads", "prefetch", "on_device"}


@pytest.mark.parametrize("name", sorted(data.DATASETS))
def test_every_data_set_has_all_keys_and_a_description(name):
  assert set(data.defaults(name)) == KEYS | set(data.DATASETS[name].builder.defaults)
  assert data.defaults(name)["name"] == name == data.DATASETS[name].builder.name
  assert data.DATASETS[name].description


def test_sizes():
  assert {name: data.defaults(name)["image_size"] for name in data.DATASETS} == {
    "digit_five": 32, "digits": 16, "digits_mp": 16, "domainnet": 224, "folder": 224, "fonts": 32, "handwriting": 32,
    "mnist_mp": 32, "mnist_up": 32, "office31": 224, "pacs": 224, "rotated_digits": 16, "rotated_mnist": 16,
    "speech_commands": 224, "tfds": 32, "visda2017": 224}


def test_input_shapes_need_no_data(config):
  assert data.input_shape(config("mnist_mp", dir="/nowhere")) == (32, 32, 3)
  assert data.input_shape(config("rotated_mnist", image_size=28)) == (28, 28, 1)
  assert data.input_shape(config("fonts")) == (32, 32, 1)
  assert data.input_shape(config("speech_commands")) == (98, 40, 1)


def test_unknown_name(config):
  with pytest.raises(UserError, match=r"unknown data set 'pcas' in config.data.name \(did you mean 'pacs'\?\)"):
    data.defaults("pcas")
  with pytest.raises(UserError, match="unknown data set"):
    data.load(config("digits", name="nothing"), 0)


@pytest.mark.parametrize("name", [
  "folder", "pacs", "domainnet", "mnist_mp", "mnist_up", "rotated_mnist", "handwriting", "speech_commands",
  "digit_five", "office31", "tfds", "visda2017"])
def test_folder_not_given_or_absent(config, name, tmp_path):
  with pytest.raises(UserError, match=r"needs config\.data\.dir"):
    data.load(config(name), 0)
  with pytest.raises(UserError, match=f"config.data.dir: there is no folder {tmp_path}/absent: point it at"):
    data.load(config(name, dir=str(tmp_path / "absent")), 0)


def test_bad_settings(config):
  with pytest.raises(UserError, match=r"config\.data\.on_error 'skp' \(did you mean 'skip'"):
    data.load(config("digits", on_error="skp"), 0)
  with pytest.raises(UserError, match=r"config.data.val_fraction must be in \[0, 1\), got 1.5"):
    data.load(config("digits", val_fraction=1.5), 0)
  with pytest.raises(UserError, match=r"val_fraction \+ test_fraction must be below 1"):
    data.load(config("digits", val_fraction=0.5, test_fraction=0.5), 0)
  with pytest.raises(UserError, match=r"config\.seed must be at least 0"):
    data.load(config("digits"), -1)


OWN = """
  import numpy as np
  from dgjax.data.builders import base

  class Squares(base.Layout):
    '''Squares of two sizes.'''
    name = "squares"
    domains, classes = ("red", "green"), ("small", "large")
    defaults = {"image_size": 8, "augment": "none"}

    def examples(self, store):
      return [base.Example(f"{store}/{i}", i % 2) for i in range(10)]

    def read(self, example):
      pixels = np.zeros((8, 8, 3), np.uint8)
      side = (2, 4)[example.label]
      pixels[:side, :side, self.domains.index(example.name.split("/")[0])] = 255
      return base.encode_png(pixels)

    def split(self, domain, examples, seed):
      return base.draw_split(len(examples), {"val": 0.2, "test": 0.2}, seed, domain)

    def split_name(self, seed):
      return f"seed{seed}"

  class Unfinished(base.Layout):
    name = "unfinished"

  class Other:
    name = "other"
"""


@pytest.fixture
def own(tmp_path):
  path = tmp_path / "mine.py"
  path.write_text(textwrap.dedent(OWN))
  return path


def test_a_data_set_of_ones_own(own, config):
  assert data.find(f"{own}:Squares").description == "Squares of two sizes."
  settings = config(f"{own}:Squares")
  assert set(settings) == KEYS and data.input_shape(settings) == (8, 8, 3)
  dataset = data.load(settings, 0)
  assert dataset.name == "squares" and dataset.splits["green"] == {"train": 6, "val": 2, "test": 2}
  for example in dataset.open("green", "train"):
    assert (example["image"][..., 1] > 0).sum() == (4, 16)[example["label"]]


@pytest.mark.parametrize("name,message", [
  ("Square", r"mine.py has no 'Square' \(did you mean 'Squares'\?\)"),
  ("Other", "mine.py:Other is no subclass of dgjax.data.builders.base.Layout"),
  ("Unfinished", "mine.py:Unfinished lacks examples, read, split, split_name, which dgjax.data.builders.base.Layout")])
def test_what_is_wrong_with_a_data_set_of_ones_own(own, name, message):
  with pytest.raises(UserError, match=f"^config.data.name: .*{message}"):
    data.find(f"{own}:{name}")
