"""Weights under torchvision's names: import from `.safetensors` and `.pth`, export to `.safetensors`.

Names follow from the parameter tree by rule. The modules on the way to a parameter are joined by dots; a stage
that only groups layers of the top level (ResNet's `conv1` holds `conv1` and `bn1`) is left out; kernel and scale
become weight, a statistic gets the prefix running_. Kernels are transposed: (height, width, in, out) here is
(out, in, height, width) there, and (in, out) is (out, in).
"""

import os
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from absl import logging
from flax import traverse_util

from dgjax.errors import UserError

LEAVES = {"params": {"kernel": "weight", "scale": "weight"},
          "batch_stats": {"mean": "running_mean", "var": "running_var"}}
UNUSED = "num_batches_tracked"  # counts updates; PyTorch reads it only where momentum is None
SHOWN = 8  # names in one message


def names(variables: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
  """Maps torchvision's name of every parameter and statistic to its path.

  Args:
    variables: "params" and, where there are any, "batch_stats" of a network (arrays or their shapes).

  Returns:
    Name -> path in `variables`, in the network's order.
  """
  found = {}
  for collection, leaves in LEAVES.items():
    for path in traverse_util.flatten_dict(dict(variables.get(collection, {}))):
      stage, *modules, leaf = path
      # A stage with a child of its own name groups layers that stand at the top level in torchvision.
      groups = bool(modules) and stage in variables["params"][stage]
      found[".".join([*([] if groups else [stage]), *modules, leaves.get(leaf, leaf)])] = (collection, *path)
  return found


def _shape(path: tuple[str, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
  """The shape in torchvision's layout of the array at `path`, of `shape` here."""
  return (*shape[:-3:-1], *shape[:-2]) if path[-1] == "kernel" else tuple(shape)


def _to_torch(path: tuple[str, ...], array: np.ndarray) -> np.ndarray:
  return np.moveaxis(array, (-1, -2), (0, 1)) if path[-1] == "kernel" else array


def _from_torch(path: tuple[str, ...], array: np.ndarray) -> np.ndarray:
  return np.moveaxis(array, (0, 1), (-1, -2)) if path[-1] == "kernel" else array


def _listed(items: list[str]) -> str:
  more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
  return ", ".join(items[:SHOWN]) + more


def _read_pth(path: str) -> dict[str, np.ndarray]:
  try:
    import torch
  except ImportError:
    raise UserError(f"{path}: reading .pth files needs PyTorch: `pip install dgjax[torch]`, or convert the file "
                    "to .safetensors") from None
  try:
    state = torch.load(path, map_location="cpu", weights_only=True)
  except Exception as error:  # zipfile, pickle and torch raise their own kinds
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    raise UserError(f"{path}: torch.load(weights_only=True) does not read it: {reason}") from None
  entries = state if isinstance(state, Mapping) else {type(state).__name__: state}
  if strange := [str(name) for name, value in entries.items() if not isinstance(value, torch.Tensor)]:
    raise UserError(f"{path}: not a state_dict but {_listed(strange)}; save module.state_dict() alone")
  return {name: (value.detach().float() if value.is_floating_point() else value).numpy()  # NumPy has no bfloat16
          for name, value in entries.items()}


def _read_safetensors(path: str) -> dict[str, np.ndarray]:
  try:
    return safetensors.numpy.load_file(path)
  except (OSError, safetensors.SafetensorError) as error:
    raise UserError(f"{path}: not a safetensors file, or cut short: {error}") from None


def read(path: str) -> dict[str, np.ndarray]:
  """Reads the tensors of a `.safetensors` or `.pth` (`.pt`) file.

  Args:
    path: the file.

  Returns:
    Name -> array, as in the file.

  Raises:
    UserError: no such file, another kind of file, or one that cannot be read.
  """
  path = os.path.expanduser(path)
  if not os.path.isfile(path):
    raise UserError(f"model.weights: no file {path!r}")
  suffix = os.path.splitext(path)[1]
  if suffix == ".safetensors":
    return _read_safetensors(path)
  if suffix in (".pth", ".pt"):
    return _read_pth(path)
  raise UserError(f"model.weights: {path!r} is neither .safetensors nor .pth")


def load(path: str, variables: Mapping[str, Any], fresh_head: str | None = None,
         fresh: str | None = None) -> dict[str, Any]:
  """Replaces a network's parameters and statistics by those of a file with torchvision's names.

  Args:
    path: `.safetensors`, or `.pth` (needs the `torch` extra; read without unpickling code).
    variables: "params" and "batch_stats" as the network's `init` gives them.
    fresh_head: name of the last stage (`network.names[-1]`) to fine-tune: where the file's has another number of
      classes, or `variables` lack the stage, the file's is left out, and this is logged. None: that is an error.
    fresh: regular expression of paths such as "layer1/0/conv2/dynamic/phi": where the file lacks all parameters that it
      finds, they stay as they are, and this is logged. A file with some of them has to have them all.

  Returns:
    Variables of the same structure and types.

  Raises:
    UserError: the file cannot be read, or lacks a tensor, or has one too many or of another shape.
  """
  tensors = {name: value for name, value in read(path).items() if name.split(".")[-1] != UNUSED}
  known = names(variables)
  flat = traverse_util.flatten_dict(dict(variables), keep_empty_nodes=True)
  wanted = {name: _shape(where, flat[where].shape) for name, where in known.items()}
  differing = {name for name, shape in wanted.items() if name in tensors and tensors[name].shape != shape}
  kept: set[str] = set()
  if fresh_head:
    head = {name for name in (*wanted, *tensors) if name.startswith(f"{fresh_head}.")}
    # Only the number of classes may differ: another number of features is another network.
    other_classes = head <= differing and all(tensors[name].shape[1:] == wanted[name][1:] for name in head)
    if head and (other_classes or not head & wanted.keys()):
      kept = head
      reason = "the network here is without it"
      if other_classes:
        reason = f"{len(tensors[min(head)])} classes there, {wanted[min(head)][0]} here"
      logging.info("%s: %s starts fresh: %s", path, fresh_head, reason)
      tensors = {name: value for name, value in tensors.items() if name not in head}
  if fresh:
    added = {name for name, where in known.items() if re.search(fresh, "/".join(where))}
    if added and not added & tensors.keys():
      kept |= added
      logging.info("%s: %d parameters that it lacks start fresh, such as %s", path, len(added), min(added))
  faults = []
  if missing := [name for name in wanted if name not in tensors and name not in kept]:
    faults.append(f"missing {_listed(missing)}")
  if surplus := [name for name in tensors if name not in wanted]:
    faults.append(f"surplus {_listed(surplus)}")
  if misshapen := [name for name in wanted if name in differing - kept]:
    faults.append("misshapen " + _listed([f"{name} {tensors[name].shape} not {wanted[name]}" for name in misshapen]))
  if whole := [name for name in wanted if name in tensors and not jnp.issubdtype(tensors[name].dtype, jnp.floating)]:
    faults.append(f"not floating-point {_listed(whole)}")
  if faults:
    raise UserError(f"{path}: not the weights of this network: {'; '.join(faults)}")
  for name, where in known.items():
    if name not in kept:
      flat[where] = jnp.asarray(_from_torch(where, tensors[name]), flat[where].dtype)
  return traverse_util.unflatten_dict(flat)


def save(path: str, variables: Mapping[str, Any]) -> None:
  """Writes a network's parameters and statistics under torchvision's names and in its layout.

  The file appears whole or not at all; PyTorch's `load_state_dict` takes it.

  Args:
    path: a `.safetensors` file.
    variables: "params" and "batch_stats".
  """
  flat = traverse_util.flatten_dict(dict(jax.device_get(variables)))
  # safetensors writes an array's memory as it lies, so a transposed view has to be copied.
  tensors = {name: np.ascontiguousarray(_to_torch(where, np.asarray(flat[where])))
             for name, where in names(variables).items()}
  partial = f"{path}.partial"
  safetensors.numpy.save_file(tensors, partial)
  os.replace(partial, path)
