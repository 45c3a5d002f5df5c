"""A run's config: defaults, a file of `configs/`, and overrides from the command line or from Python."""

import dataclasses
import importlib.util
import logging
import math
import pathlib
import types
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from dgjax import algorithms, config_files, data, models, registry
from dgjax.errors import UserError, nearest
from dgjax.optimizers import ROLES, Factors

log = logging.getLogger("dgjax")

SWEEP = "--config.sweep."
SECTIONS = {"algorithm": algorithms.defaults, "model": models.defaults, "data": data.defaults}
HIGHEST_SEED = 2**32 - 1  # of larger numbers JAX would make the key of their last 32 bits, in silence
# Keys that do not change a run's numbers. A resumed run may have other values.
FREE = ("log_every", "eval_batch_size", "devices", "seeds", "sweep", "by_target", "grouping", "data.on_device",
        "data.dir", "data.cache_dir", "data.threads", "data.prefetch")
INFINITE = ("algorithm.margin",)  # keys whose values may be infinite

PUBLISHED = ("alexnet", "resnet18", "resnet34", "resnet50", "resnet101")  # networks with published weights
FROM_SCRATCH = {"adam": 1e-3, "sgd": 1e-2}  # a rate below a third of these is for fine-tuning


def default(*, algorithm: str, model: str, data: str) -> ConfigDict:
  """The config of a method on a data set, with every key there is.

  Args:
    algorithm: a name of `dgjax.algorithms.ALGORITHMS`.
    model: a name of `dgjax.models.NETWORKS`.
    data: a name of `dgjax.data.DATASETS`.

  Returns:
    A ConfigDict, locked, so that a misspelt key is an error. The comments below say what the keys mean; for those of
    `optimizer` see `Optimizer`, `Schedule` and `Factors` in `dgjax.optimizers`.
  """
  return ConfigDict({
      "seed": 0,  # seed of initial parameters, masks, order of batches, augmentation and, by default, splits
      "seeds": 1,  # number of runs that train together, with the seeds seed, seed + 1, ...
      "sweep": "",  # "KEY=V1,V2;...": a run for every combination of values; --config.sweep.KEY=V1,V2 adds to it
      "grouping": "auto",  # how runs are computed together: "map", "vmap", "spread", or "auto", which measures
      "by_target": "",  # "TARGET1,TARGET2:KEY=VALUE;...": settings that hold for some targets alone
      "target": "all",  # the unseen domain; "all": each domain in turn, in a sub-folder each
      "sources": "",  # source domains, comma-separated; "": all but the target; "each": each of these alone, in turn
      "epochs": 50,  # length in passes over the sources' training examples
      "steps": 0,  # length in updates; 0: as epochs says
      "batch_size": 64,  # source images of a step, over all devices and processes
      "target_batch_size": 0,  # target images of a step, for methods that adapt; 0: as batch_size
      "eval_batch_size": 256,  # images of a batch in evaluation
      "early_stop": 0.0,  # the run ends once mean source validation accuracy, in [0, 1], reaches this; 0: never
      "eval_every": 0,  # steps between evaluations; 0: one an epoch
      "log_every": 50,  # steps between fetches of the metrics, which are logged for every step
      "parallel": "jit",  # how a step is divided among devices: "jit" or "pmap"
      "devices": 0,  # number of devices to use; 0: all
      "report": _report(algorithm),  # rule that chooses the state of the full report: "source_val" or "last"
      "optimizer": {
          "name": "adam",
          "learning_rate": 1e-4,
          "weight_decay": 0.0,
          "decayed": "all",
          "beta1": 0.9,
          "momentum": 0.9,
          "nesterov": False,
          "decay": 0.9,
          "epsilon": 1e-8,
          "clip": 0.0,
          "schedule": {"name": "constant", "clock": "epoch", "period": 1, "decay": 0.99, "gamma": 1e-4, "power": 0.75},
          "roles": {role: dataclasses.asdict(Factors()) for role in ROLES},
      },
      "algorithm": algorithms.defaults(algorithm),
      "model": models.defaults(model),
      "data": SECTIONS["data"](data),
  }).lock()


def _report(algorithm: str) -> str:
  """The default of `config.report`: source accuracy says little of a method that adapts, so its last state counts."""
  return "last" if algorithms.adapts(algorithm) else "source_val"


def load(path: str, overrides: Sequence[str] | Mapping[str, Any] = ()) -> ConfigDict:
  """Reads a config file and applies overrides.

  An override that names another algorithm, network or data set brings the defaults of that one. Values that the file
  changed from their defaults are carried over: those of a network or a data set if both have the key, those of a method
  if both have the key from a class in common. A line of the log names what is reset.

  Args:
    path: `configs/NAME.py[:ARGUMENTS]`, or `NAME[:ARGUMENTS]` for a config that comes with the library. `arguments`
      lists the comma-separated arguments of a file.
    overrides: `--config.KEY=VALUE` arguments; or a mapping of keys to values, dotted or nested:
      `{"steps": 40, "optimizer.learning_rate": 1e-3, "algorithm": {"name": "aggregate"}}`.

  Raises:
    UserError: no such file, argument, key or name, or a value of the wrong type.
  """
  if isinstance(overrides, Mapping):
    overrides = [f"--config.{key}={value}" for key, value in flatten(overrides).items()]
  module = _import(path)
  config = _made(module, path)
  roles = algorithms.roles(config)
  exchange(config, overrides)
  override(config, overrides)
  for section in SECTIONS:
    config[section].name = registry.absolute(config[section].name)
  given = {argument.partition("=")[0].removeprefix("--config.") for argument in overrides}
  if "by_target" not in given:  # what overrides set, or removed, holds for every target
    kept = [part for part in config.by_target.split(";") if _by_target_key(part) in flatten(config).keys() - given]
    config.by_target = ";".join(kept)
  for role in set(roles) - set(algorithms.roles(config)):
    _reset_role(config, role, given)
  if hasattr(module, "finish"):
    module.finish(config, given)
  return config


def split_arguments(arguments: Iterable[str]) -> tuple[list[str], list[str]]:
  """Takes the overrides of a config out of a command line.

  Args:
    arguments: the command's arguments. The value of an override may be an argument of its own.

  Returns:
    The overrides as `--config.KEY=VALUE` or `--noconfig.KEY`, and all other arguments.
  """
  overrides, others, remaining = [], [], iter(arguments)
  for argument in remaining:
    key = argument.lstrip("-")
    if argument.startswith("-") and key.startswith(("config.", "noconfig.")):
      valued = "=" in key or key.startswith("noconfig.")
      overrides.append(f"--{key}" if valued else f"--{key}={next(remaining, '')}")
    else:
      others.append(argument)
  return overrides, others


def override(config: ConfigDict, overrides: Sequence[str]) -> ConfigDict:
  """Sets values in a config.

  Args:
    config: changed in place.
    overrides: `--config.KEY=VALUE` arguments; `--config.sweep.KEY=V1,V2,...` has a run made for each value.

  Returns:
    The config.

  Raises:
    UserError: no such key, or a value of the wrong type.
  """
  plain = [argument for argument in overrides if not argument.startswith(SWEEP)]
  values = flags.FlagValues()
  try:
    config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=plain)
    values(["config", *plain])
  except (AttributeError, KeyError, flags.Error, ValueError, TypeError) as error:
    raise UserError(_override_message(config, plain, error)) from error
  added = [argument.removeprefix(SWEEP) for argument in overrides if argument.startswith(SWEEP)]
  config.sweep = ";".join(filter(None, [config.sweep, *added]))
  sweep_values(config)  # an error in it is told now
  return config


def sweep_values(config: ConfigDict) -> dict[str, list[str]]:
  """The keys that `config.sweep` varies, and their values as written.

  Raises:
    UserError: it is not written as "KEY=V1,V2;...", or names a key that is not there.
  """
  swept = {}
  for part in filter(None, config.sweep.split(";")):
    key, equals, several = part.partition("=")
    if not equals or not several:
      raise UserError(f"config.sweep.{key}: write --config.sweep.{key}=V1,V2,...")
    if key not in flatten(config) or key in ("seed", "seeds", "sweep", "target", "sources"):
      raise UserError(f"config.sweep: there is no key {key} to vary{nearest(key, flatten(config))}")
    swept[key] = several.split(",")
  return swept


def for_target(config: ConfigDict, target: str) -> ConfigDict:
  """Applies to a config what its `by_target` says of a target.

  Args:
    config: changed in place; its `by_target` is then empty.
    target: a domain.

  Returns:
    The config.

  Raises:
    UserError: it is not written as "TARGET1,TARGET2:KEY=VALUE;...", or names a key that is not there.
  """
  parts, config.by_target = config.by_target.split(";"), ""
  for part in filter(None, parts):
    targets, colon, setting = part.partition(":")
    if not colon or "=" not in setting:
      raise UserError(f"config.by_target has {part!r}: write TARGET1,TARGET2:KEY=VALUE;...")
    if target in targets.split(","):
      override(config, [f"--config.{setting}"])
  return config


def _by_target_key(part: str) -> str:
  """The key that a part of `config.by_target` sets."""
  return part.partition(":")[2].partition("=")[0]


def exchange(config: ConfigDict, overrides: Sequence[str]) -> None:
  """Exchanges the settings of the method, network or data set if the overrides name another one; see `load`.

  Raises:
    UserError: there is none of that name.
  """
  for section, defaults in SECTIONS.items():
    name = _value(overrides, f"--config.{section}.name")
    if name is not None and name != config[section].name:
      _exchange(config, section, defaults(config[section].name), defaults(name))


def _exchange(config: ConfigDict, section: str, old: Mapping[str, Any], new: dict[str, Any]) -> None:
  """Replaces a section by the defaults `new`. Carries over what the file changed from `old`, or logs what it cannot."""
  changed = {key: value for key, value in config[section].to_dict().items() if value != old.get(key) and key != "name"}
  shared = set(new)
  if section == "algorithm":
    shared = algorithms.shared_settings(old["name"], new["name"])
    if config.report == _report(old["name"]):
      config.report = _report(new["name"])
  if lost := [key for key in changed if key not in shared]:
    log.warning("config.%s.name is now %s: what the file set for %s (%s) does not carry over", section, new["name"],
                old["name"], ", ".join(f"{key}={changed[key]}" for key in lost))
  config[section] = new | {key: value for key, value in changed.items() if key in shared}


def _reset_role(config: ConfigDict, role: str, given: set[str]) -> None:
  """Resets a file's factors of a role that has no parameters after the overrides."""
  plain = dataclasses.asdict(Factors())
  factors = config.optimizer.roles[role]
  if factors.to_dict() != plain and not any(key.startswith(f"optimizer.roles.{role}.") for key in given):
    factors.update(plain)
    log.warning("config.optimizer.roles.%s is reset: this run has no %s", role, role)


def check(config: ConfigDict) -> None:
  """Refuses values that no run can have.

  Raises:
    UserError: with the key and the range.
  """
  lowest = {"seeds": 1, "batch_size": 1, "eval_batch_size": 1, "eval_every": 0, "log_every": 1, "steps": 0, "seed": 0,
            "target_batch_size": 0, "data.image_size": 1, "data.prefetch": 0, "data.split_seed": -1, "data.threads": 0}
  flat = flatten(config)
  for key, least in lowest.items():
    if flat[key] < least:
      raise UserError(f"config.{key} is {flat[key]}: it must be at least {least}")
  for key in ("seed", "data.split_seed"):
    if flat[key] > HIGHEST_SEED:
      raise UserError(f"config.{key} is {flat[key]}: it must be below 2^32")
  if config.seed + config.seeds - 1 > HIGHEST_SEED:
    raise UserError(f"config.seeds is {config.seeds}: from config.seed={config.seed} on, the last would not be below "
                    "2^32")
  for key, value in flat.items():
    if isinstance(value, float) and not math.isfinite(value) and (math.isnan(value) or key not in INFINITE):
      raise UserError(f"config.{key} is {value}: it must be a finite number")
  if not config.steps and config.epochs <= 0:
    raise UserError(f"config.epochs is {config.epochs}: it must be above 0, or set config.steps")
  if not 0 <= config.early_stop <= 1:
    raise UserError(f"config.early_stop is {config.early_stop}: it is an accuracy, from 0 to 1")
  if config.report not in ("source_val", "last"):
    raise UserError(f"config.report is {config.report!r}: use 'source_val' or 'last'")


def advice(config: ConfigDict, steps: int) -> list[str]:
  """Warnings about settings that are probably not meant, a line each, with the setting to change.

  Args:
    config: of the run.
    steps: its updates.

  Returns:
    Lines to log; none in most cases.
  """
  lines = []
  optimizer, name = config.optimizer, config.model.name
  rate = optimizer.learning_rate * optimizer.roles.trunk.rate
  if not config.model.weights and name in PUBLISHED and 3 * rate < FROM_SCRATCH.get(optimizer.name, 0):
    raised = f"config.optimizer.learning_rate={FROM_SCRATCH[optimizer.name]:g}"
    if optimizer.learning_rate >= FROM_SCRATCH[optimizer.name]:
      raised = "config.optimizer.roles.trunk.rate=1"
    lines.append(f"{name} starts from random weights, with a learning rate of {rate:g} that is for fine-tuning: set "
                 f"config.model.weights=FILE, or {raised}")
  if "masks" in config.algorithm and optimizer.name == "adam":
    start = 0.5 if config.algorithm.masks.init == "uniform" else abs(config.algorithm.masks.init_value)
    rate = optimizer.learning_rate * optimizer.roles.masks.rate
    if rate * steps < start:  # Adam moves a parameter by about its learning rate a step
      lines.append(f"a mask logit of {start:g} moves by {rate:g} a step at most and cannot cross 0 in {steps} steps: "
                   "masks stay as they start; set config.optimizer.roles.masks.rate="
                   f"{math.ceil(10 * start / (steps * optimizer.learning_rate))}")
  return lines


def _import(path: str) -> types.ModuleType:
  """The module of a config file."""
  file = config_files.find(path)
  spec = importlib.util.spec_from_file_location(file.stem, file)
  assert spec and spec.loader
  module = importlib.util.module_from_spec(spec)
  with registry.told(file, "cannot import the config"):
    spec.loader.exec_module(module)
  return module


def _made(module: types.ModuleType, path: str) -> ConfigDict:
  """The config that a config file's `get_config` makes."""
  file, words = config_files.find(path), path.partition(":")[2]
  if not callable(getattr(module, "get_config", None)):
    raise UserError(f"{file} has no function get_config(arg), which makes the config")
  with registry.told(file, "cannot make the config of"):
    config = module.get_config(words or None)
  if not isinstance(config, ConfigDict) or not {*SECTIONS} <= {*config}:
    raise UserError(f"get_config of {file} returns {type(config).__name__}: it must return what dgjax.config.default "
                    "does, with other values")
  return config


def parse(text: str | None, known: Mapping[str, Any]) -> Any:
  """Reads the arguments of a config file: the words after its colon.

  Args:
    text: comma-separated words; None: none.
    known: argument -> the values it can have. A mapping or tuple of words: the user gives one of the words; the first
      is the default. False: a switch that is on if the user gives the argument's name. A number: the default of an
      argument that the user gives as `NAME=VALUE`.

  Returns:
    The arguments as attributes.

  Raises:
    UserError: a word is not known, is not of its argument's type, or sets an argument a second time.
  """
  chosen = {name: next(iter(values)) if isinstance(values, Mapping | tuple) else values
            for name, values in known.items()}
  given: dict[str, str] = {}
  for word in filter(None, (text or "").split(",")):
    name, value = _argument(word, known)
    if name in given:
      raise UserError(f"{given[name]!r} and {word!r} are both of the argument {name!r}: give one of them")
    chosen[name], given[name] = value, word
  return types.SimpleNamespace(**chosen)


def _argument(word: str, known: Mapping[str, Any]) -> tuple[str, Any]:
  """Name and value of one argument."""
  key, equals, value = word.partition("=")
  for name, values in known.items():
    if isinstance(values, Mapping | tuple):
      if word in values or (key == name and value in values):
        return name, value if equals else word
    elif key == name and isinstance(values, bool) and not equals:
      return name, True
    elif key == name and not isinstance(values, bool) and equals:
      try:
        return name, type(values)(value)
      except ValueError as error:
        raise UserError(f"the argument {word!r} of this config: {value!r} is no {type(values).__name__}") from error
  raise UserError(f"no argument {word!r} of this config{nearest(word, _words(known))}")


def _words(known: Mapping[str, Any]) -> list[str]:
  words: list[str] = []
  for name, values in known.items():
    if isinstance(values, Mapping | tuple):
      words += filter(None, values)
    else:
      words.append(name if isinstance(values, bool) else f"{name}={values}")
  return words


def run_name(path: str, config: ConfigDict) -> str:
  """The default name of a run's folder. For your own images the name of their folder follows that of the config.

  Args:
    path: as `load` takes it.
    config: what `load` returned.
  """
  own = config.data.name == "folder" and config.data.dir
  return "-".join([config_files.run_name(path), *([pathlib.Path(config.data.dir).resolve().name] if own else [])])


def arguments(path: str) -> dict[str, str]:
  """The words that can follow the colon of a config, from its `ARGUMENTS`: argument -> words, the default first.

  Raises:
    UserError: there is no such file.
  """
  known = getattr(_import(path), "ARGUMENTS", {})
  return {name: " | ".join(_words({name: values})) for name, values in known.items()}


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
  """Keys whose values differ between two configs, as `key: old -> new`, except keys that do not change numbers."""
  before, after = flatten(old), flatten(new)
  keys = [key for key in sorted(before.keys() | after.keys()) if key not in FREE]
  absent = "absent"
  return [f"{key}: {before.get(key, absent)!r} -> {after.get(key, absent)!r}" for key in keys
          if before.get(key, absent) != after.get(key, absent)]
