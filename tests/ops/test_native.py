"""What only the native package has: plans kept by shape, its own threads, bits that do not change."""
import concurrent.futures
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import psutil
import pytest
from jax import lax

from dgjax import ops
from dgjax.ops import native

pytestmark = pytest.mark.skipif(not native.available(), reason=native.reason())

LAYOUT = ("NHWC", "HWIO", "NHWC")
BITS = """
import hashlib, jax, jax.numpy as jnp, numpy as np
from dgjax import ops
ops.use("native")
x = jnp.asarray(np.random.default_rng(0).standard_normal((8, 14, 14, 24)), jnp.{dtype})
w = jnp.asarray(np.random.default_rng(1).standard_normal((3, 3, 24, 40)), jnp.{dtype})
def loss(x, w):
  y = ops.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
  return (ops.max_pool(y, (3, 3), (2, 2), "SAME").astype(jnp.float32) ** 2).sum()
step = jax.jit(jax.grad(loss, (0, 1)))
def digest():
  return hashlib.sha256(b"".join(np.asarray(g, np.float32).tobytes() for g in step(x, w))).hexdigest()
print(*{{digest() for _ in range(5)}})
"""


@pytest.fixture(autouse=True)
def use_native():
  ops.use("native")
  yield
  ops.use("auto")


def convolve(x, w):
  return ops.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=LAYOUT)


def normal(seed, *shape):
  return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def test_one_device_uses_it():
  compiled = jax.jit(jax.grad(lambda w, x: convolve(x, w).sum() ** 2)).lower(
      normal(0, 3, 3, 4, 5), normal(1, 2, 6, 6, 4)).compile().as_text()
  assert compiled.count("dgjax_native_contract") >= 2 and "convolution(" not in compiled


@pytest.mark.parametrize(("filters", "ours"), [(32, False), (33, True)])
def test_gradients_of_images_of_few_channels_and_filters_are_left_to_xla(filters, ours):
  compiled = jax.jit(lambda x, w, dy: jax.vjp(lambda x: convolve(x, w), x)[1](dy)).lower(
      normal(0, 2, 6, 6, 3), normal(1, 3, 3, 3, filters), normal(2, 2, 6, 6, filters)).compile().as_text()
  assert ("dgjax_native_contract" in compiled) == ours and ("convolution(" in compiled) != ours


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_bits_are_the_same_in_every_process(dtype):
  code = BITS.format(dtype=dtype)
  runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
          for _ in range(2)]
  assert runs[0] == runs[1] and len(runs[0].split()) == 1


def test_memory_is_level_over_many_calls():
  f = jax.jit(jax.grad(lambda w, x: (convolve(x, w) ** 2).sum()))
  w, x = normal(0, 3, 3, 4, 5), normal(1, 2, 6, 6, 4)
  process = psutil.Process()

  def grown(calls):
    before = process.memory_info().rss
    for _ in range(calls):
      f(w, x).block_until_ready()
    return process.memory_info().rss - before
  grown(1000)
  assert min(grown(10_000) for _ in range(3)) < 8 << 20  # a leak would show every time, the allocator's whims do not


def test_plans_are_bounded():
  import dgjax_native
  def spec(n):
    return (3, 1, 1, 1, 1, n, 16, 16, 0, 0)
  for n in range(1, 700):  # more than are kept
    assert not dgjax_native.refusal(spec(n))
  process = psutil.Process()
  before = process.memory_info().rss
  for n in range(700, 1400):
    assert not dgjax_native.refusal(spec(n))
  assert process.memory_info().rss - before < 64 << 20


def test_several_threads_at_once():
  cases = [(normal(n, 2, 5 + n, 6, 4), normal(n, 3, 3, 4, 5)) for n in range(6)]
  exact = [lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=LAYOUT) for x, w in cases]
  f = jax.jit(convolve)

  def repeat(case):
    return [np.asarray(f(*case)) for _ in range(30)]
  with concurrent.futures.ThreadPoolExecutor(6) as pool:
    for results, y in zip(pool.map(repeat, cases), exact, strict=True):
      for result in results:
        np.testing.assert_allclose(result, y, rtol=0, atol=1e-4)


@pytest.mark.parametrize("variables", [{"DGJAX_NATIVE_THREADS": "1", "NPROC": "2"}, {"NPROC": "1"}])
def test_threads_can_be_limited(variables):
  environment = os.environ | variables
  said = subprocess.run([sys.executable, "-c", "import dgjax_native; print(dgjax_native.describe())"],
                        capture_output=True, text=True, check=True, env=environment).stdout
  assert said.strip().endswith("1 thread")


def test_refusals_say_why():
  import dgjax_native
  negative = (0, 0, 1, 1, 1, 2, 6, 6, 4, 3, 3, 5, 5, 5, 1, 1, 1, -1, 0, 0, 0, 1, 1)
  assert "negative padding" in dgjax_native.refusal(negative)
  assert "malformed" in dgjax_native.refusal((0, 1))
  with pytest.raises(ValueError, match="malformed"):
    dgjax_native.implementation(())
  square = (0, 0, 1, 1, 1, 2, 6, 6, 16, 3, 3, 6, 6, 16, 1, 1, 1, 1, 1, 1, 1, 1, 1)
  assert "ref" not in dgjax_native.implementation(square)
