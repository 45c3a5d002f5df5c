"""Distributions that a search draws hyperparameters from. Each is declared beside the default of its hyperparameter."""

import dataclasses
import math
from typing import Any, Protocol

import numpy as np


class Distribution(Protocol):
  """What a value is drawn from. `str` describes it in a few words."""

  def draw(self, rng: np.random.Generator) -> Any:
    """One value."""

  def __contains__(self, value: Any) -> bool:
    """Whether a draw can give `value`, apart from rounding."""


@dataclasses.dataclass(frozen=True)
class Uniform:
  """Real numbers from `low` to `high`, uniform, rounded to three digits."""

  low: float
  high: float

  def draw(self, rng: np.random.Generator) -> float:
    """One value."""
    return _rounded(rng.uniform(self.low, self.high), self.low, self.high)

  def __contains__(self, value: float) -> bool:
    return self.low <= value <= self.high

  def __str__(self) -> str:
    return f"uniform from {self.low:.3g} to {self.high:.3g}"


@dataclasses.dataclass(frozen=True)
class LogUniform:
  """Real numbers from `low`, above 0, to `high`, with uniform logarithms, rounded to three digits."""

  low: float
  high: float

  def draw(self, rng: np.random.Generator) -> float:
    """One value."""
    return _rounded(math.exp(rng.uniform(math.log(self.low), math.log(self.high))), self.low, self.high)

  def __contains__(self, value: float) -> bool:
    return self.low <= value <= self.high

  def __str__(self) -> str:
    return f"log-uniform from {self.low:.3g} to {self.high:.3g}"


@dataclasses.dataclass(frozen=True)
class Choice:
  """One of a few values, each with the same probability."""

  values: tuple[Any, ...]

  def draw(self, rng: np.random.Generator) -> Any:
    """One value."""
    return self.values[rng.integers(len(self.values))]

  def __contains__(self, value: Any) -> bool:
    return value in self.values

  def __str__(self) -> str:
    return f"one of {', '.join(map(str, self.values))}"


@dataclasses.dataclass(frozen=True)
class PowerOfTwo:
  """`times` * 2**k for a uniform whole k from `low` to `high`. A `low` below 0 needs a `times` that is divisible."""

  low: int
  high: int
  times: int = 1

  @property
  def values(self) -> tuple[int, ...]:
    """The values that can be drawn, in order."""
    return tuple(self.times * 2**k if k >= 0 else self.times // 2**-k for k in range(self.low, self.high + 1))

  def draw(self, rng: np.random.Generator) -> int:
    """One value."""
    return self.values[rng.integers(len(self.values))]

  def __contains__(self, value: int) -> bool:
    return value in self.values

  def __str__(self) -> str:
    return f"one of {', '.join(map(str, self.values))}"


def _rounded(value: float, low: float, high: float) -> float:
  """A value rounded to three digits within its range, so that tables and command lines show it exactly."""
  return min(max(float(f"{value:.3g}"), low), high)
