"""One update on any number of devices and processes: jit over a mesh (default), or pmap."""

import dataclasses
import functools
import json
import logging
import os
import threading
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from dgjax import ops
from dgjax.algorithms.base import Algorithm, Batch, Phase, TrainState
from dgjax.errors import UserError, nearest

AXIS = "data"
KINDS = ("jit", "pmap")


def start_processes() -> None:
  """Joins the other processes of this run, if there are any; call it before anything else touches JAX.

  `JAX_COORDINATOR_ADDRESS`, `JAX_NUM_PROCESSES` and `JAX_PROCESS_ID` are explicit settings. Without them SLURM's own
  are used where `srun` started more than one task, and a TPU pod's on GKE. `DGJAX_PROCESSES=auto` asks JAX to find
  out, as is needed on Cloud TPU virtual machines, under Open MPI and on Kubernetes.

  Raises:
    UserError: the settings are incomplete.
  """
  logging.getLogger("jax._src.distributed").setLevel(logging.WARNING)
  names = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
  explicit = {name: os.environ.get(name) for name in names}
  auto = os.environ.get("DGJAX_PROCESSES", "")
  if auto not in ("", "auto"):
    raise UserError(f"DGJAX_PROCESSES is {auto!r}: it can only be 'auto'; for a number set {', '.join(names)}")
  if any(explicit.values()):
    if missing := [name for name, value in explicit.items() if not value]:
      raise UserError(f"{missing[0]} is not set though {next(n for n, v in explicit.items() if v)} is: "
                      "set all three, or none")
    jax.distributed.initialize(explicit["JAX_COORDINATOR_ADDRESS"], _number("JAX_NUM_PROCESSES"),
                               _number("JAX_PROCESS_ID"), cluster_detection_method="deactivate")
  # SLURM_NTASKS is also there in a batch script and an interactive shell, where one process runs.
  elif (auto or int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1
        or len(os.environ.get("TPU_WORKER_HOSTNAMES", "").split(",")) > 1):
    jax.distributed.initialize()


def _number(name: str) -> int:
  value = os.environ[name]
  if not value.isdecimal():
    raise UserError(f"{name} is {value!r}: it must be a whole number")
  return int(value)


def agree(value: Any) -> Any:
  """What process 0 gives, on every process; all of them must call it.

  Args:
    value: JSON-able; that of other processes is ignored.
  """
  if jax.process_count() == 1:
    return value
  text = np.frombuffer(json.dumps(value).encode(), np.uint8)
  length = int(multihost_utils.broadcast_one_to_all(np.int32(text.size)))
  text = text if jax.process_index() == 0 else np.zeros(length, np.uint8)
  return json.loads(multihost_utils.broadcast_one_to_all(text).tobytes())


def leave_others(status: int, seconds: float = 5.0) -> None:
  """Makes sure that a process that failed ends, with this exit status, though others go on.

  An orderly end waits for all processes, and those wait for this one in their next collective operation.

  Args:
    status: the exit status.
    seconds: left for an orderly end, which comes to pass where all failed alike.
  """
  if jax.distributed.is_initialized():
    timer = threading.Timer(seconds, os._exit, [status])
    timer.daemon = True
    timer.start()


@dataclasses.dataclass(frozen=True)
class Parallel:
  """How a run's computations are laid over devices.

  Attributes:
    kind: "jit", one program over the mesh with global-batch semantics: batch statistics and every loss see the whole
      batch; or "pmap", one program per device, gradients and batch statistics averaged over devices.
    mesh: all devices of all processes, in one axis.
  """

  kind: str
  mesh: Mesh

  @property
  def replicated(self) -> NamedSharding:
    """Every device holds all of it."""
    return NamedSharding(self.mesh, PartitionSpec())

  @property
  def sharded(self) -> NamedSharding:
    """Rows are spread over devices."""
    return NamedSharding(self.mesh, PartitionSpec(AXIS))

  @property
  def arithmetic(self) -> dict[str, Any]:
    """What rounding depends on: two runs that differ in it differ in their last digits, and later in more.

    `backend` is whose convolutions and products are in use, "native" (oneDNN's, which serve one CPU device alone) or
    "xla"; `threads` is `ops.threads`.
    """
    return {"backend": ops.backend() if self.mesh.size == 1 else "xla", "threads": ops.threads()}

  def place(self, batch: Mapping[str, Any]) -> Batch:
    """Lays this process's rows of a batch, NumPy arrays, onto its devices, as rows of the global batch."""
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(self.sharded, x), batch)

  def init(self, algorithm: Algorithm, seed: int, batch: Mapping[str, Any]) -> TrainState:
    """The state before the first update, on every device. `batch` as `update` takes it, or its shapes."""
    return self.jit(lambda key: algorithm.init(key, jax.tree.map(lambda x: jax.numpy.zeros(x.shape, x.dtype), batch)))(
        jax.random.key(seed))

  def jit(self, function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiles a function whose results are wanted on every device."""
    return jax.jit(function, out_shardings=self.replicated)

  def update(self, algorithm: Algorithm, prepare: Callable[[Batch], Batch], phase: Phase | None = None,
             first: bool = False) -> Callable[..., Any]:
    """Compiles a phase's update on batches that `place` laid out.

    Args:
      algorithm: the method.
      prepare: applied to each batch on the device first.
      phase: one of the method's; default: its first.
      first: whether it is the phase's first update, which its `enter` comes before.

    Returns:
      A function of a state, which is consumed, and a batch; it returns the next state and metrics.
    """
    begin = phase.begin if phase else 0
    if self.kind == "jit":
      update = algorithm.phase_at(begin).step(first)
      return jax.jit(lambda state, batch: update(state, prepare(batch)), donate_argnums=0,
                     out_shardings=(self.replicated, self.replicated))
    update = dataclasses.replace(algorithm, axis=AXIS).phase_at(begin).step(first)
    mapped = jax.pmap(lambda state, batch: update(state, prepare(batch)), axis_name=AXIS, in_axes=(None, 0),
                      out_axes=None, devices=self.mesh.devices.tolist())

    @functools.wraps(update)
    def step(state: TrainState, batch: Batch) -> Any:
      per_device = jax.tree.map(lambda x: x.reshape(self.mesh.size, -1, *x.shape[1:]), batch)
      return jax.tree.map(self._everywhere, mapped(state, per_device))

    return step

  def _everywhere(self, x: jax.Array) -> jax.Array:
    """An array that pmap made, which spans this process's devices, as one over all devices."""
    if jax.process_count() == 1:
      return x
    return jax.make_array_from_single_device_arrays(x.shape, self.replicated, [s.data for s in x.addressable_shards])


def make(kind: str, devices: int, batch_size: int, target_batch_size: int = 0) -> Parallel:
  """Chooses the devices of a run.

  Args:
    kind: "jit" or "pmap".
    devices: how many; 0 for all.
    batch_size: of training; it must divide among the devices.
    target_batch_size: of the target's part of a batch, which must divide too; 0: there is none.

  Raises:
    UserError: a setting does not fit.
  """
  if kind not in KINDS:
    raise UserError(f"parallel is {kind!r}{nearest(kind, KINDS)}")
  have = jax.device_count()
  if not 0 <= devices <= have:
    raise UserError(f"devices is {devices}, and there are {have}: set it to 0 for all of them")
  if devices and jax.process_count() > 1 and devices != have:
    raise UserError(f"devices is {devices}: with several processes it must be 0, all of them")
  count = devices or have
  for key, size in (("batch_size", batch_size), ("target_batch_size", target_batch_size)):
    if size % count:
      fits = [fit for fit in (size - size % count, size - size % count + count) if fit]
      raise UserError(f"{key} {size} does not divide among {count} devices: use {' or '.join(map(str, fits))}")
  # Process by process, so that the rows of the global batch stand in the order that one process would have them in.
  devices_ = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))[:count]
  return Parallel(kind, Mesh(np.asarray(devices_), (AXIS,), axis_types=(AxisType.Auto,)))
