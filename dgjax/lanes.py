"""Lanes: how the runs of a group are computed: one after the other, by one kernel for all, or spread over devices.

A function of one run, `(state, part, shared) -> ...`, is written as if there were no other runs. `part` is what differs
between runs (the indices of a batch, or the batch). `shared` is what does not (the images on the device).
"""

import abc
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from dgjax.parallel import Devices

RUNS = "runs"  # the mesh's axis under `Spread`
States = Any  # the states of all runs, as a kind of lanes keeps them


class Lanes(abc.ABC):
  """The computations of several runs.

  Attributes:
    name: the value of `config.grouping` that chooses these lanes.
  """

  name: ClassVar[str]

  def __init__(self, devices: Devices, runs: int):
    self.devices, self.runs = devices, runs

  @abc.abstractmethod
  def join(self, states: Sequence[Any]) -> States:
    """Joins one state for each run into the states of all runs, as these lanes keep them."""

  @abc.abstractmethod
  def split(self, states: States) -> list[Any]:
    """One state for each run."""

  @abc.abstractmethod
  def rows(self, outputs: Any) -> list[Any]:
    """For each run, what a compiled function returned, after it was fetched to the host."""

  @abc.abstractmethod
  def compile(self, function: Callable[..., Any], *, updates: bool) -> Callable[..., Any]:
    """Compiles a function of one run for all of them.

    Args:
      function: takes a state, a part and what is shared. With `updates` it returns the next state and outputs, else
        outputs alone.
      updates: whether states are consumed.

    Returns:
      A function of four arguments: the states; a list with one part for each run, in NumPy; what is shared; and (runs,)
      bool, which runs are active. It returns the next states (those of inactive runs are unchanged) and the outputs;
      see `rows`.
    """


class OneByOne(Lanes):
  """Runs one after the other, by the program of a lone run. Results equal a lone run's bit for bit."""

  name = "map"

  def join(self, states):
    return list(states)

  def split(self, states):
    return list(states)

  def rows(self, outputs):
    return jax.device_get(outputs)

  def compile(self, function, *, updates):
    compiled = self.devices.compile(function, updates)

    def call(states, parts, shared, active):
      results = [compiled(state, self.devices.put(part), shared) if on else (state, None) if updates else None
                 for state, part, on in zip(states, parts, active, strict=True)]
      if not updates:
        return states, results
      return [result[0] for result in results], [result[1] for result in results]

    return call


class _Together(Lanes):
  """Runs whose states are kept as one, with a leading axis of runs."""

  def _shape(self, x: Any) -> Any:
    """Places a leaf with a leading axis of runs on the devices that compute with it."""
    return jnp.asarray(x)

  def join(self, states):
    return jax.tree.map(lambda *leaves: self._shape(jnp.stack(leaves)), *self._padded(list(states)))

  def split(self, states):
    return [_row(states, index) for index in range(self.runs)]

  def rows(self, outputs):
    fetched = jax.device_get(outputs)
    return [_row(fetched, index) for index in range(self.runs)]

  def compile(self, function, *, updates):
    mapped = self._map(function)

    def frozen(states, parts, shared, active):
      after, outputs = mapped(states, parts, shared)
      choose = lambda new, old: _where(active, new, old)  # noqa: E731
      return jax.tree.map(choose, after, states), outputs

    all_of, some_of = (jax.jit(each, donate_argnums=0 if updates else ()) for each in (mapped, frozen))

    def call(states, parts, shared, active):
      stacked = jax.tree.map(lambda *leaves: self._shape(np.stack(leaves)), *self._padded(list(parts)))
      if not updates:
        return states, all_of(states, stacked, shared)
      if np.all(active):
        return all_of(states, stacked, shared)
      return some_of(states, stacked, shared, self._shape(np.array(self._padded(list(active)))))

    return call

  def _padded(self, values: list[Any]) -> list[Any]:
    return values

  @abc.abstractmethod
  def _map(self, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with a leading axis of runs in states, parts and results."""


class Stacked(_Together):
  """All runs by one kernel: `jax.vmap`. Results differ from a lone run's by rounding."""

  name = "vmap"

  def _map(self, function):
    return jax.vmap(function, in_axes=(0, 0, None))


class Spread(_Together):
  """Runs are spread over the devices.

  A run is computed on one device; several runs on a device are under `jax.vmap`.
  """

  name = "spread"

  def __init__(self, devices: Devices, runs: int):
    super().__init__(devices, runs)
    self._mesh = Mesh(devices.mesh.devices, (RUNS,), axis_types=(AxisType.Auto,))
    self._each = -(-runs // self._mesh.size)

  def _shape(self, x):
    return jax.device_put(x, NamedSharding(self._mesh, PartitionSpec(RUNS)))

  def _padded(self, values):
    return values + [values[-1]] * (self._each * self._mesh.size - self.runs)

  def _map(self, function):
    def local(states, parts, shared):
      if self._each > 1:
        return jax.vmap(function, in_axes=(0, 0, None))(states, parts, shared)
      one = lambda tree: jax.tree.map(lambda x: x[0], tree)  # noqa: E731
      return jax.tree.map(lambda x: x[None], function(one(states), one(parts), shared))

    spec = PartitionSpec(RUNS)
    return jax.shard_map(local, mesh=self._mesh, in_specs=(spec, spec, PartitionSpec()), out_specs=spec,
                         check_vma=False)


KINDS: dict[str, type[Lanes]] = {kind.name: kind for kind in (OneByOne, Stacked, Spread)}


def _row(tree: Any, index: int) -> Any:
  """One run's entry along the leading axis of runs."""
  return jax.tree.map(lambda x: x[index], tree)


def _where(active: jax.Array, new: jax.Array, old: jax.Array) -> jax.Array:
  """The new leaf of each active run, and the old leaf of the others. Leaves may be typed keys."""
  if jnp.issubdtype(new.dtype, jax.dtypes.prng_key):
    chosen = _where(active, jax.random.key_data(new), jax.random.key_data(old))
    return jax.random.wrap_key_data(chosen, impl=jax.random.key_impl(new))
  return jnp.where(active.reshape(-1, *(1,) * (new.ndim - 1)), new, old)
