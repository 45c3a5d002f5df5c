"""The decoder's sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dgjax.models.decoder import Decoder, crop


@pytest.mark.parametrize("features, images, widths", [
    ((5, 5, 128), (32, 32, 3), [64, 32, 16, 3]),  # RCL: four layers
    ((4, 4, 128), (28, 28, 3), [64, 32, 16, 3]),
    ((7, 7, 512), (222, 222, 3), [256, 128, 64, 32, 16, 3]),
    ((2, 2, 64), (16, 16, 3), [32, 16, 16, 3]),
    ((1, 1, 128), (16, 16, 3), [64, 32, 16, 16, 3]),
    ((3, 11, 24), (13, 40, 1), [16, 16, 16, 1]),
    ((6, 6, 8), (6, 5, 1), [1])])
def test_any_map_is_decoded_to_any_size(features, images, widths):
  decoder = Decoder(images)
  output, variables = jax.eval_shape(lambda: decoder.init_with_output(jax.random.key(0), jnp.zeros((2, *features))))
  assert (output.shape, output.dtype) == ((2, *images), jnp.float32)
  made = [variables["params"][f"ConvTranspose_{i}"]["bias"].shape[0] for i in range(len(widths))]
  assert made == widths and len(variables["params"]) == len(widths)


def test_output_is_float32_between_minus_one_and_one():
  x = 100 * jax.random.normal(jax.random.key(0), (2, 2, 2, 4), jnp.bfloat16)
  output, _ = Decoder((5, 5, 1)).init_with_output(jax.random.key(1), x)
  assert output.dtype == jnp.float32 and output.std() > 0.1 and np.abs(output).max() <= 1


def test_the_middle_is_kept():
  x = jnp.arange(20.0).reshape(1, 4, 5, 1)
  np.testing.assert_array_equal(crop(x, [2, 3])[0, ..., 0], [[6, 7, 8], [11, 12, 13]])
  np.testing.assert_array_equal(crop(x, [9, 5]), x)
