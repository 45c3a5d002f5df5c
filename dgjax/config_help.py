"""The settings that `--help` prints: each key of a config, its value and its meaning.

The meaning of a key is read from where the key is defined: a comment of `config.default`, `Attributes:` in the
docstring of the class that has the setting, `Returns:` in the docstring of `defaults`, or `Settings:` in that of a data
set.
"""

import dataclasses
import inspect
import re
import textwrap
from typing import Any

from ml_collections import ConfigDict

from dgjax import algorithms, config, data, models
from dgjax.optimizers import Factors, Optimizer, Schedule

WIDTH, COLUMN = 120, 48  # of the text, and where explanations begin
COMMENTED = re.compile(r'^ {6}"(\w+)": [^{].*?,  # (.+)$', re.MULTILINE)
LISTED = re.compile(r"^ {2}(\w+(?:, \w+)*): (.+(?:\n {4,}\S.*)*)", re.MULTILINE)  # "key: text" in a docstring's list
QUOTED = re.compile(r"`(\w+)`:\s(.+?)(?=`\w+`:\s|\n\n|\Z)", re.DOTALL)  # "`key`: text"


def settings(chosen: ConfigDict) -> str:
  """Every setting of a config with its value, as the command line takes it, and what it means.

  Args:
    chosen: as `config.load` returns it.

  Returns:
    A paragraph for each setting; explanations start at the column `COLUMN`.
  """
  meanings = explanations(chosen)
  lines = []
  for key, value in config.flatten(chosen).items():
    option, about = f"--config.{key}={value}", " ".join(meanings.get(key, "").split())
    wrapped = textwrap.wrap(about, WIDTH - COLUMN) or [""]
    if len(option) >= COLUMN:
      lines.append(option)
      option = ""
    lines += [f"{left:<{COLUMN}}{text}".rstrip() for left, text in zip([option, *[""] * len(wrapped)], wrapped,
                                                                      strict=False)]
  return "\n".join(lines)


def explanations(chosen: ConfigDict) -> dict[str, str]:
  """What the keys of a config mean: dotted key -> text."""
  found = dict(COMMENTED.findall(inspect.getsource(config.default)))
  found |= _under("optimizer", attributes(Optimizer)) | _under("optimizer.schedule", attributes(Schedule))
  for role in chosen.optimizer.roles:
    found |= _under(f"optimizer.roles.{role}", attributes(Factors))
  method = algorithms.find(chosen.algorithm.name)
  found |= _under("algorithm", {"name": "the method"} | attributes(method))
  for field in dataclasses.fields(method):
    if dataclasses.is_dataclass(field.default) and not isinstance(field.default, type):
      found |= _under(f"algorithm.{field.name}", attributes(type(field.default)))
  found |= _under("model", _found(LISTED, models.defaults))
  found |= _under("data", _found(LISTED, data.defaults))
  for base in reversed(data.find(chosen.data.name).builder.__mro__):
    found |= _under("data", _found(QUOTED, base))
  return found


def attributes(cls: type) -> dict[str, str]:
  """What the docstrings of a class and of those that it derives from say of its attributes."""
  found: dict[str, str] = {}
  for base in reversed(cls.__mro__):
    found |= _found(LISTED, base)
  return found


def _found(pattern: re.Pattern[str], described: Any) -> dict[str, str]:
  """Key -> text, as a pattern finds them in a docstring; a text may be of several keys."""
  pairs = pattern.findall(inspect.cleandoc(described.__doc__ or ""))
  return {key: text.rstrip("; \n") for keys, text in pairs for key in keys.split(", ")}


def _under(section: str, meanings: dict[str, str]) -> dict[str, str]:
  """The same with keys of a section."""
  return {f"{section}.{key}": text for key, text in meanings.items()}
