"""Weights under torchvision's names: import from `.safetensors` and `.pth`, export to `.safetensors`.

Names follow from the parameter tree by rule. The modules on the way to a parameter are joined by dots; a stage
that only groups layers of the top level (ResNet's `conv1` holds `conv1` and `bn1`) is left out; kernel and scale
become weight, a statistic gets the prefix running_. Kernels are transposed: (height, width, in, out) here is
(out, in, height, width) there, and (in, out) is (out, in). timm's ResNets have the same names.

A file may hold more than the network, or hold it below a prefix: `module.` of DataParallel, `state_dict`, `model`,
`backbone.`, DRT's `module.features.` and `state_dict_G`. The prefix is found by the network's names.
"""

import logging
import os
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from flax import traverse_util

from dgjax.errors import UserError

LEAVES = {"params": {"kernel": "weight", "scale": "weight"},
          "batch_stats": {"mean": "running_mean", "var": "running_var"}}
UNUSED = "num_batches_tracked"  # counts updates; PyTorch reads it only where momentum is None
SHOWN = 8  # names in one message
SUFFIXES = (".safetensors", ".pth", ".pt", ".pth.tar", ".bin")
# Names of the attention branches in DRT's released networks -> here. Each Phi is a 1x1 convolution of its own there.
BRANCHES = ((re.compile(r"(.*\.\d+)\.fc\.0\.weight"), r"\1.conv2.dynamic.squeeze.weight"),
            (re.compile(r"(.*\.\d+)\.fc\.2\.weight"), r"\1.conv2.dynamic.routing.weight"))
PHI = re.compile(r"(.*\.\d+)\.conv_s(\d+)\.weight")

log = logging.getLogger("dgjax")


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


def flatten(state: Any, path: str = "") -> dict[str, Any]:
  """The leaves of nested dicts under dotted names.

  Args:
    state: what a file holds: a dict, or one tensor.
    path: its name.

  Returns:
    "state_dict.conv1.weight" -> tensor, and whatever else there is.
  """
  if not isinstance(state, Mapping):
    return {path: state}
  return {name: leaf for key, value in state.items()
          for name, leaf in flatten(value, f"{path}.{key}" if path else str(key)).items()}


def _refuse(path: str, dtypes: Mapping[str, str]) -> None:
  """Refuses numbers of 8 bits: they mean nothing without scales, whose place in a file follows no standard."""
  if strange := [f"{name} ({dtype})" for name, dtype in dtypes.items() if "F8" in dtype or "float8" in dtype]:
    raise UserError(f"{path}: numbers of 8 bits are not read: {_listed(strange)}; convert them to float32 with the "
                    "scales that belong to them")


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
  # A checkpoint of training holds counters and an optimiser's settings beside tensors.
  tensors = {name: value for name, value in flatten(state).items() if isinstance(value, torch.Tensor)}
  if not tensors:
    holds = _listed([str(name) for name in state]) if isinstance(state, Mapping) else type(state).__name__
    raise UserError(f"{path}: no tensors, but {holds or 'nothing'}; save module.state_dict()")
  _refuse(path, {name: str(value.dtype) for name, value in tensors.items()})
  return {name: (value.detach().float() if value.is_floating_point() else value.detach()).numpy()  # no bfloat16 there
          for name, value in tensors.items()}


def _read_safetensors(path: str) -> dict[str, np.ndarray]:
  try:
    with safetensors.safe_open(path, framework="np") as file:
      _refuse(path, {name: file.get_slice(name).get_dtype() for name in file.keys()})  # noqa: SIM118
    return safetensors.numpy.load_file(path)
  except (OSError, safetensors.SafetensorError) as error:
    raise UserError(f"{path}: not a safetensors file, or cut short: {error}") from None


def read(path: str) -> dict[str, np.ndarray]:
  """Reads the tensors of a `.safetensors` or `.pth` (`.pt`, `.pth.tar`, `.bin`) file.

  Args:
    path: the file; `~` is the home folder.

  Returns:
    Name -> array, as in the file; those of nested dicts under dotted names.

  Raises:
    UserError: no such file, another kind of file, one that cannot be read, or numbers of 8 bits.
  """
  path = os.path.expanduser(path)
  if not os.path.isfile(path):
    raise UserError(f"model.weights: no file {path!r}")
  suffix = next((suffix for suffix in SUFFIXES if path.endswith(suffix)), None)
  if suffix is None:
    raise UserError(f"model.weights: {path!r} is neither .safetensors nor .pth (known: {', '.join(SUFFIXES)})")
  return _read_safetensors(path) if suffix == ".safetensors" else _read_pth(path)


def _below(path: str, tensors: Mapping[str, np.ndarray], wanted: Mapping[str, Any]) -> dict[str, np.ndarray]:
  """The tensors below the prefix that has most of the network's names. All others are left out.

  Raises:
    UserError: it is there twice.
  """
  found: dict[str, int] = {}
  for name in tensors:
    parts = name.split(".")
    for i in range(len(parts)):
      if ".".join(parts[i:]) in wanted:
        prefix = "".join(f"{part}." for part in parts[:i])
        found[prefix] = found.get(prefix, 0) + 1
  most = [prefix for prefix, count in found.items() if count == max(found.values())]
  if not found or "" in most:
    return dict(tensors)
  if len(most) > 1:
    raise UserError(f"{path}: it holds the network {len(most)} times, under the prefixes {_listed(most)}: save one "
                    "alone")
  prefix, = most
  others = [name for name in tensors if not name.startswith(prefix)]
  log.info("%s: the network is read from below the prefix %r%s", path, prefix,
           f"; left out: {_listed(others)}" if others else "")
  return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _from_drt(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Renames the attention branches and the Phi of DRT's released networks, and stacks these: (k, in, out)."""
  result: dict[str, np.ndarray] = {}
  matrices: dict[str, dict[int, np.ndarray]] = {}
  for name, value in tensors.items():
    if match := PHI.fullmatch(name):
      matrices.setdefault(f"{match[1]}.conv2.dynamic.phi", {})[int(match[2])] = value[:, :, 0, 0].T
    else:
      for pattern, ours in BRANCHES:
        name = pattern.sub(ours, name)
      result[name] = value
  return result | {name: np.stack([found[i] for i in sorted(found)]) for name, found in matrices.items()}


def load(path: str, variables: Mapping[str, Any], fresh_head: str | None = None,
         fresh: str | None = None) -> dict[str, Any]:
  """Replaces a network's parameters and statistics by those of a file with torchvision's names.

  The log says what is not obvious from the file, such as its prefix or that the head starts fresh.

  Args:
    path: `.safetensors`, or `.pth` (needs the `torch` extra; read without unpickling code).
    variables: "params" and "batch_stats" as the network's `init` gives them.
    fresh_head: name of the last stage (`network.names[-1]`), which starts fresh if the file lacks it or has it in
      another size, or if `variables` lacks it. None: that is an error.
    fresh: regular expression of paths such as "layer1/0/conv2/dynamic/phi". If the file lacks all parameters that it
      matches, they stay as they are. A file that has some of them has to have them all.

  Returns:
    Variables of the same structure and types.

  Raises:
    UserError: the file cannot be read, lacks a tensor, or has one too many, one of another shape, or one that is not
      finite.
  """
  known = names(variables)
  flat = traverse_util.flatten_dict(dict(variables), keep_empty_nodes=True)
  wanted = {name: _shape(where, flat[where].shape) for name, where in known.items()}
  tensors = _from_drt(_below(path, read(path), wanted))
  tensors = {name: value for name, value in tensors.items() if name.split(".")[-1] != UNUSED}
  kept: set[str] = set()
  if fresh_head and (reason := _head_differs(fresh_head, tensors, wanted)):
    kept = {name for name in (*wanted, *tensors) if name.startswith(f"{fresh_head}.")}
    log.info("%s: %s starts fresh: %s", path, fresh_head, reason)
    tensors = {name: value for name, value in tensors.items() if name not in kept}
  if fresh:
    added = {name for name, where in known.items() if re.search(fresh, "/".join(where))}
    if added and not added & tensors.keys():
      kept |= added
      log.info("%s: %d parameters that it lacks start fresh, such as %s", path, len(added), min(added))
  faults = []
  if missing := [name for name in wanted if name not in tensors and name not in kept]:
    faults.append(f"missing {_listed(missing)}")
  if surplus := [name for name in tensors if name not in wanted]:
    faults.append(f"surplus {_listed(surplus)}")
  shared = [name for name in wanted if name in tensors]
  if misshapen := [name for name in shared if tensors[name].shape != wanted[name]]:
    faults.append("misshapen " + _listed([f"{name} {tensors[name].shape} not {wanted[name]}" for name in misshapen]))
  if whole := [name for name in shared if not jnp.issubdtype(tensors[name].dtype, jnp.floating)]:
    faults.append("not floating-point " + _listed([f"{name} ({tensors[name].dtype})" for name in whole]))
  with np.errstate(over="ignore"):
    infinite = [name for name in shared if not np.isfinite(tensors[name].astype(np.float32)).all()]
  if infinite:
    faults.append(f"not finite as float32 {_listed(infinite)}")
  if faults:
    raise UserError(f"{path}: not the weights of this network: {'; '.join(faults)}")
  for name in shared:
    where = known[name]
    flat[where] = jnp.asarray(_from_torch(where, tensors[name]), flat[where].dtype)
  return traverse_util.unflatten_dict(flat)


def _head_differs(head: str, tensors: Mapping[str, np.ndarray], wanted: Mapping[str, tuple[int, ...]]) -> str:
  """Why a head starts fresh; "" if the file's fits."""
  here = {name: shape for name, shape in wanted.items() if name.startswith(f"{head}.")}
  there = {name: value.shape for name, value in tensors.items() if name.startswith(f"{head}.")}
  if here == there:
    return ""
  if not here:
    return "the network here is without it"
  if not there:
    return "the file is without it"
  weight = f"{head}.weight"
  if here.keys() == there.keys() and here[weight][1:] == there[weight][1:]:
    return f"{there[weight][0]} classes there, {here[weight][0]} here"
  return "; ".join(f"{name} is {there.get(name, 'absent')} there, {here.get(name, 'absent')} here"
                   for name in dict.fromkeys([*here, *there]) if here.get(name) != there.get(name))


def to_torchvision(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
  """A network's parameters and statistics under torchvision's names and in its layout.

  Args:
    variables: "params" and, where there are any, "batch_stats".

  Returns:
    Name -> contiguous array: kernels (out, in, height, width), linear layers (out, in). It is what PyTorch's
    `load_state_dict` and `safetensors.numpy.save_file` take, and what `load` reads back.
  """
  flat = traverse_util.flatten_dict(dict(jax.device_get(variables)))
  # safetensors writes an array's memory as it lies, so a transposed view has to be copied.
  return {name: np.ascontiguousarray(_to_torch(where, np.asarray(flat[where])))
          for name, where in names(variables).items()}


def save(path: str, variables: Mapping[str, Any]) -> None:
  """Writes what `to_torchvision` gives to a `.safetensors` file, which appears whole or not at all.

  Args:
    path: the file.
    variables: "params" and "batch_stats".
  """
  partial = f"{path}.partial"
  safetensors.numpy.save_file(to_torchvision(variables), partial)
  os.replace(partial, path)
