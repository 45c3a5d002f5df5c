"""Max-pooling."""
import functools
import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.interpreters import ad, batching

from dgjax.ops import primitives
from dgjax.ops.convolution import output_size


def _taps(x, window, strides, padding, fill):
  """The strided slices of x, one for each position in the window, in the window's order."""
  x = lax.pad(x, jnp.array(fill, x.dtype), ((0, 0, 0), *((*p, 0) for p in padding), (0, 0, 0)))
  height, width = ((n - k) // s * s + 1 for n, k, s in zip(x.shape[1:3], window, strides, strict=True))
  return [x[:, i:i + height:strides[0], j:j + width:strides[1]]
          for i, j in itertools.product(range(window[0]), range(window[1]))]


def _reduce(x, *, window, strides, padding):
  return lax.reduce_window(x, np.array(-np.inf, x.dtype), lax.max, (1, *window, 1), (1, *strides, 1),
                           ((0, 0), *padding, (0, 0)))


def _slices(x, *, window, strides, padding):
  if any(map(any, padding)):  # copying x into a larger array costs more than slices gain
    return _reduce(x, window=window, strides=strides, padding=padding)
  return functools.reduce(lax.max, _taps(x, window, strides, padding, -np.inf))


def _find(x, *, window, strides, padding):
  """The maximum and the position in the window of the first one."""
  best, *rest = _taps(x, window, strides, padding, -np.inf)
  index = jnp.zeros(best.shape, jnp.uint8)
  for n, tap in enumerate(rest, 1):
    better = (tap > best) | (tap != tap)
    best, index = jnp.where(better, tap, best), jnp.where(better, jnp.uint8(n), index)
  return best, index


def _select(x, index, *, window, strides, padding):
  """What stands in x where the window's maximum was."""
  taps = _taps(x, window, strides, padding, 0)
  y = taps[0]
  for n, tap in enumerate(taps[1:], 1):
    y = jnp.where(index == n, tap, y)
  return y


def _place(dy, index, *, size, window, strides, padding):
  """The transpose of `_select`: each position of x sums over the windows that chose it.

  Positions of equal remainder by the stride lie in the same places of the windows, so that each such phase is a sum of
  shifted copies of dy, without the scattering that XLA would make of the slices' transposes.
  """
  batch, channels = dy.shape[0], dy.shape[3]
  reach = [-(-k // s) for k, s in zip(window, strides, strict=True)]  # windows that can cover a position
  cells = [-(-(n + sum(p)) // s) for n, p, s in zip(size, padding, strides, strict=True)]
  margin = ((0, 0), *((r - 1, max(0, c - n)) for r, c, n in zip(reach, cells, dy.shape[1:3], strict=True)), (0, 0))
  dtype = dy.dtype
  dy = jnp.pad(dy.astype(jnp.promote_types(dtype, jnp.float32)), margin)  # sums are rounded once
  index = jnp.pad(index, margin, constant_values=255)
  rows = []
  for a in range(strides[0]):
    phases = []
    for b in range(strides[1]):
      total = jnp.zeros((batch, *cells, channels), dy.dtype)
      for d, e in itertools.product(*map(range, reach)):
        i, j = a + d * strides[0], b + e * strides[1]
        if i < window[0] and j < window[1]:
          u, v = reach[0] - 1 - d, reach[1] - 1 - e
          place = (slice(None), slice(u, u + cells[0]), slice(v, v + cells[1]))
          total += jnp.where(index[place] == i * window[1] + j, dy[place], 0)
      phases.append(total)
    rows.append(jnp.stack(phases, 3))
  x = jnp.stack(rows, 2).astype(dtype).reshape(batch, cells[0] * strides[0], cells[1] * strides[1], channels)
  (top, _), (left, _) = padding
  return x[:, top:top + size[0], left:left + size[1]]


def _pooled(x, *, window, strides, padding):
  return (x.shape[0], *output_size(x.shape[1:3], window, strides, padding, (1, 1)), x.shape[3])


def _pooled_aval(x, *index, **geometry):
  return x.update(shape=_pooled(x, **geometry), weak_type=False)


def _found_avals(x, **geometry):
  y = _pooled_aval(x, **geometry)
  return y, y.update(dtype=np.dtype(np.uint8))


def _placed_aval(dy, index, *, size, **geometry):
  return dy.update(shape=(dy.shape[0], *size, dy.shape[3]), weak_type=False)


def _lower(part, context, *operands, size=None, window, strides, padding):
  first, result = context.avals_in[0], context.avals_out[0]
  if first.dtype not in (jnp.float32, jnp.bfloat16) or any(p < 0 for pair in padding for p in pair):
    return None
  if first.dtype == jnp.float32 and not any(map(any, padding)):
    return None  # there XLA is as fast (docs/performance.md)
  images, pooled = (result.shape, first.shape) if size else (first.shape, result.shape)
  shape = (*images, *pooled[1:3], *window, *strides, padding[0][0], padding[1][0])
  return jax.ffi.ffi_lowering("dgjax_native_pool")(
      context, *operands, part=np.int64(part), shape=np.array(shape, np.int64))


def _make(part, name, shape, plain, **options):
  return primitives.make(name, shape=shape, plain=plain, lower=functools.partial(_lower, part), **options)


_max_p = _make(0, "dgjax_max_pool", _pooled_aval, _reduce, for_cpu=_slices)
_find_p = _make(1, "dgjax_max_pool_find", _found_avals, _find, multiple=True)
_select_p = _make(2, "dgjax_max_pool_select", _pooled_aval, _select)
_place_p = _make(3, "dgjax_max_pool_place", _placed_aval, _place)


def _batching(primitive):
  """vmap: folds the new axis into the batch."""
  def rule(operands, axes, **geometry):
    count = next(operand.shape[axis] for operand, axis in zip(operands, axes, strict=True) if axis is not None)
    operands = [jnp.moveaxis(o, axis, 0) if axis is not None else jnp.broadcast_to(o[None], (count, *o.shape))
                for o, axis in zip(operands, axes, strict=True)]
    results = primitive.bind(*(o.reshape(-1, *o.shape[2:]) for o in operands), **geometry)
    results = jax.tree.map(lambda y: y.reshape(count, -1, *y.shape[1:]), results)
    return results, (0,) * len(results) if primitive.multiple_results else 0
  return rule


for _primitive in (_max_p, _find_p, _select_p, _place_p):
  batching.primitive_batchers[_primitive] = _batching(_primitive)


def _zero(value):
  return ad.Zero(jax.typeof(value).to_tangent_aval())


def _jvp(primitive):
  """The derivative of a map that is linear in its first operand and takes the index as it is."""
  def rule(primals, tangents, **geometry):
    y = primitive.bind(*primals, **geometry)
    if isinstance(tangents[0], ad.Zero):
      return y, _zero(y)
    return y, primitive.bind(tangents[0], primals[1], **geometry)
  return rule


def _find_jvp(primals, tangents, **geometry):
  (x,), (dx,) = primals, tangents
  y, index = _find_p.bind(x, **geometry)
  return [y, index], [_select_p.bind(dx, index, **geometry), _zero(index)]


def _select_transpose(dy, x, index, **geometry):
  if isinstance(dy, ad.Zero):
    return ad.Zero(x.aval), None
  return _place_p.bind(dy, index, size=tuple(x.aval.shape[1:3]), **geometry), None


def _place_transpose(dx, dy, index, *, size, **geometry):
  if isinstance(dx, ad.Zero):
    return ad.Zero(dy.aval), None
  return _select_p.bind(dx, index, **geometry), None


ad.primitive_jvps[_find_p] = _find_jvp
ad.primitive_jvps[_select_p] = _jvp(_select_p)
ad.primitive_jvps[_place_p] = _jvp(_place_p)
ad.primitive_transposes[_select_p] = _select_transpose
ad.primitive_transposes[_place_p] = _place_transpose


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2, 3))
def _max_pool(x, window, strides, padding):
  return _max_p.bind(x, window=window, strides=strides, padding=padding)


@_max_pool.defjvp
def _max_pool_jvp(window, strides, padding, primals, tangents):
  geometry = {"window": window, "strides": strides, "padding": padding}
  y, index = _find_p.bind(*primals, **geometry)  # the index is not worth its time where nothing is differentiated
  return y, _select_p.bind(*tangents, index, **geometry)


def max_pool(x: jax.Array, window: tuple[int, int], strides: tuple[int, int],
             padding: str | Sequence[tuple[int, int]] = "VALID") -> jax.Array:
  """Maximum over windows; where a window has several maxima the first gets the gradient, as in lax and PyTorch.

  On a CPU and a GPU the gradient is a sum in a fixed order. lax's own scatters; on a GPU in any order, and XLA does not
  compile it under `--xla_gpu_exclude_nondeterministic_ops`.

  Args:
    x: (batch, height, width, channels), floating point.
    window: height and width.
    strides: down and across.
    padding: "VALID", "SAME" or ((top, bottom), (left, right)); what is padded never is a maximum.

  Returns:
    (batch, height, width, channels), of x's dtype.
  """
  window, strides = (int(window[0]), int(window[1])), (int(strides[0]), int(strides[1]))
  if isinstance(padding, str):
    padding = lax.padtype_to_pads(x.shape[1:3], window, strides, padding)
  padding = tuple((int(low), int(high)) for low, high in padding)
  ours = (jax.default_backend() in ("cpu", "gpu") and jnp.issubdtype(x.dtype, jnp.floating)
          and window[0] * window[1] <= 255 and not primitives.needs_lax(x)
          and min(_pooled(x, window=window, strides=strides, padding=padding)) > 0)
  if not ours:
    return _reduce(x, window=window, strides=strides, padding=padding)
  return _max_pool(x, window, strides, padding)
