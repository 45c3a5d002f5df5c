"""The optional package dgjax-native: oneDNN's operations as foreign functions of XLA's CPU backend."""
import functools
import types

import jax

INTERFACE = 2  # of the package; a package built for another one is not used


@functools.cache
def _load() -> tuple[types.ModuleType | None, str]:
  """The package and "", or None and the reason why it is not in use."""
  try:
    import dgjax_native
  except ImportError as error:
    if isinstance(error, ModuleNotFoundError) and error.name == "dgjax_native":
      return None, "the package dgjax-native is not installed"
    return None, f"the package dgjax-native does not load ({error})"
  if dgjax_native.INTERFACE != INTERFACE:
    return None, f"the package dgjax-native has interface {dgjax_native.INTERFACE}, not {INTERFACE}; build it again"
  for name, capsule in dgjax_native.targets().items():
    jax.ffi.register_ffi_target(name, capsule, platform="cpu")
  return dgjax_native, ""


def available() -> bool:
  """Whether the package is installed and fits."""
  return _load()[0] is not None


def reason() -> str:
  """Why the package is not in use; "" when it is."""
  return _load()[1]


def _package() -> types.ModuleType:
  package, why = _load()
  if package is None:
    raise RuntimeError(why)
  return package


def describe() -> str:
  """oneDNN's version and the threads it uses."""
  return _package().describe()


def refusal(spec: tuple[int, ...]) -> str:
  """Why oneDNN does not run the operation `spec` (see `dgjax_native.h`); "" when it does."""
  return _package().refusal(spec)
