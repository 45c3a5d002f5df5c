import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from dgjax import ops
from dgjax.ops import convolution

LAYOUT = ("NHWC", "HWIO", "NHWC")


def normal(seed, *shape):
  return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def close(ours, theirs, tolerance=1e-5):
  for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
    assert a.shape == b.shape and a.dtype == b.dtype
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    np.testing.assert_allclose(a, b, atol=tolerance * (np.abs(b).max() + 1e-6), rtol=0)


def convolve(op, strides=(1, 1), padding="SAME", dilation=(1, 1), groups=1):
  return functools.partial(op, window_strides=strides, padding=padding, rhs_dilation=dilation, dimension_numbers=LAYOUT,
                           feature_group_count=groups)


def gradients(f):
  return jax.grad(lambda x, w: (f(x, w).astype(jnp.float32) ** 3).sum(), (0, 1))


def second(f):
  return jax.grad(lambda x, w: sum((g ** 2).sum() for g in gradients(f)(x, w)), (0, 1))


@st.composite
def cases(draw):
  groups = draw(st.sampled_from([1, 1, 2, 3]))
  kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
  dilation = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
  strides = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
  padding = draw(st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 2))] * 2))
  size = [draw(st.integers(max(1, (k - 1) * d + 1 - sum(p)), 12))
          for k, d, p in zip(kernel, dilation, padding, strict=True)]
  channels, filters = groups * draw(st.integers(1, 9)), groups * draw(st.integers(1, 9))
  shapes = (draw(st.integers(1, 5)), *size, channels), (*kernel, channels // groups, filters)
  return shapes, {"strides": strides, "padding": padding, "dilation": dilation, "groups": groups}


@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-5), ("bfloat16", 1e-2)])
def test_as_lax(backend, dtype, tolerance):
  @settings(max_examples=5, deadline=None, derandomize=True, database=None)
  @given(cases())
  def check(case):
    (images, kernel), geometry = case
    x, w = normal(0, *images).astype(dtype), normal(1, *kernel).astype(dtype)
    y, pull = jax.vjp(convolve(ops.conv_general_dilated, **geometry), x, w)
    exact, pull_exact = jax.vjp(convolve(lax.conv_general_dilated, **geometry), x, w)
    close(y, exact, tolerance)
    dy = normal(2, *y.shape).astype(dtype)
    close(pull(dy), pull_exact(dy), tolerance)
  check()


def test_the_forms_for_xla(backend):
  """Of a CPU: as products where padding, strides and groups leave them."""
  for size, kernel, strides, padding, groups in [
      ((8, 9, 9, 16), (5, 5, 16, 8), (1, 1), "SAME", 1), ((8, 9, 8, 3), (3, 3, 3, 8), (2, 2), "SAME", 1),
      ((4, 8, 8, 6), (1, 1, 6, 4), (2, 2), "SAME", 1), ((3, 7, 5, 6), (1, 1, 6, 4), (1, 1), "SAME", 1),
      ((3, 8, 6, 6), (1, 1, 6, 4), (3, 4), "VALID", 1),
      ((3, 7, 5, 6), (1, 1, 6, 4), (1, 1), ((1, -1), (0, 0)), 1), ((3, 7, 5, 6), (1, 1, 3, 4), (1, 1), "SAME", 2)]:
    x, w = normal(0, *size), normal(1, *kernel)
    ours, lax_ = (convolve(op, strides, padding, groups=groups)
                  for op in (ops.conv_general_dilated, lax.conv_general_dilated))
    close(jax.jit(ours)(x, w), lax_(x, w))
    close(jax.jit(gradients(ours))(x, w), gradients(lax_)(x, w))
    half = x.astype(jnp.bfloat16), w.astype(jnp.bfloat16)
    close(jax.jit(gradients(ours))(*half), gradients(lax_)(*half), 2e-2)


@pytest.mark.parametrize("kernel, strides, padding, dilation", [
    ((3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1)), ((3, 3), (1, 1), ((0, 2), (1, 0)), (1, 1)),
    ((3, 2), (2, 1), ((1, 0), (0, 2)), (1, 2))])
def test_bfloat16_as_products(monkeypatch, kernel, strides, padding, dilation):
  """Both forms of the forward pass and of the gradients, which networks take from 64 and 128 channels on."""
  x, w = normal(0, 2, 9, 8, 5), normal(1, *kernel, 5, 6)
  geometry = {"strides": strides, "padding": padding, "dilation": dilation}
  half = x.astype(jnp.bfloat16), w.astype(jnp.bfloat16)
  exact, pull = jax.vjp(convolve(lax.conv_general_dilated, **geometry), *(a.astype(jnp.float32) for a in half))
  dy = normal(2, *exact.shape).astype(jnp.bfloat16)
  exact = jax.tree.map(lambda a: a.astype(jnp.bfloat16), (exact, *pull(dy.astype(jnp.float32))))
  monkeypatch.setattr(convolution, "DEEP", 1)

  def passes(x, w, dy):
    y, pull = jax.vjp(convolve(ops.conv_general_dilated, **geometry), x, w)
    return y, *pull(dy)

  with ops.only("xla"):
    lowered = jax.jit(passes).lower(*half, dy)
  # The gradient of images is XLA's where there are strides.
  assert lowered.as_text().count("stablehlo.convolution") == (strides != (1, 1))
  close(lowered.compile()(*half, dy), exact, 1.2e-2)


@pytest.mark.parametrize("count", [1, 3, 6])
def test_gradients_of_kernels_of_few_channels_in_blocks(monkeypatch, count):
  """Of six images, in so many blocks that the gradients of a block's results stay in a cache."""
  x, w = normal(0, 6, 9, 8, 3), normal(1, 7, 7, 3, 4)
  ours, exact = (convolve(op, (2, 2)) for op in (ops.conv_general_dilated, lax.conv_general_dilated))
  dy = normal(2, *exact(x, w).shape)
  monkeypatch.setattr(convolution, "CACHE", dy.nbytes // count)

  def gradient(f):
    return lambda x, w, dy: jax.vjp(functools.partial(f, x), w)[1](dy)

  with ops.only("xla"):
    lowered = jax.jit(gradient(ours)).lower(x, w, dy)
  assert lowered.as_text().count("stablehlo.convolution") == count
  close(lowered.compile()(x, w, dy), gradient(exact)(x, w, dy))


@pytest.mark.parametrize("groups", [1, 2])
def test_gradients_of_gradients(backend, groups):
  x, w = normal(0, 3, 7, 6, 4), normal(1, 3, 2, 4 // groups, 6)
  ours, lax_ = (convolve(op, (2, 1), groups=groups) for op in (ops.conv_general_dilated, lax.conv_general_dilated))
  close(jax.jit(second(ours))(x, w), second(lax_)(x, w), 1e-4)
  close(jax.jvp(gradients(ours), (x, w), (w.sum() * x, w * w)), jax.jvp(gradients(lax_), (x, w), (w.sum() * x, w * w)),
        1e-4)


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0), (1, 3)])
def test_vmap(backend, axes):
  x, w = normal(0, 3, 7, 6, 4), normal(1, 3, 3, 4, 5)
  xs = x if axes[0] is None else jnp.stack([x, 2 * x, x + 1], axes[0])
  ws = w if axes[1] is None else jnp.stack([w, w - 1, 3 * w], axes[1])
  ours, lax_ = (convolve(op) for op in (ops.conv_general_dilated, lax.conv_general_dilated))
  for derived in (gradients, second):
    close(jax.jit(jax.vmap(derived(ours), axes))(xs, ws), jax.jit(jax.vmap(derived(lax_), axes))(xs, ws), 1e-4)
  def total(f):
    return jax.grad(lambda x, w: (jax.vmap(f, axes)(x, w) ** 2).sum(), (0, 1))
  close(total(ours)(xs, ws), total(lax_)(xs, ws))


def test_vmap_twice(backend):
  x, w = normal(0, 2, 3, 2, 6, 6, 4), normal(1, 2, 3, 3, 4, 5)
  def both(op):
    return jax.vmap(jax.vmap(gradients(convolve(op)), (0, None)))(x, w)
  close(both(ops.conv_general_dilated), both(lax.conv_general_dilated))


def test_scan_and_checkpoint(backend):
  x, w = normal(0, 2, 6, 6, 4), normal(1, 3, 3, 3, 4, 4) * 0.2

  def loss(op):
    layer = jax.checkpoint(lambda h, w: (jnp.tanh(convolve(op)(h, w)), None))
    return lambda x, w: (lax.scan(layer, x, w)[0] ** 2).sum()
  def value(op):
    return jax.jit(jax.value_and_grad(loss(op), (0, 1)))(x, w)
  close(value(ops.conv_general_dilated), value(lax.conv_general_dilated))


@pytest.mark.parametrize("count", [1, 4])
def test_on_several_devices(backend, count):
  mesh = jax.make_mesh((count,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:count])
  x, w = normal(0, 8, 9, 9, 16), normal(1, 5, 5, 16, 8)

  def loss(w, x):
    y = convolve(ops.conv_general_dilated, (2, 2))(x, w)
    return (ops.max_pool(y, (3, 3), (2, 2), "SAME") ** 2).mean()
  exact = jax.jit(jax.grad(loss))(w, x)
  step = jax.jit(jax.grad(loss))
  sharded = jax.device_put(w, NamedSharding(mesh, P())), jax.device_put(x, NamedSharding(mesh, P("data")))
  compiled = step.lower(*sharded).compile().as_text()
  assert "all-gather" not in compiled
  assert ("dgjax_native" in compiled) == (backend == "native" and count == 1)
  close(step(*sharded), exact)

  def mapped(f, **options):
    return jax.jit(jax.shard_map(lambda w, x: lax.pmean(f(w, x), "data"), mesh=mesh, in_specs=(P(), P("data")),
                                 out_specs=P(), **options))
  close(jax.jit(jax.grad(mapped(loss)))(w, x), exact)
  close(mapped(jax.grad(loss), check_vma=False)(w, x), exact)
  parallel = jax.pmap(lambda w, x: lax.pmean(jax.grad(loss)(w, x), "data"), "data", in_axes=(None, 0),
                      devices=jax.devices()[:count])
  close(parallel(w, x.reshape(count, -1, *x.shape[1:]))[0], exact)


def test_what_is_not_ours_is_lax_s():
  x, w = normal(0, 2, 5, 4), normal(1, 3, 4, 6)
  for f in (lambda op: op(x, w, (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC")),
            lambda op: op(x[None], w[None], (1, 1), [(1, 1)] * 2, lhs_dilation=(2, 1), dimension_numbers=LAYOUT),
            lambda op: op(x[None].transpose(0, 3, 1, 2), w[None].transpose(3, 2, 0, 1), (1, 1), "SAME")):
    close(f(ops.conv_general_dilated), f(lax.conv_general_dilated))
  assert "dgjax" not in str(jax.make_jaxpr(lambda x: ops.conv_general_dilated(
      x, w[None], (1, 1), [(1, 1)] * 2, lhs_dilation=(2, 1), dimension_numbers=LAYOUT))(x[None]))


def test_negative_padding_falls_back(backend):
  x, w = normal(0, 2, 6, 6, 4), normal(1, 3, 3, 4, 5)
  ours, lax_ = (convolve(op, padding=((-1, 0), (1, 0))) for op in (ops.conv_general_dilated, lax.conv_general_dilated))
  close(jax.jit(gradients(ours))(x, w), gradients(lax_)(x, w))


def test_output_size():
  assert convolution.output_size((7, 8), (3, 2), (2, 3), ((1, 1), (0, 1)), (1, 2)) == (4, 3)


@pytest.mark.parametrize("geometry", [
    {"strides": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1)},
    {"strides": (2, 1), "padding": ((2, 0), (1, 2)), "dilation": (1, 2)}])
def test_lanes_as_products_are_the_convolutions(geometry):
  """What a GPU runs of vmapped kernels, forward and both gradients, one operand shared by all lanes or not."""
  rng = np.random.default_rng(0)
  lanes, size, geometry = 3, (8, 9), {**geometry, "groups": 1}
  for shared in (lanes, 1):
    x = jnp.asarray(rng.normal(size=(shared, 2, *size, 4)), jnp.float32)
    w = jnp.asarray(rng.normal(size=(lanes, 3, 3, 4, 5)), jnp.float32)
    out = convolution.output_size(size, (3, 3), *(geometry[key] for key in ("strides", "padding", "dilation")))
    dy = jnp.asarray(rng.normal(size=(lanes, 2, *out, 5)), jnp.float32)
    for kind, plain, product, a, b, more in (
        (0, convolution._forward, convolution._product_forward, x, w, {}),
        (1, convolution._input_gradient, convolution._product_input_gradient, dy, w, {"size": size}),
        (2, convolution._filter_gradient, convolution._product_filter_gradient, x, dy, {"size": (3, 3)})):
      ours = convolution._lanes_as_products(kind, plain, product)(a, b, lanes=lanes, **more, **geometry)
      expected = jnp.stack([plain(a[min(i, len(a) - 1)], b[i], **more, **geometry) for i in range(lanes)])
      np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5)
      lone = convolution._lanes_as_products(kind, plain, product)(a[0], b[0], lanes=0, **more, **geometry)
      np.testing.assert_array_equal(lone, plain(a[0], b[0], **more, **geometry))


def test_wide_patches_stay_convolutions():
  """Products would move more than they save."""
  def fail(*_, **__):
    raise AssertionError("a product")
  wide = convolution._lanes_as_products(0, lambda x, w, **_: x, fail)
  wide(jnp.zeros((2, 1, 4, 4, 64)), jnp.zeros((2, 3, 3, 64, 2)), lanes=2, groups=1)
  with pytest.raises(AssertionError):
    wide(jnp.zeros((2, 1, 4, 4, 8)), jnp.zeros((2, 3, 3, 8, 2)), lanes=2, groups=1)
