"""What methods share that train parts of their parameters in turns."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from dgjax.algorithms.base import Algorithm, Params, TrainState
from dgjax.optimizers import Optimizer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Alternating(Algorithm):
  """Steps of the optimiser on some entries of the parameters.

  Every entry has moments of its own, as if it had its own optimiser. An entry that a step leaves out stays as it is:
  neither weight decay nor old momentum moves it.
  """

  def optimizer_of(self, name: str) -> Optimizer:
    """The optimiser of an entry of the parameters; by default `optimizer` for all of them."""
    return self.optimizer

  def moments(self, params, hparams, step):
    return {name: self.optimizer_of(name).build(hparams, step).init({name: value}) for name, value in params.items()}

  def move(self, state: TrainState, grads: Params) -> TrainState:
    """Takes a step of the optimiser on the entries in `grads`. It does not count as a step of the run."""
    params, opt_state = dict(state.params), dict(state.opt_state)
    for name, grad in grads.items():
      optimizer = self.optimizer_of(name).build(state.hparams, state.step)
      part = {name: params[name]}  # under its name, by which the optimiser finds its group
      updates, opt_state[name] = optimizer.update({name: grad}, opt_state[name], part)
      params |= jax.tree.map(jnp.add, part, updates)
    return state.replace(params=params, opt_state=opt_state)

  def descend(self, loss: Callable[..., tuple[jax.Array, Any]], names: Sequence[str], state: TrainState,
              *arguments: Any) -> tuple[TrainState, dict[str, jax.Array]]:
    """Differentiates a loss by some entries of the parameters and updates these.

    Args:
      loss: called as `loss(params, state, *arguments)`; it returns the scalar, and a pair of a dict with fields of the
        state to replace and a dict of scalar metrics.
      names: the entries.
      state: before the step.
      arguments: of `loss`.

    Returns:
      The state after it, at the same `step`, and the metrics.
    """
    def of_part(part):
      return loss({**state.params, **part}, state, *arguments)

    grads, aux = jax.grad(of_part, has_aux=True)({name: state.params[name] for name in names})
    grads, (changes, metrics) = self.average((grads, aux))
    return self.move(state, grads).replace(**changes), metrics
