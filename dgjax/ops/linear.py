"""Matrix products: a bilinear map whose gradients are matrix products with transposed operands."""
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.interpreters import ad, batching

from dgjax.ops import native, primitives, settings


def _plain(a, b, *, transposed, dtype):
  """a (M, K) by b (K, N), either given transposed, with leading lanes or without."""
  lanes = tuple(range(a.ndim - 2))
  contracted = (a.ndim - (2 if transposed[0] else 1),), (b.ndim - (1 if transposed[1] else 2),)
  return lax.dot_general(a, b, (contracted, (lanes, lanes)), preferred_element_type=dtype)


def _for_cpu(a, b, *, transposed, dtype):
  """The same in the form in which XLA's bfloat16 products are fast: with rows on the left and a float32 result."""
  if a.ndim > 2:
    return _plain(a, b, transposed=transposed, dtype=dtype)
  if transposed[0]:
    a = lax.optimization_barrier(a.T)  # else XLA would fold the transposition into the product
  return _plain(a, b, transposed=(False, transposed[1]), dtype=np.dtype(np.float32)).astype(dtype)


def _aval(a, b, *, transposed, dtype):
  rows = a.shape[-1 if transposed[0] else -2]
  columns = b.shape[-2 if transposed[1] else -1]
  return a.update(shape=(*a.shape[:-2], rows, columns), dtype=np.dtype(dtype), weak_type=False)


def _lower(context, a, b, *, transposed, dtype):
  first, second = context.avals_in
  rows, contracted = first.shape[-2:][::-1] if transposed[0] else first.shape[-2:]
  columns = context.avals_out[0].shape[-1]
  lanes = first.shape[0] if first.ndim == 3 else 1
  kind = 1 if dtype == jnp.bfloat16 else 2
  spec = (3, kind, lanes, lanes, lanes, rows, contracted, columns, *map(int, transposed))
  if refusal := native.refusal(spec):
    settings.warn_once(f"oneDNN does not multiply bfloat16 matrices {first.shape} by {second.shape} ({refusal}): "
                       "XLA does")
    return None
  return jax.ffi.ffi_lowering("dgjax_native_contract")(context, a, b, spec=np.array(spec, np.int64))


product_p = primitives.make("dgjax_product", shape=_aval, plain=_plain, for_cpu=_for_cpu, lower=_lower)


def _product(a, b, transposed, aval):
  """The product, of the type of `aval`."""
  operands = (x.astype(jnp.bfloat16) for x in (a, b))
  return product_p.bind(*operands, transposed=transposed, dtype=np.dtype(aval.dtype))


def _left(dy, a, b, *, transposed, dtype):
  ta, tb = transposed
  return _product(b, dy, (tb, True), a.aval) if ta else _product(dy, b, (False, not tb), a.aval)


def _right(dy, a, b, *, transposed, dtype):
  ta, tb = transposed
  return _product(dy, a, (True, ta), b.aval) if tb else _product(a, dy, (not ta, False), b.aval)


ad.defbilinear(product_p, _left, _right)


def _batching(operands, axes, *, transposed, dtype):
  """vmap: folds the new axis into the rows if only the first operand has it, else adds lanes."""
  count = next(x.shape[axis] for x, axis in zip(operands, axes, strict=True) if axis is not None)
  a, b = (jnp.moveaxis(x, axis, 0) if axis is not None else x for x, axis in zip(operands, axes, strict=True))
  if axes[1] is None and a.ndim == 3 and not transposed[0]:
    y = product_p.bind(a.reshape(-1, a.shape[2]), b, transposed=transposed, dtype=dtype)
    return y.reshape(count, -1, y.shape[-1]), 0
  a, b = (jnp.broadcast_to(x[None], (count, *x.shape)) if axis is None else x
          for x, axis in zip((a, b), axes, strict=True))
  y = product_p.bind(*(x.reshape(-1, *x.shape[-2:]) for x in (a, b)), transposed=transposed, dtype=dtype)
  return y.reshape(*a.shape[:-2], *y.shape[-2:]), 0


batching.primitive_batchers[product_p] = _batching


def dot_general(lhs: jax.Array, rhs: jax.Array, dimension_numbers, precision=None, preferred_element_type=None,
                **options) -> jax.Array:
  """`jax.lax.dot_general`, by the fastest implementation at hand.

  On a CPU, a bfloat16 array's last axis by a bfloat16 matrix's first (a dense layer) goes to oneDNN where the package
  dgjax-native is installed and the computation is for one device, and sums in float32. Anything else is lax's: XLA
  multiplies float32 matrices as fast.

  Args:
    lhs, rhs, dimension_numbers, precision, preferred_element_type, options: as lax has them.

  Returns:
    The product, as lax gives it.
  """
  dtype = np.dtype(preferred_element_type or lhs.dtype)
  ours = (
      jax.default_backend() == "cpu" and not options and lhs.dtype == rhs.dtype == jnp.bfloat16
      and dtype in (jnp.float32, jnp.bfloat16) and rhs.ndim == 2 and lhs.ndim >= 2
      and dimension_numbers == (((lhs.ndim - 1,), (0,)), ((), ())) and not primitives.needs_lax(lhs, rhs)
      and min((*lhs.shape, *rhs.shape)) > 0)
  if not ours:
    return lax.dot_general(lhs, rhs, dimension_numbers, precision, preferred_element_type, **options)
  a, b = primitives.same_variance(lhs.reshape(-1, lhs.shape[-1]), rhs)
  return product_p.bind(a, b, transposed=(False, False), dtype=dtype).reshape(*lhs.shape[:-1], rhs.shape[1])
