"""Runs one update on any number of devices and processes, by jit over a mesh (default) or by pmap.

The update is the same function on any number of them. Its sums are taken in another order, so losses differ by
rounding, which training amplifies: docs/reliability.md has how far each method gets.
"""

import dataclasses
import json
import logging
import os
import threading
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax._src import distributed  # for the key-value store, which has no public name
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from dgjax import ops
from dgjax.algorithms.base import Algorithm, Batch, TrainState
from dgjax.errors import UserError, nearest
from dgjax.peers import Peers

AXIS = "data"
KINDS = ("jit", "pmap")

_peers: Peers | None = None  # of a process that is one of several


def start_processes() -> None:
  """Joins the other processes of this run, if there are any; call it before anything else touches JAX.

  `JAX_COORDINATOR_ADDRESS`, `JAX_NUM_PROCESSES` and `JAX_PROCESS_ID` are explicit settings. Without them SLURM's own
  are used where `srun` started more than one task, and a TPU pod's on GKE. `DGJAX_PROCESSES=auto` asks JAX to find
  out, as is needed on Cloud TPU virtual machines, under Open MPI and on Kubernetes.

  Raises:
    UserError: the settings are incomplete.
  """
  global _peers
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
  if jax.distributed.is_initialized():
    state = distributed.global_state
    _peers = Peers(state.client, state.process_id, state.num_processes)
    _peers.start()


def _number(name: str) -> int:
  value = os.environ[name]
  if not value.isdecimal():
    raise UserError(f"{name} is {value!r}: it must be a whole number")
  return int(value)


def agree(value: Any) -> Any:
  """The value of process 0, on every process. All processes must call it.

  Args:
    value: a JSON value. Values of other processes are ignored.
  """
  if jax.process_count() == 1:
    return value
  text = np.frombuffer(json.dumps(value).encode(), np.uint8)
  length = int(multihost_utils.broadcast_one_to_all(np.int32(text.size)))
  text = text if jax.process_index() == 0 else np.zeros(length, np.uint8)
  return json.loads(multihost_utils.broadcast_one_to_all(text).tobytes())


def failed(error: BaseException, message: str) -> str:
  """Tells the other processes that this one fails, and finds out whether another one caused it.

  Args:
    error: that ends this process.
    message: what it says, in one line.

  Returns:
    The line to show. If another process failed first, the line names it.
  """
  if _peers is None:
    return message
  causes: list[BaseException | None] = [error, error.__cause__, error.__context__]
  return _peers.fail(message, known=not any(isinstance(cause, jax.errors.JaxRuntimeError) for cause in causes))


def began() -> None:
  """Tells the other processes that there are steps to save."""
  if _peers is not None:
    _peers.began()


def leave_others(status: int, seconds: float = 5.0) -> None:
  """Makes sure that a failed process ends with this exit status even if others go on.

  A clean shutdown waits for all processes, and they wait for this one in their next collective operation.

  Args:
    status: the exit status.
    seconds: after which the exit is forced; if all failed alike, the clean shutdown finishes first.
  """
  if jax.distributed.is_initialized():
    timer = threading.Timer(seconds, os._exit, [status])
    timer.daemon = True
    timer.start()


def differing(value: Any) -> list[int]:
  """The processes whose value differs from that of process 0. All processes must call it.

  Args:
    value: JSON-able.
  """
  if jax.process_count() == 1:
    return []
  same = agree(value) == json.loads(json.dumps(value))
  return np.flatnonzero(~multihost_utils.process_allgather(np.array(same))).tolist()


@dataclasses.dataclass(frozen=True)
class Devices:
  """The devices of a run, and how its computations are spread over them.

  Attributes:
    kind: "jit": one program over the mesh with global-batch semantics, so batch statistics and every loss see the whole
      batch. "pmap": one program for each device; gradients and batch statistics are averaged over devices.
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
    """What rounding depends on. Two runs that differ in it differ in their last digits, and later in more.

    `backend` is whose convolutions and products are in use, "native" (oneDNN's, which serve one CPU device alone) or
    "xla"; `threads` is `ops.threads`; sums over a batch are split among `devices` and `processes`.
    """
    return {"backend": ops.backend() if self.mesh.size == 1 else "xla", "threads": ops.threads(),
            "devices": self.mesh.size, "processes": jax.process_count()}

  def put(self, batch: Mapping[str, Any]) -> Batch:
    """Copies this process's rows of a batch (NumPy arrays) to its devices, as rows of the global batch.

    Arrays of several steps have the steps as a further leading axis, as `feed.Feed.take` returns them.
    """
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(self.sharded, x), batch)

  def init(self, algorithm: Algorithm, batch: Mapping[str, Any]) -> Callable[[jax.Array], TrainState]:
    """Compiles `algorithm.init`, a function of a key; the state lies on every device.

    Args:
      algorithm: the method.
      batch: as `update` takes it, or its shapes.
    """
    zeros = lambda: jax.tree.map(lambda x: jax.numpy.zeros(x.shape, x.dtype), batch)  # noqa: E731
    return self.compile(lambda key: algorithm.init(key, zeros()))

  def compile(self, function: Callable[..., Any], updates: bool = False) -> Callable[..., Any]:
    """Compiles a function whose results are needed on every device.

    Args:
      function: with `updates`, a function from a state, a batch and what all batches share to the next state and
        metrics. Its algorithm has to have this object's `axis`.
      updates: whether the first argument is consumed.
    """
    if not updates:
      return jax.jit(function, out_shardings=self.replicated)
    if self.kind == "jit":
      return jax.jit(function, donate_argnums=0, out_shardings=self.replicated)
    mapped = jax.pmap(function, axis_name=AXIS, in_axes=(None, 0, None), out_axes=None,
                      devices=self.mesh.devices.tolist())

    def step(state: TrainState, batch: Batch, shared: Any) -> Any:
      per_device = jax.tree.map(lambda x: x.reshape(self.mesh.size, -1, *x.shape[1:]), batch)
      return jax.tree.map(self._everywhere, mapped(state, per_device, shared))

    return step

  @property
  def axis(self) -> str | None:
    """Name of the axis that updates are mapped over, as `Algorithm.axis` wants it; None under jit."""
    return AXIS if self.kind == "pmap" else None

  def _everywhere(self, x: jax.Array) -> jax.Array:
    """An array that pmap made, which spans this process's devices, as one over all devices."""
    if jax.process_count() == 1:
      return x
    return jax.make_array_from_single_device_arrays(x.shape, self.replicated, [s.data for s in x.addressable_shards])


def make(kind: str, devices: int, batch_size: int, target_batch_size: int = 0) -> Devices:
  """Chooses the devices of a run.

  Args:
    kind: "jit" or "pmap".
    devices: how many; 0 for all.
    batch_size: training batch size, which the number of devices must divide.
    target_batch_size: size of a batch's target part, which the number of devices must divide too. 0: there is none.

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
  return Devices(kind, Mesh(np.asarray(devices_), (AXIS,), axis_types=(AxisType.Auto,)))
