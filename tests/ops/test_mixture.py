import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from dgjax import ops
from dgjax.ops import mixture, native

# Batch, positions, in, out, k: few positions and many, more than one block or tile of the native code, odd sizes.
FEW = mixture.FEW_POSITIONS
SHAPES = [(3, FEW, 5, 7, 2), (2, FEW + 1, 6, 3, 4), (2, 1030, 8, 8, 3), (2, 17, 40, 1100, 5), (2, 18, 1100, 40, 1)]


def normal(seed, *shape, dtype=jnp.float32):
  return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


def operands(batch, positions, inputs, outputs, k, dtype=jnp.float32):
  return (normal(0, batch, positions, inputs, dtype=dtype), normal(1, batch, k, dtype=dtype),
          normal(2, k, inputs, outputs, dtype=dtype))


def close(ours, theirs, tolerance=2e-6):
  for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
    assert a.shape == b.shape and a.dtype == b.dtype
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    np.testing.assert_allclose(a, b, atol=tolerance * (np.abs(b).max() + 1e-6), rtol=0)


def reference(x, routing, phi):
  return jnp.einsum("bri,bk,kio->bro", x, routing, phi)


def gradients(f):
  return jax.grad(lambda *xs: (f(*xs).astype(jnp.float32) ** 3).sum() / 3, (0, 1, 2))


def second(f):
  return jax.grad(lambda *xs: sum((g.astype(jnp.float32) ** 2).sum() for g in gradients(f)(*xs)), (0, 1, 2))


def third(f):
  return jax.grad(lambda *xs: sum((g * x).sum() for g, x in zip(second(f)(*xs), xs, strict=True)), (0, 1, 2))


@pytest.mark.parametrize("shape", SHAPES)
def test_it_and_its_gradients_equal_loops(backend, shape):
  x, routing, phi = (np.asarray(a, np.float64) for a in operands(*shape))
  dy = np.random.default_rng(3).standard_normal((*x.shape[:2], shape[3]))
  y, dx, d_routing, d_phi = (np.zeros_like(a) for a in (dy, x, routing, phi))
  for b in range(len(x)):
    for k, matrix in enumerate(phi):
      y[b] += routing[b, k] * (x[b] @ matrix)
      dx[b] += routing[b, k] * (dy[b] @ matrix.T)
      d_routing[b, k] = ((x[b] @ matrix) * dy[b]).sum()
      d_phi[k] += routing[b, k] * (x[b].T @ dy[b])
  ours, backward = jax.vjp(jax.jit(ops.mix_channels), *operands(*shape))
  single = [np.asarray(a, np.float32) for a in (y, dx, d_routing, d_phi)]
  close((ours, *backward(jnp.asarray(dy, jnp.float32))), single, 1e-5)


@pytest.mark.parametrize("shape", SHAPES[:3])
def test_higher_orders(backend, shape):
  xs = operands(*shape)
  xs = (xs[0] * 0.3, xs[1], xs[2] * 0.3)
  for derived, tolerance in ((gradients, 1e-5), (second, 1e-4), (third, 1e-3)):
    close(jax.jit(derived(ops.mix_channels))(*xs), jax.jit(derived(reference))(*xs), tolerance)


@pytest.mark.parametrize("axes", [(0, None, None), (1, 2, None), (None, None, 1), (0, 0, 0)])
def test_vmap(backend, axes):
  xs = [normal(i, *shape) if axis is None else jnp.moveaxis(normal(i, 3, *shape), 0, axis)
        for i, (shape, axis) in enumerate(zip([(2, 19, 6), (2, 4), (4, 6, 5)], axes, strict=True))]
  for derived in (lambda f: f, gradients, second):
    close(jax.jit(jax.vmap(derived(ops.mix_channels), axes))(*xs), jax.vmap(derived(reference), axes)(*xs), 1e-4)


@pytest.mark.parametrize("positions", [4, 40])
def test_bfloat16(backend, positions):
  xs = operands(2, positions, 16, 24, 4, dtype=jnp.bfloat16)
  close(jax.jit(ops.mix_channels)(*xs), reference(*xs), 2e-2)
  close(jax.jit(gradients(ops.mix_channels))(*xs), gradients(reference)(*xs), 6e-2)


@pytest.mark.parametrize("positions", [4, 40])
def test_several_devices(backend, positions):
  xs = operands(8, positions, 6, 5, 3)
  mesh = Mesh(np.asarray(jax.devices()[:4]), ("data",))
  step = jax.jit(gradients(ops.mix_channels))
  placed = [jax.device_put(x, NamedSharding(mesh, P(*axis))) for x, axis in zip(xs, (("data",), ("data",), ()),
                                                                                 strict=True)]
  compiled = step.lower(*placed).compile().as_text()
  assert "dgjax_native" not in compiled and "all-reduce" in compiled and "all-gather" not in compiled
  close(step(*placed), gradients(reference)(*xs), 1e-5)
  mapped = jax.shard_map(lambda *xs: jax.lax.psum(ops.mix_channels(*xs).sum(), "data"), mesh=mesh,
                         in_specs=(P("data"), P("data"), P()), out_specs=P())
  close(jax.jit(jax.grad(mapped, (0, 1, 2)))(*xs), jax.grad(lambda *xs: reference(*xs).sum(), (0, 1, 2))(*xs), 1e-5)


@pytest.mark.skipif(not native.available(), reason=native.reason())
def test_one_device_uses_native_code():
  ops.use("native")
  compiled = jax.jit(gradients(ops.mix_channels)).lower(*operands(*SHAPES[1])).compile().as_text()
  assert "dgjax_native_mix_gradients" in compiled and 'dgjax_native_mix"' in compiled and " dot(" not in compiled
  ops.use("auto")


@pytest.mark.skipif(not native.available(), reason=native.reason())
def test_bits_do_not_depend_on_the_threads():
  code = f"""
import hashlib, sys
sys.path.insert(0, {os.path.dirname(__file__)!r})
import jax, numpy as np, test_mixture as t
xs = t.operands(4, 40, 96, 700, 4)
found = jax.jit(t.gradients(t.ops.mix_channels))(*xs)
print(hashlib.sha256(b"".join(np.asarray(g).tobytes() for g in found)).hexdigest())
"""
  said = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                         env=os.environ | {"DGJAX_NATIVE_THREADS": threads, "NPROC": "1"}).stdout for threads in "123"]
  assert len(set(said)) == 1


@pytest.mark.parametrize("change", [{"positions": 0}, {"k": 0}])
def test_nothing_to_mix(change):
  sizes = {"batch": 2, "positions": 3, "inputs": 4, "outputs": 5, "k": 2} | change
  assert jnp.array_equal(ops.mix_channels(*operands(**sizes)), jnp.zeros((2, sizes["positions"], 5)))


def test_what_does_not_fit_is_refused():
  x, routing, phi = operands(*SHAPES[0])
  for bad in ((x[:, :, 1:], routing, phi), (x, routing[1:], phi), (x[0], routing, phi),
              (x.astype(jnp.bfloat16), routing, phi)):
    with pytest.raises(ValueError, match="do not fit together"):
      ops.mix_channels(*bad)
