import io

import numpy as np
import pytest
from PIL import Image

from dgjax.data.builders import base


@pytest.mark.parametrize("count", [0, 1, 2, 7, 30, 1000])
def test_draw_split(count):
  split = base.draw_split(count, {"val": 0.1, "test": 0.2}, 3, "salt")
  joined = np.concatenate(list(split.values()))
  assert sorted(joined.tolist()) == list(range(count)) and joined.dtype == np.int32
  assert all((np.diff(part) > 0).all() for part in split.values())
  if count:
    assert len(split["train"]) >= 1
  if count >= 30:
    assert len(split["val"]) == count // 10 and len(split["test"]) == count // 5
    other = base.draw_split(count, {"val": 0.1, "test": 0.2}, 3, "pepper")
    assert other["test"].tolist() != split["test"].tolist()


def test_encode_png():
  pixels = np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8)
  np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(base.encode_png(pixels)))), pixels)
