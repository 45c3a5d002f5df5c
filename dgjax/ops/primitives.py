"""What the operations of this package share: primitives whose lowering picks the implementation."""
import functools
from collections.abc import Callable

import jax
from jax.extend import core
from jax.interpreters import mlir

from dgjax.ops import settings

GPUS = {"cuda", "rocm"}  # as lowerings name them


def one_device(context: mlir.LoweringRuleContext) -> bool:
  """Whether the computation being lowered is for a single CPU device.

  XLA cannot partition a foreign function and would gather its operands on every device, and loops over blocks of
  the batch would cut across the devices' shares. The lowering is where the number of devices is known for sure.
  """
  module = context.module_context
  axes = module.axis_context
  if isinstance(axes, mlir.SPMDAxisContext):
    count = axes.mesh.size
  else:
    count = getattr(axes, "num_devices", 2)
  return tuple(module.platforms) == ("cpu",) and count == 1


def make(name: str, *, shape: Callable, plain: Callable, for_cpu: Callable | None = None, lower: Callable | None = None,
         for_gpu: Callable | None = None, multiple: bool = False) -> core.Primitive:
  """A primitive that lowers to oneDNN, to what suits XLA on a CPU or a GPU, or to plain lax.

  Args:
    name: name of the primitive.
    shape: (*avals, **params) -> avals of the results.
    plain: the operation in lax, (*arrays, **params) -> arrays: used on several devices and other platforms.
    for_cpu: the same in the form that suits XLA's CPU backend; default: plain.
    for_gpu: the same in the form that suits a GPU; default: plain.
    lower: (context, *values, **params) -> values or None: the lowering to oneDNN; None refuses.
    multiple: whether there is more than one result.
  """
  primitive = core.Primitive(name)
  primitive.multiple_results = multiple
  primitive.def_abstract_eval(shape)

  @functools.partial(jax.jit, static_argnames="params")
  def call(*args, params):
    return primitive.bind(*args, **dict(params))

  primitive.def_impl(lambda *args, **params: call(*args, params=tuple(sorted(params.items()))))

  def lowering(context, *values, **params):
    single = one_device(context)
    if single and lower is not None and settings.backend() == "native":
      results = lower(context, *values, **params)
      if results is not None:
        return results
    function = plain
    if single and for_cpu is not None:
      function = for_cpu
    elif for_gpu is not None and set(context.module_context.platforms) <= GPUS:
      function = for_gpu
    return mlir.lower_fun(functools.partial(function, **params), multiple_results=multiple)(context, *values)

  mlir.register_lowering(primitive, lowering)
  return primitive


def _varying(aval) -> frozenset[str]:
  """shard_map's axes that a value varies over; where the type keeps them differs between versions of jax."""
  kept = getattr(aval, "manual_axis_type", None)
  return frozenset(kept.varying if kept is not None else getattr(aval, "vma", ()))


def same_variance(*arrays: jax.Array) -> tuple[jax.Array, ...]:
  """Under shard_map: marks every array as varying over each axis that any of them varies over, as lax does."""
  axes = [_varying(jax.typeof(a)) for a in arrays]
  every = frozenset().union(*axes)
  return tuple(jax.lax.pcast(a, tuple(sorted(every - mine)), to="varying") if every - mine else a
               for a, mine in zip(arrays, axes, strict=True))


def needs_lax(*arrays: jax.Array) -> bool:
  """Whether only lax's own operations will do.

  They propagate the sharding of an array over an axis of explicit type; and they take shapes with symbols, as
  `jax.export` has them, for which no implementation can be chosen by size.
  """
  types = [jax.typeof(a) for a in arrays]
  symbolic = not all(isinstance(size, int) for kind in types for size in kind.shape)
  return symbolic or any(axis is not None for kind in types for axis in getattr(kind.sharding, "spec", ()))
