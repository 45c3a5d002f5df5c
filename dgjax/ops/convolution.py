"""Convolution and its two gradients: three bilinear maps, each of which has the other two as its gradients."""
import functools
import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.interpreters import ad, batching

from dgjax.ops import native, primitives, settings, winograd
from dgjax.ops.winograd import every

LAYOUT = ("NHWC", "HWIO", "NHWC")
WIDE, TILES = 32, 16  # channels, and tiles of all images, from which Winograd's form pays for its transforms
DEEP = 128  # channels from which bfloat16 products pay for the patches that they are made of
CACHE = 1 << 22  # bytes of a few images that are read again and again
FEW_CHANNELS, FEW_FILTERS = 4, 32  # up to so many, XLA's float32 gradient of images takes half to all of oneDNN's time


def output_size(size: Sequence[int], kernel: Sequence[int], strides, padding, dilation) -> tuple[int, ...]:
  """Height and width of a convolution's result."""
  return tuple((n + low + high - (k - 1) * d - 1) // s + 1
               for n, k, s, (low, high), d in zip(size, kernel, strides, padding, dilation, strict=True))


# In plain lax, which XLA partitions over devices.

def _forward(x, w, *, strides, padding, dilation, groups):
  return lax.conv_general_dilated(x, w, strides, padding, rhs_dilation=dilation, dimension_numbers=LAYOUT,
                                  feature_group_count=groups)


def _input_gradient(dy, w, *, size, **geometry):
  x, _ = primitives.same_variance(jnp.zeros((dy.shape[0], *size, w.shape[2] * geometry["groups"]), dy.dtype), dy)
  return jax.linear_transpose(lambda x: _forward(x, w, **geometry), x)(dy)[0]


def _filter_gradient(x, dy, *, size, **geometry):
  w, _ = primitives.same_variance(jnp.zeros((*size, x.shape[3] // geometry["groups"], dy.shape[3]), x.dtype), x)
  return jax.linear_transpose(lambda w: _forward(x, w, **geometry), w)(dy)[0]


# For XLA's CPU backend: 1x1 convolutions as the matrix products that they are; 3x3 and 5x5 ones of 32 channels and more
# in Winograd's form; other bfloat16 ones, which it computes in float32, as products, for which it uses the processor's
# instructions; gradients of kernels of few channels in blocks of images (docs/performance.md has what was measured).

def _is_product(size, *, padding, groups, **_) -> bool:
  return size == (1, 1) and padding == ((0, 0), (0, 0)) and groups == 1


def _product(a, b, axis_a, axis_b):
  """Of two matrices, over an axis of each; in float32.

  XLA's bfloat16 products are fast with rows at the left and a float32 result: else they take two to five times as long.
  """
  if axis_a == 0 and a.dtype == jnp.bfloat16:
    a, axis_a = lax.optimization_barrier(a.T), 1  # else XLA would fold the transposition into the product
  return lax.dot_general(a, b, (((axis_a,), (axis_b,)), ((), ())), preferred_element_type=jnp.float32)


def _strided(images, strides):
  return images[:, ::strides[0], ::strides[1]]


def _positions(images):
  """A row for each position of each image."""
  return images.reshape(-1, images.shape[-1])


def _padded(images, padding):
  """Made once: XLA would compute what the images come from anew for each of the slices that are taken of them."""
  widths = ((0, 0, 0), *((*p, 0) for p in padding), (0, 0, 0))
  return lax.optimization_barrier(lax.pad(images, jnp.zeros((), images.dtype), widths))


def _by_onednn(dtype) -> bool:
  """Whether XLA itself gives convolutions of a type to oneDNN."""
  return dtype == jnp.bfloat16 and settings.onednn_in_xla()


def _as_products(dtype, groups) -> bool:
  """Whether to write a convolution as products: bfloat16 ones, unless XLA gives them to oneDNN, which is faster yet."""
  return dtype == jnp.bfloat16 and groups == 1 and not _by_onednn(dtype)


def _by_rows(x, w, *, strides, padding, dilation):
  """A product for each row of the kernel, of the columns that it covers side by side: a third of the patches of 3x3."""
  height, width = output_size(x.shape[1:3], w.shape[:2], strides, padding, dilation)
  x = _padded(x, padding)
  columns = jnp.concatenate([x[:, :, every(j * dilation[1], width, strides[1])] for j in range(w.shape[1])], -1)
  rows = [columns[:, every(i * dilation[0], height, strides[0])] for i in range(w.shape[0])]
  y = sum(_product(_positions(seen), _positions(row), 1, 0)
          for seen, row in zip(rows, w.reshape(w.shape[0], -1, w.shape[3]), strict=True))
  return y.astype(x.dtype).reshape(-1, height, width, w.shape[3])


def _suits_winograd(kernel, result, dtype, *, strides, dilation, groups, **_) -> bool:
  """Whether Winograd's form is the fastest, by a kernel's shape and that of the convolution's (or dx's) images."""
  if kernel[:2] not in ((3, 3), (5, 5)) or strides != (1, 1) or dilation != (1, 1) or groups > 1 or _by_onednn(dtype):
    return False
  least = min(result[1:3])
  return min(kernel[2:]) >= WIDE and (least == 2 or (least > 2 and winograd.tiles(result, kernel[0]) >= TILES))


def _cpu_forward(x, w, **geometry):
  if _is_product(w.shape[:2], **geometry):
    seen = _strided(x, geometry["strides"])
    return _product(_positions(seen), w[0, 0], 1, 0).astype(x.dtype).reshape(*seen.shape[:3], -1)
  if _suits_winograd(w.shape, _forward_shape(x.shape, w.shape, **geometry), x.dtype, **geometry):
    return winograd.forward(x, w, geometry["padding"])
  if _as_products(x.dtype, geometry["groups"]) and w.shape[2] >= DEEP:
    return _by_rows(x, w, **{name: value for name, value in geometry.items() if name != "groups"})
  return _forward(x, w, **geometry)


def _cpu_input_gradient(dy, w, *, size, **geometry):
  if _is_product(w.shape[:2], **geometry):
    dx = _product(_positions(dy), w[0, 0], 1, 1).astype(dy.dtype).reshape(*dy.shape[:3], -1)
    zeros = [(0, n - (m - 1) * stride - 1, stride - 1)  # before, after, and between
             for n, m, stride in zip(size, dy.shape[1:3], geometry["strides"], strict=True)]
    return lax.pad(dx, jnp.zeros((), dx.dtype), ((0, 0, 0), *zeros, (0, 0, 0)))
  wide = geometry["groups"] == 1 and min(w.shape[2:]) >= WIDE and geometry["dilation"] == (1, 1)
  if wide and max(geometry["strides"]) > 1 and min(dy.shape[1:3]) <= 2:  # XLA is slow there: with zeros in between
    ends = [n + sum(pair) - k - (m - 1) * stride for n, pair, k, m, stride in zip(
        size, geometry["padding"], w.shape[:2], dy.shape[1:3], geometry["strides"], strict=True)]
    zeros = [(0, end, stride - 1) for end, stride in zip(ends, geometry["strides"], strict=True)]
    dy = lax.pad(dy, jnp.zeros((), dy.dtype), ((0, 0, 0), *zeros, (0, 0, 0)))
    geometry["strides"] = (1, 1)
  # A convolution of its own, which products and oneDNN know, and not of a kernel that XLA is told to reverse.
  reach = [(k - 1) * d for k, d in zip(w.shape[:2], geometry["dilation"], strict=True)]
  padding = tuple((r - low, r - high) for r, (low, high) in zip(reach, geometry["padding"], strict=True))
  if _suits_winograd(w.shape, (dy.shape[0], *size), dy.dtype, **geometry):
    return winograd.forward(dy, w, padding, reverse=True)
  if dy.dtype == jnp.bfloat16 and geometry["groups"] == 1 and geometry["strides"] == (1, 1):
    return _cpu_forward(dy, w[::-1, ::-1].swapaxes(2, 3), **geometry | {"padding": padding})
  return _input_gradient(dy, w, size=size, **geometry)


def _by_places(x, dy, *, size, strides, padding, dilation):
  """The gradient of a kernel: a product for each of its places, in a row."""
  height, width = dy.shape[1:3]
  x, dy, half = _padded(x, padding), _positions(dy), x.dtype == jnp.bfloat16
  if half:
    x = lax.optimization_barrier(jnp.moveaxis(x, 3, 0))  # else XLA would fold the transposition into the products
  places = []
  for i, j in itertools.product(range(size[0]), range(size[1])):
    rows, columns = every(i * dilation[0], height, strides[0]), every(j * dilation[1], width, strides[1])
    if half:
      seen = lax.optimization_barrier(x[:, :, rows, columns].reshape(x.shape[0], -1))
      places.append(_product(seen, dy, 1, 0))
    else:
      places.append(_product(_positions(x[:, rows, columns]), dy, 0, 0))
  return jnp.stack(places)


def _blocks(images) -> int:
  """Into how many equal parts to cut a batch, up to 16, for parts of at most `CACHE` bytes."""
  counts = [n for n in range(1, 17) if images.shape[0] % n == 0]
  return next((n for n in counts if images.size * 4 <= n * CACHE), counts[-1])


def _cpu_filter_gradient(x, dy, *, size, strides, padding, dilation, groups):
  if _is_product(size, padding=padding, groups=groups):
    return _product(_positions(_strided(x, strides)), _positions(dy), 0, 0).astype(x.dtype)[None, None]
  channels, filters = x.shape[3], dy.shape[3]
  kernel = (*size, channels, filters)
  if _suits_winograd(kernel, dy.shape, x.dtype, strides=strides, dilation=dilation, groups=groups):
    return winograd.filter_gradient(x, dy, size[0], padding)
  deep = _as_products(x.dtype, groups) and min(channels, filters) >= DEEP
  strided = groups == 1 and max(strides) > 1 and not (x.dtype == jnp.bfloat16 and settings.onednn_in_xla())
  if size[0] * size[1] <= 9 and (deep or strided):
    dw = _by_places(x, dy, size=size, strides=strides, padding=padding, dilation=dilation)
    return dw.reshape(*size, channels, filters).astype(x.dtype)
  gradient = functools.partial(_filter_gradient, size=size, strides=strides, padding=padding, dilation=dilation,
                               groups=groups)
  if groups == 1 and channels <= FEW_CHANNELS:
    # XLA reads dy anew for each few values of such a kernel, so as many images at a time as a cache holds.
    count = _blocks(dy)
    blocks = zip(*(jnp.split(a, count) for a in (x, dy)), strict=True)
    return functools.reduce(jnp.add, (gradient(*block).astype(jnp.float32) for block in blocks)).astype(x.dtype)
  return gradient(x, dy)


# A leading axis of "lanes" stands for what vmap adds where it cannot be folded into the batch: each lane has its own
# kernel. An operand whose leading axis is 1 is shared by all lanes.

def _in_lanes(function):
  def run(a, b, *, lanes, **geometry):
    function_ = functools.partial(function, **geometry)
    if not lanes:
      return function_(a, b)
    axes = tuple(0 if operand.shape[0] == lanes else None for operand in (a, b))
    a, b = (operand if axis == 0 else operand[0] for operand, axis in zip((a, b), axes, strict=True))
    if axes == (None, None):
      return jnp.broadcast_to(function_(a, b)[None], (lanes, *function_(a, b).shape))
    return jax.vmap(function_, axes)(a, b)
  return run


def _one_lane_at_a_time(function):
  """vmap would make grouped convolutions of the lanes, which XLA's CPU backend runs at a fraction of the speed.

  The loop is unrolled: in a while loop XLA's convolutions run on one thread.
  """
  def run(a, b, *, lanes, **geometry):
    if not lanes:
      return function(a, b, **geometry)
    return jnp.stack([function(*(x[min(lane, x.shape[0] - 1)] for x in (a, b)), **geometry) for lane in range(lanes)])
  return run


# For a GPU: lanes as products of patches and kernels, where the patches are narrow. As grouped convolutions, which vmap
# makes of them, ten lanes of the small networks' 3x3 layers take two to three times as long (docs/performance.md).

NARROW = 512  # values in a patch


def _product_forward(x, w, *, strides, padding, dilation, groups):
  del groups
  images = lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), *((low, high, 0) for low, high in padding), (0, 0, 0)))
  height, width = output_size(x.shape[1:3], w.shape[:2], strides, padding, dilation)
  ends = ((height - 1) * strides[0] + 1, (width - 1) * strides[1] + 1)
  starts = itertools.product(*(range(0, k * d, d) for k, d in zip(w.shape[:2], dilation, strict=True)))
  patches = [images[:, i:i + ends[0]:strides[0], j:j + ends[1]:strides[1]] for i, j in starts]
  return jnp.concatenate(patches, -1) @ w.reshape(-1, w.shape[3])


def _product_input_gradient(dy, w, *, size, **geometry):
  x, _ = primitives.same_variance(jnp.zeros((dy.shape[0], *size, w.shape[2]), dy.dtype), dy)
  return jax.linear_transpose(lambda x: _product_forward(x, w, **geometry), x)(dy)[0]


def _product_filter_gradient(x, dy, *, size, **geometry):
  w, _ = primitives.same_variance(jnp.zeros((*size, x.shape[3], dy.shape[3]), x.dtype), x)
  return jax.linear_transpose(lambda w: _product_forward(x, w, **geometry), w)(dy)[0]


def _lanes_as_products(kind, plain, product):
  """Of several lanes, products where patches are narrow; else, and of a lone convolution, what lax makes of it."""
  def run(a, b, *, lanes, **geometry):
    kernel, channels = (geometry["size"], a.shape[-1]) if kind == 2 else (b.shape[-4:-2], b.shape[-2])
    narrow = geometry["groups"] == 1 and kernel[0] * kernel[1] > 1 and kernel[0] * kernel[1] * channels <= NARROW
    return _in_lanes(product if lanes and narrow else plain)(a, b, lanes=lanes, **geometry)
  return run


def _shape_rule(result):
  def rule(a, b, *, lanes, **geometry):
    shape = result(a.shape[-4:], b.shape[-4:], **geometry)
    return a.update(shape=(lanes, *shape) if lanes else shape, weak_type=False)
  return rule


def _forward_shape(x, w, *, strides, padding, dilation, groups):
  del groups
  return (x[0], *output_size(x[1:3], w[:2], strides, padding, dilation), w[3])


def _input_shape(dy, w, *, size, groups, **_):
  return (dy[0], *size, w[2] * groups)


def _filter_shape(x, dy, *, size, groups, **_):
  return (*size, x[3] // groups, dy[3])


def _lower(kind, context, a, b, *, lanes, size=None, strides, padding, dilation, groups):
  shapes = [aval.shape for aval in context.avals_in]
  first, second = (shape[-4:] for shape in shapes)
  result = context.avals_out[0].shape[-4:]
  x, w, y = {0: (first, second, result), 1: (result, second, first), 2: (first, result, second)}[kind]
  half = context.avals_in[0].dtype == jnp.bfloat16
  if kind == 1 and not half and not lanes and x[3] <= FEW_CHANNELS and y[3] <= FEW_FILTERS:
    return None
  if not half and w[0] == 3 and _suits_winograd(w, x if kind == 1 else y, jnp.float32, strides=strides,
                                                dilation=dilation, groups=groups):
    return None  # faster than oneDNN, which 5x5 ones are not
  leads = [shape[0] if lanes else 1 for shape in shapes]
  spec = (kind, int(half), max(lanes, 1), *leads, *x, *w[:2], *y[1:], groups,
          *strides, *itertools.chain(*padding), *dilation)
  if refusal := native.refusal(spec):
    settings.warn_once(f"oneDNN does not run a convolution of images {x} by {w}, strides {strides}, padding {padding}, "
                       f"dilation {dilation}, {groups} groups ({refusal}): XLA does")
    return None
  return jax.ffi.ffi_lowering("dgjax_native_contract")(context, a, b, spec=np.array(spec, np.int64))


def _make(kind, name, shape, plain, for_cpu, product):
  return primitives.make(name, shape=_shape_rule(shape), plain=_in_lanes(plain), for_cpu=_one_lane_at_a_time(for_cpu),
                         for_gpu=_lanes_as_products(kind, plain, product), lower=functools.partial(_lower, kind))


forward_p = _make(0, "dgjax_convolution", _forward_shape, _forward, _cpu_forward, _product_forward)
input_gradient_p = _make(1, "dgjax_convolution_input_gradient", _input_shape, _input_gradient, _cpu_input_gradient,
                         _product_input_gradient)
filter_gradient_p = _make(2, "dgjax_convolution_filter_gradient", _filter_shape, _filter_gradient, _cpu_filter_gradient,
                          _product_filter_gradient)


def _transposed(primitive, resized: bool):
  """A transposition rule's result by `primitive`; resized: it is told its result's size."""
  def rule(first, second, operand, *, lanes, size=None, **geometry):
    del size
    shape = operand.aval.shape
    if resized:
      start = 1 if primitive is input_gradient_p else 0
      geometry["size"] = tuple(shape[-4:][start:start + 2])
    result = primitive.bind(first, second, lanes=lanes, **geometry)
    if lanes and shape[0] != lanes:
      result = result.sum(0, keepdims=True)  # a shared operand gathers the gradients of all lanes
    return result
  return rule


_to_output = _transposed(forward_p, False)
_to_input = _transposed(input_gradient_p, True)
_to_filter = _transposed(filter_gradient_p, True)
ad.defbilinear(forward_p, lambda dy, x, w, **p: _to_input(dy, w, x, **p),
               lambda dy, x, w, **p: _to_filter(x, dy, w, **p))
ad.defbilinear(input_gradient_p, lambda dx, dy, w, **p: _to_output(dx, w, dy, **p),
               lambda dx, dy, w, **p: _to_filter(dx, dy, w, **p))
ad.defbilinear(filter_gradient_p, lambda dw, x, dy, **p: _to_input(dy, dw, x, **p),
               lambda dw, x, dy, **p: _to_output(x, dw, dy, **p))


def _batching(primitive, folds: bool):
  """vmap: folds the first operand's new axis into its batch if the second has none, else adds lanes."""
  def rule(operands, axes, *, lanes, **geometry):
    count = next(operand.shape[axis] for operand, axis in zip(operands, axes, strict=True) if axis is not None)
    a, b = (jnp.moveaxis(operand, axis, 0) if axis is not None else operand[None]
            for operand, axis in zip(operands, axes, strict=True))
    if folds and not lanes and axes[1] is None:
      y = primitive.bind(a.reshape(-1, *a.shape[2:]), b[0], lanes=0, **geometry)
      return y.reshape(count, -1, *y.shape[1:]), 0
    if not lanes:
      return primitive.bind(a, b, lanes=count, **geometry), 0
    a, b = (c[0] if c.shape[:2] == (1, 1) else
            jnp.broadcast_to(c, (count, lanes, *c.shape[2:])).reshape(-1, *c.shape[2:]) for c in (a, b))
    y = primitive.bind(a, b, lanes=count * lanes, **geometry)
    return y.reshape(count, lanes, *y.shape[1:]), 0
  return rule


batching.primitive_batchers[forward_p] = _batching(forward_p, True)
batching.primitive_batchers[input_gradient_p] = _batching(input_gradient_p, True)
batching.primitive_batchers[filter_gradient_p] = _batching(filter_gradient_p, False)


def conv_general_dilated(lhs: jax.Array, rhs: jax.Array, window_strides: Sequence[int],
                         padding: str | Sequence[tuple[int, int]], lhs_dilation: Sequence[int] | None = None,
                         rhs_dilation: Sequence[int] | None = None, dimension_numbers=None,
                         feature_group_count: int = 1, batch_group_count: int = 1, precision=None,
                         preferred_element_type=None) -> jax.Array:
  """`jax.lax.conv_general_dilated`, by the fastest implementation at hand.

  On a CPU, convolutions of images (NHWC by HWIO, float32 or bfloat16) go to oneDNN where the package dgjax-native is
  installed and the computation is for one device, else to XLA in the form it runs best. On a GPU, convolutions that
  `vmap` gives a kernel for each lane are products of patches where these are narrow. Anything else is lax's.

  Args:
    lhs: (batch, height, width, channels) images.
    rhs: (height, width, channels / groups, filters) kernel.
    window_strides, padding, lhs_dilation, rhs_dilation, dimension_numbers, feature_group_count, batch_group_count,
      precision, preferred_element_type: as lax has them.

  Returns:
    (batch, height, width, filters), of lhs's dtype.
  """
  numbers = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
  dilation = tuple(rhs_dilation or (1,) * (lhs.ndim - 2))
  ours = (
      jax.default_backend() in ("cpu", "gpu") and lhs.ndim == 4
      and numbers == lax.conv_dimension_numbers(lhs.shape, rhs.shape, LAYOUT)
      and lhs.dtype == rhs.dtype and lhs.dtype in (jnp.float32, jnp.bfloat16) and batch_group_count == 1
      and preferred_element_type in (None, lhs.dtype) and set(lhs_dilation or ()) <= {1}
      and rhs.shape[2] * feature_group_count == lhs.shape[3] and not primitives.needs_lax(lhs, rhs))
  if ours:
    if isinstance(padding, str):
      kernel = [(k - 1) * d + 1 for k, d in zip(rhs.shape[:2], dilation, strict=True)]
      padding = lax.padtype_to_pads(lhs.shape[1:3], kernel, window_strides, padding)
    geometry = {"strides": tuple(map(int, window_strides)), "padding": tuple((int(a), int(b)) for a, b in padding),
                "dilation": tuple(map(int, dilation)), "groups": int(feature_group_count)}
    size = output_size(lhs.shape[1:3], rhs.shape[:2], geometry["strides"], geometry["padding"], geometry["dilation"])
    if min((*lhs.shape, *rhs.shape, *size)) > 0 and rhs.shape[3] % feature_group_count == 0:
      return forward_p.bind(*primitives.same_variance(lhs, rhs), lanes=0, **geometry)
  return lax.conv_general_dilated(lhs, rhs, window_strides, padding, lhs_dilation, rhs_dilation, dimension_numbers,
                                  feature_group_count, batch_group_count, precision, preferred_element_type)
