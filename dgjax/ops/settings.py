"""Which implementation convolutions, pooling and matrix products use on a CPU."""
import contextlib
import os
from collections.abc import Iterator

import jax
from absl import logging

from dgjax.errors import UserError, nearest
from dgjax.ops import native

BACKENDS = ("auto", "native", "xla")
VARIABLE = "DGJAX_CPU_BACKEND"

ONEDNN_FLAG = "--xla_cpu_experimental_onednn_custom_call"

_chosen: str | None = None


def _setting() -> str:
  """The setting in force: `use`, else the environment, else "auto"."""
  name = _chosen or os.environ.get(VARIABLE) or "auto"
  if name not in BACKENDS:
    raise UserError(f"{VARIABLE}: no CPU backend {name!r}{nearest(name, BACKENDS)}")
  if name == "native" and not native.available():
    raise UserError(f"{VARIABLE}=native, but {native.reason()}; install it or set {VARIABLE}=xla")
  return name


def use(name: str) -> None:
  """Chooses the CPU implementation for the rest of the process. Functions that are compiled already compile again.

  Computations over more than one device, and those on other platforms, use XLA's own operations whatever is
  chosen here.

  Args:
    name: "auto" (oneDNN where the package dgjax-native is installed, else XLA), "native" or "xla".

  Raises:
    UserError: an unknown name, or "native" without the package.
  """
  global _chosen
  before, old = _chosen, _chosen or os.environ.get(VARIABLE) or "auto"
  _chosen = name
  try:
    _setting()
  except UserError:
    _chosen = before
    raise
  if name != old:
    jax.clear_caches()


@contextlib.contextmanager
def only(name: str) -> Iterator[None]:
  """Uses one CPU implementation for everything compiled inside. Arguments and errors are those of `use`."""
  before = _chosen or os.environ.get(VARIABLE) or "auto"
  use(name)
  try:
    yield
  finally:
    use(before)


def backend() -> str:
  """Names the implementation that computations on one device use: "native" or "xla"."""
  setting = _setting()
  if jax.default_backend() != "cpu" or setting == "xla" or not native.available():
    return "xla"
  return "native"


def threads() -> int | None:
  """The number of threads that an operation is divided among on a CPU; None on other platforms.

  It is `NPROC` where the environment has that, for XLA and oneDNN alike, else the number of cores the process may use.
  How a sum is divided decides its last digit, so runs are the same bit for bit only if this number is.
  """
  if jax.default_backend() != "cpu":
    return None
  text = os.environ.get("NPROC", "")
  if text.isdecimal() and int(text) > 0:
    return int(text)
  return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def onednn_in_xla() -> bool:
  """Whether XLA gives bfloat16 convolutions to oneDNN itself (from jax 0.12 on, under a flag that is read once)."""
  return jax.__version_info__ >= (0, 12) and f"{ONEDNN_FLAG}=true" in os.environ.get("XLA_FLAGS", "").split()


def describe() -> str:
  """One line for the start of a run: the implementation in use and why."""
  platform = jax.default_backend()
  if platform != "cpu":
    return f"xla ({platform})"
  if backend() == "native":
    return f"native ({native.describe()})"
  if _setting() == "xla" and native.available():
    return f"xla ({VARIABLE} or ops.use says so; {native.describe()} is installed)"
  return f"xla ({native.reason() or 'chosen'})"


_warned: set[str] = set()


def warn_once(message: str) -> None:
  """Logs `message` the first time it is seen in this process."""
  if message not in _warned:
    _warned.add(message)
    logging.warning(message)
