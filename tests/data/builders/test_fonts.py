import shutil

import numpy as np
import pytest

from dgjax import data
from dgjax.data.builders import fonts
from dgjax.errors import UserError

FEW = ("DejaVuSans.ttf", "DejaVuSerif.ttf", "cmr10.ttf", "cmtt10.ttf")


def load(config, **keys):
  return data.load(config("fonts", **dict(characters="A01", per_character=2) | keys), 0)


@pytest.fixture
def folder(tmp_path):
  for name in FEW:
    shutil.copy(fonts.bundled() / name, tmp_path / name)
  return tmp_path


@pytest.fixture(scope="module")
def bundled(config):
  return load(config)


def test_bundled_fonts(config, bundled):
  used = fonts.Fonts(config("fonts")).fonts
  assert set(FEW) <= set(used) and len(used) >= 20
  for symbols in ("cmsy10.ttf", "cmex10.ttf", "STIXSizOneSymReg.ttf", "STIXNonUni.ttf", "LastResortHE-Regular.ttf"):
    assert symbols not in used
  assert bundled.domains == ("seen", "unseen") and bundled.classes == ("A", "0", "1")
  assert bundled.mean == bundled.std == (128 / 255,) and bundled.channels == 1
  assert sum(sum(splits.values()) for splits in bundled.splits.values()) == 6 * len(used)
  assert bundled.open("seen", "train")[0]["image"].shape == (32, 32, 1)


def test_images_are_light_centred_and_each_its_own(bundled):
  source = bundled.open("unseen", "test")
  images = [source[i]["image"][..., 0] for i in range(len(source))]
  assert len({image.tobytes() for image in images}) == len(images)
  for image in images:
    y, x = np.nonzero(image > 128)
    assert 20 < len(y) < 400 and abs((y.min() + y.max()) / 2 - 15.5) < 4 and abs((x.min() + x.max()) / 2 - 15.5) < 4


def test_an_image_depends_on_font_character_and_number_alone(config):
  few, many = (fonts.Fonts(config("fonts", characters="AB", per_character=count)) for count in (1, 3))
  pick = lambda layout, name: next(e for e in layout.examples("fonts") if e.name == name)  # noqa: E731
  assert few.read(pick(few, "cmr10.ttf/01/0")) == many.read(pick(many, "cmr10.ttf/01/0"))
  assert many.read(pick(many, "cmr10.ttf/01/0")) != many.read(pick(many, "cmr10.ttf/01/1"))


def test_rotation_and_noise(config):
  def drawn(character, rotation, noise, seed):
    font = fonts.scaled(fonts.bundled() / "DejaVuSans.ttf", "AH1")
    return fonts.draw(font, character, rotation, noise, np.random.default_rng(seed)).astype(int)
  np.testing.assert_array_equal(drawn("H", 0, 0, 0), drawn("H", 0, 0, 1))
  upright = drawn("H", 0, 0, 0)
  assert np.abs(upright - upright[:, ::-1]).mean() < 10  # symmetric
  assert upright[15:17, 16].max() > 120  # the bar is in the middle
  assert (drawn("H", 90, 0, 3) != upright).any()
  middle = (upright > 100) & (upright < 155)  # far from where noise is clipped
  spread = np.concatenate([(drawn("H", 0, 0.1, seed) - upright)[middle] for seed in range(30)])
  assert abs(spread.std() - 25.5) < 3 and abs(spread.mean()) < 4
  for seed in range(20):
    turned = drawn("A", 180, 0, seed)
    assert turned[[0, -1]].max() < 128 and turned[:, [0, -1]].max() < 128  # fits at any angle


def test_papers_and_released_fractions(config):
  names = [f"{i:03d}" for i in range(109)]
  for split, sizes in (("drawn", (71, 27, 11)), ("order", (80, 20, 9))):
    layout = fonts.Fonts(config("fonts", font_split=split))
    found = layout.assign(names, 0)
    assert tuple(len(found[part]) for part in ("train", "test", "val")) == sizes
    assert sorted(name for part in found.values() for name in part) == names
    assert (layout.assign(names, 1) == found) == (split == "order")
    assert {len(part) for part in layout.assign(names[:3], 0).values()} == {1}
  assert found["train"] == names[:80] and found["test"] == names[80:100]


def test_a_folder_of_fonts(config, folder):
  (folder / "more").mkdir()
  shutil.copy(folder / "cmr10.ttf", folder / "more" / "copy.TTF")
  shutil.copy(fonts.bundled() / "cmb10.ttf", folder / "more" / "cmb10.ttf")
  shutil.copy(fonts.bundled() / "STIXSizOneSymReg.ttf", folder / "more" / "symbols.ttf")
  layout = fonts.Fonts(config("fonts", dir=str(folder), characters="AB"))
  assert layout.fonts == (*FEW, "more/cmb10.ttf")
  assert layout.group(layout.examples("fonts")[-1]) == "more/cmb10.ttf"
  dataset = load(config, dir=str(folder))
  assert len(dataset.groups) == 3 and dataset.splits["unseen"]["test"] == 6


def test_a_broken_font(config, folder):
  (folder / "broken.otf").write_bytes(b"no font")
  with pytest.raises(UserError, match=f"cannot read font {folder}/broken.otf .*: replace or remove the file, or set"):
    load(config, dir=str(folder))
  dataset = load(config, dir=str(folder), on_error="skip")
  assert [name for name, _ in dataset.left_out["fonts"]] == ["broken.otf"]


@pytest.mark.parametrize("keys,message", [
  ({"font_split": "drwan"}, r"config\.data\.font_split 'drwan' \(did you mean 'drawn'"),
  ({"characters": "ABA"}, r"config\.data\.characters must be two or more different ones, got 'ABA'"),
  ({"per_character": 0}, r"config\.data\.per_character must be at least 1"),
  ({"noise": -0.1}, r"config\.data\.noise must be at least 0"),
  ({"characters": "字あ"}, r"no font in .* has all of config\.data\.characters"),
  ({"dir": "/nowhere"}, r"config\.data\.dir: there is no folder /nowhere: .* TTF or OTF files")])
def test_bad_settings(config, keys, message):
  with pytest.raises(UserError, match=message):
    load(config, **keys)
