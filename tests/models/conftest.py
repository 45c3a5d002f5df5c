"""Random variables of a network, drawn by NumPy: compiling JAX's generators would take longer than most tests."""

import jax
import numpy as np
import pytest


@pytest.fixture(scope="session")
def random_variables():
  """A function that draws every parameter and statistic of a network for images of some side."""
  def draw(network, side, seed=0, channels=3):
    images = jax.ShapeDtypeStruct((1, side, side, channels), np.float32)
    shapes = jax.eval_shape(lambda x: network.init({"params": jax.random.key(0)}, x), images)
    rng = np.random.default_rng(seed)

    def fill(path, leaf):
      if path[-1].key == "kernel":
        return rng.normal(0, np.sqrt(2 / np.prod(leaf.shape[:-1])), leaf.shape).astype(np.float32)
      return rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
    return jax.tree_util.tree_map_with_path(fill, shapes)
  return draw
