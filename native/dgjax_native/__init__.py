"""oneDNN's convolutions and matrix products, max-pooling and mixtures, as foreign functions of XLA's CPU backend."""
import ctypes
import os
import pathlib

import jax

INTERFACE = 2  # changes with what the foreign functions expect

_TEXT = 512


def _open() -> ctypes.CDLL:
  """Loads the library; its OpenMP threads sleep while they wait, as XLA's threads need the cores meanwhile."""
  before = os.environ.get("OMP_WAIT_POLICY")
  os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read once, when OpenMP's library is loaded
  try:
    return ctypes.CDLL(str(pathlib.Path(__file__).with_name("dgjax_native.so")))
  finally:
    if before is None:
      del os.environ["OMP_WAIT_POLICY"]


_library = _open()


def targets() -> dict[str, object]:
  """The foreign functions by name, for `jax.ffi.register_ffi_target`."""
  return {"dgjax_native_contract": jax.ffi.pycapsule(_library.DgjaxContract),
          "dgjax_native_mix": jax.ffi.pycapsule(_library.DgjaxMix),
          "dgjax_native_mix_gradients": jax.ffi.pycapsule(_library.DgjaxMixGradients),
          "dgjax_native_pool": jax.ffi.pycapsule(_library.DgjaxPool)}


def _plan(spec: tuple[int, ...]) -> tuple[bool, str]:
  text = ctypes.create_string_buffer(_TEXT)
  failed = _library.dgjax_native_plan((ctypes.c_int64 * len(spec))(*spec), ctypes.c_size_t(len(spec)), text,
                                      ctypes.c_size_t(_TEXT))
  return not failed, text.value.decode()


def refusal(spec: tuple[int, ...]) -> str:
  """Why oneDNN does not run the operation that `spec` lists (src/contract.cc); "" when it does."""
  works, text = _plan(spec)
  return "" if works else text or "refused"


def implementation(spec: tuple[int, ...]) -> str:
  """oneDNN's name of the code that runs the operation.

  Raises:
    ValueError: oneDNN does not run it.
  """
  works, text = _plan(spec)
  if not works:
    raise ValueError(text)
  return text


def describe() -> str:
  """oneDNN's version and how many threads share an operation."""
  text = ctypes.create_string_buffer(_TEXT)
  _library.dgjax_native_describe(text, ctypes.c_size_t(_TEXT))
  return text.value.decode()
