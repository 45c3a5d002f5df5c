import io

import numpy as np
import pytest
from PIL import Image

from dgjax import data
from dgjax.data import dataset
from dgjax.data.dataset import Dataset
from dgjax.errors import UserError


def encode(image, form="PNG", **keys):
  stream = io.BytesIO()
  image.save(stream, form, **keys)
  return stream.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA", "P", "1", "CMYK", "I;16"])
def test_decode_any_mode(mode):
  if mode == "I;16":
    image = Image.fromarray(np.full((3, 4), 153 << 8, np.uint16))
  else:
    image = Image.new("RGB", (4, 3), (153, 153, 153)).convert(mode)
  encoded = encode(image, "TIFF" if mode == "CMYK" else "PNG")
  decoded = dataset.decode(encoded)
  assert decoded.mode == "RGB" and decoded.size == (4, 3)
  if mode != "1":
    np.testing.assert_allclose(np.asarray(decoded), 153, atol=2)
  assert dataset.decode(encoded, channels=1).mode == "L"


def test_decode_palette_with_transparency():
  image = Image.new("P", (4, 3))
  image.putpalette([10, 20, 30] * 256)
  assert dataset.decode(encode(image, transparency=b"\x00" * 256)).getpixel((0, 0)) == (10, 20, 30)


def test_open_reads_lazily_and_in_any_order(uneven):
  source = uneven.open("wool", "train")
  assert len(source) == 14 and source.indices.dtype == np.int32
  for i in (13, 0, 7):
    example = source[i]
    assert example["image"].dtype == np.uint8 and example["image"].shape[1:] == (12, 3)
    assert isinstance(example["label"], int)
  with pytest.raises(IndexError):
    source[14]
  assert [source[i]["label"] for i in range(14)] == [example["label"] for example in source]


def test_unknown_domain_and_split(uneven):
  assert uneven.check("ink") == "ink"
  with pytest.raises(UserError, match=r"data set 'folder' has no domain 'inc' \(did you mean 'ink'\?\)"):
    uneven.open("inc", "train")
  with pytest.raises(UserError, match=r"has no split 'dev' \(known: test, train, val\)"):
    uneven.open("ink", "dev")


def test_a_damaged_record_is_named(uneven):
  source = uneven.open("wool", "train")
  broken = dataset.Source(
    [b"nothing"] * 14, np.zeros(14, np.int32), source.indices, 3, "wool", "train", "the prepared data in /cache/wool")
  with pytest.raises(UserError, match=r"record 2 of the prepared data in /cache/wool cannot be decoded.*delete that"):
    broken[2]


def test_from_folder(tmp_path, draw, config):
  root = draw(tmp_path / "root")
  made = Dataset.from_folder(root, cache_dir=str(tmp_path / "cache"), val_fraction=0.2, seed=3)
  keys = {"dir": str(root), "cache_dir": str(tmp_path / "cache"), "val_fraction": 0.2}
  assert made.digests == data.load(config("folder", **keys), 3).digests
  with pytest.raises(UserError, match=r"from_folder has no setting 'val_fractoin' \(did you mean 'val_fraction'\?\)"):
    Dataset.from_folder(root, val_fractoin=0.2)
