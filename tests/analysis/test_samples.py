import types

import helpers
import numpy as np
import pytest

from dgjax.analysis import samples
from dgjax.analysis.embed import Sample
from dgjax.errors import UserError


def test_puzzles_are_the_images_tiles_in_another_order():
  images = np.random.default_rng(0).normal(size=(5, 8, 8, 3)).astype(np.float32)
  before = Sample(images, np.arange(5), ("photo",) * 5, np.zeros(5, np.int32))
  after = samples.changed(types.SimpleNamespace(algorithm=helpers.make("jigsaw")), before)
  assert after.domains == ("photo, puzzle",) * 5

  def tiles(image):
    return [image[i:i + 4, j:j + 4].tobytes() for i in (0, 4) for j in (0, 4)]

  for image, shuffled in zip(images, after.images, strict=True):
    assert sorted(tiles(image)) == sorted(tiles(shuffled)) and tiles(image) != tiles(shuffled)


def test_a_method_that_changes_no_images_is_named():
  run = types.SimpleNamespace(algorithm=helpers.make("aggregate"), dataset=types.SimpleNamespace(groups=()),
                              sources=("photo",), config=types.SimpleNamespace(
                                  batch_size=2, algorithm=types.SimpleNamespace(name="aggregate")))
  with pytest.raises(UserError, match="this run is of aggregate"):
    samples.changed(run, Sample(np.zeros((2, 8, 8, 3)), np.zeros(2), ("photo",) * 2, np.zeros(2)))
