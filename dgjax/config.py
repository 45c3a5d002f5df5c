"""A run's config: defaults, a file of `configs/`, and overrides from the command line."""

import importlib.util
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from dgjax import algorithms, data, models
from dgjax.errors import UserError, nearest

SECTIONS = {"algorithm": algorithms.defaults, "model": models.defaults, "data": data.defaults}
# Keys that do not change a run's numbers: a resumed run may have other values.
FREE = ("log_every", "eval_batch_size", "devices", "data.dir", "data.cache_dir", "data.threads", "data.prefetch")


def default(*, algorithm: str, model: str, data: str) -> ConfigDict:
  """The config of a method on a data set, with every key there is.

  Args:
    algorithm: a name of `dgjax.algorithms.ALGORITHMS`.
    model: a name of `dgjax.models.NETWORKS`.
    data: a name of `dgjax.data.DATASETS`.

  Returns:
    A ConfigDict; the comments below say what the keys mean.
  """
  return ConfigDict({
      "seed": 0,  # of initial parameters, masks, batches and augmentation
      "target": "all",  # the unseen domain, or "all": each in turn, in a sub-folder each
      "sources": "",  # comma-separated source domains; "": all but the target; "each": each of these alone, in turn
      "epochs": 50,  # passes over the source domains' training examples
      "steps": 0,  # updates; above 0 it takes the place of epochs
      "batch_size": 64,  # over all devices and processes
      "target_batch_size": 0,  # of the target's images, for methods that adapt; 0: as batch_size
      "eval_batch_size": 256,
      "early_stop": 0.0,  # end at the first evaluation with this mean source validation accuracy; 0: never
      "eval_every": 0,  # steps between evaluations; 0: every epoch
      "log_every": 50,  # steps between fetching the metrics of every step
      "parallel": "jit",  # or "pmap"
      "devices": 0,  # how many to use; 0: all
      "report": _report(algorithm),  # "source_val" or "last": how the state that is scored in full is chosen
      "optimizer": {
          "name": "adam",
          "learning_rate": 1e-4,
          "weight_decay": 0.0,  # L2, added to the gradient
          "beta1": 0.9,  # of adam
          "momentum": 0.9,  # of sgd and rmsprop
          "nesterov": False,
          "decay": 0.9,  # of rmsprop's and adadelta's mean squares
          "epsilon": 1e-8,  # added to divisors; not of sgd
          "clip": 0.0,  # bound on the gradient's elements; 0: none
          "schedule": {"name": "constant", "clock": "epoch", "period": 1, "decay": 0.99, "gamma": 1e-4, "power": 0.75},
          "groups": {},  # parameters with a learning rate of their own; see `group`
      },
      "algorithm": algorithms.defaults(algorithm),
      "model": models.defaults(model),
      "data": SECTIONS["data"](data),
  })


def _report(algorithm: str) -> str:
  """The default of `config.report`: source accuracy says little of a method that adapts, so its last state counts."""
  return "last" if algorithms.adapts(algorithm) else "source_val"


def group(pattern: str, learning_rate: float, weight_decay: float = 0.0, constant: bool = False) -> dict[str, Any]:
  """An entry of `config.optimizer.groups`: parameters whose path matches the regular expression `pattern`."""
  return {"pattern": pattern, "learning_rate": learning_rate, "weight_decay": weight_decay, "constant": constant}


def load(path: str, overrides: Sequence[str] = ()) -> ConfigDict:
  """Reads a config file and applies overrides.

  Where an override names another algorithm, network or data set, that section becomes the new one's defaults, with what
  the file had set, not merely left as it was, where both have the key.

  Args:
    path: `configs/NAME.py`, or `configs/NAME.py:VARIANT`, given to the file's `get_config`.
    overrides: `--config.KEY=VALUE` arguments.

  Raises:
    UserError: no such file, variant, key or name, or a value of the wrong type.
  """
  config = _read(path)
  for section, defaults in SECTIONS.items():
    name = _value(overrides, f"--config.{section}.name")
    if name is not None and name != config[section].name:
      old, new = defaults(config[section].name), defaults(name)
      kept = {key: value for key, value in config[section].to_dict().items() if key in new and value != old.get(key)}
      if section == "algorithm" and config.report == _report(config.algorithm.name):
        config.report = _report(name)
      config[section] = new | kept | {"name": name}
  values = flags.FlagValues()
  try:
    config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=list(overrides))
    values(["config", *overrides])
  except (AttributeError, KeyError, flags.Error, ValueError, TypeError) as error:
    raise UserError(_override_message(config, overrides, error)) from error
  return config


def check(config: ConfigDict) -> None:
  """Refuses values that no run can have.

  Raises:
    UserError: with the key and the range.
  """
  lowest = {"batch_size": 1, "eval_batch_size": 1, "eval_every": 0, "log_every": 1, "steps": 0, "seed": 0,
            "target_batch_size": 0}
  for key, least in lowest.items():
    if config[key] < least:
      raise UserError(f"config.{key} is {config[key]}: it must be at least {least}")
  if not config.steps and config.epochs <= 0:
    raise UserError(f"config.epochs is {config.epochs}: it must be above 0, or set config.steps")
  if not 0 <= config.early_stop <= 1:
    raise UserError(f"config.early_stop is {config.early_stop}: it is an accuracy, from 0 to 1")
  if config.report not in ("source_val", "last"):
    raise UserError(f"config.report is {config.report!r}: use 'source_val' or 'last'")


def _read(path: str) -> ConfigDict:
  name, _, variant = path.partition(":")
  file = pathlib.Path(name)
  if not file.is_file():
    here = sorted(str(p) for p in file.parent.glob("*.py"))
    raise UserError(f"no config file {name}{nearest(name, here) if here else f': there is no folder {file.parent}'}")
  spec = importlib.util.spec_from_file_location(file.stem, file)
  assert spec and spec.loader
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.get_config(variant or None)


def variant(name: str | None, known: Mapping[str, Any]) -> Any:
  """What a config file's variant stands for; `known[""]` is that of none.

  Raises:
    UserError: there is no such variant.
  """
  if (name or "") not in known:
    raise UserError(f"no variant {name!r} of this config{nearest(name or '', [k for k in known if k])}")
  return known[name or ""]


def _value(overrides: Sequence[str], key: str) -> str | None:
  """The last value that the arguments give to `key`, written `key=value` or `key value`."""
  found = None
  for i, argument in enumerate(overrides):
    if argument.startswith(f"{key}="):
      found = argument.partition("=")[2]
    elif argument == key and i + 1 < len(overrides):
      found = overrides[i + 1]
  return found


def _override_message(config: ConfigDict, overrides: Sequence[str], error: Exception) -> str:
  known = flatten(config)
  for argument in overrides:
    key = argument.partition("=")[0].removeprefix("--config.").removeprefix("--noconfig.")
    if argument.startswith("--config.") and key not in known:
      return f"no key config.{key}{nearest(key, known)}"
  return str(error).replace("\n", " ").removeprefix("flag --")


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
  """The leaves of a config under dotted keys."""
  flat: dict[str, Any] = {}
  for key, value in config.items():
    if isinstance(value, Mapping | ConfigDict):
      flat |= flatten(value, f"{prefix}{key}.")
    else:
      flat[prefix + key] = value
  return flat


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
  """Keys whose values differ between two configs, as `key: old -> new`, without those that change no number."""
  before, after = flatten(old), flatten(new)
  keys = [key for key in sorted(before.keys() | after.keys()) if key not in FREE]
  absent = "absent"
  return [f"{key}: {before.get(key, absent)!r} -> {after.get(key, absent)!r}" for key in keys
          if before.get(key, absent) != after.get(key, absent)]
