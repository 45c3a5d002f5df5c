"""A group: runs that are trained together, by one program and one loop, with a state each."""

import dataclasses
import functools
import logging
import re
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dgjax.algorithms import Algorithm, TrainState
from dgjax.config import FREE, flatten
from dgjax.data.resident import free_memory
from dgjax.errors import UserError, nearest
from dgjax.evaluation.evaluator import Measured, Split, count
from dgjax.experiment import Experiment, kept
from dgjax.feed import Feed
from dgjax.lanes import KINDS, Lanes, States

log = logging.getLogger("dgjax")

STEPS_A_DISPATCH = 16  # on an accelerator; on a CPU, XLA's convolutions within a loop are a hundred times as slow
FREE_SHARE = 0.5  # share of the free memory for the states of runs and for their updates
PAYS = 4.0  # another program is tried if training takes this many times as long as compiling it
CLEARLY = 0.75  # another program is used if it takes less than this share of the time one after the other


def alike(experiments: Sequence[Experiment]) -> list[list[int]]:
  """Groups experiments that can be trained together: those that differ in seeds and swept scalars alone.

  Returns:
    Groups of the experiments' numbers, in order. A group has at most as many runs as fit into memory; the others form
    further groups, for later.
  """
  groups: list[list[int]] = []
  for number, experiment in enumerate(experiments):
    for group in groups:
      if _shape(experiments[group[0]]) == _shape(experiment):
        group.append(number)
        break
    else:
      groups.append([number])
  parts = []
  for group in groups:
    most = capacity(experiments[group[0]]) if len(group) > 1 else 1
    if most < len(group):
      log.info("%d of %d runs fit into memory together: the others wait", most, len(group))
    parts += [group[start:start + most] for start in range(0, len(group), most)]
  return parts


def capacity(experiment: Experiment) -> int:
  """The number of runs like this one that fit into memory together, at least 1.

  A run needs its state twice: the current one and the best so far. On an accelerator, where runs may be computed at
  once, each also needs the temporaries of its compiled update. Half of the free memory is left for images and
  evaluation.
  """
  devices = list(experiment.devices.mesh.devices.flat)
  state = experiment.state_shapes()
  update = experiment.algorithm.phase_at(0).step(first=True)
  each, once = 2 * _bytes(state), 0
  if devices[0].platform != "cpu" and experiment.devices.kind == "jit":
    program = jax.jit(update, donate_argnums=0).lower(state, experiment.batch_shapes(experiment.config.batch_size))
    analysis = program.compile().memory_analysis()
    each += analysis.temp_size_in_bytes if analysis else 0
  else:
    once = 4 * _bytes(state)  # one after the other; a guess is enough for small runs
  return max(int((free_memory(devices) * FREE_SHARE - once) // each), 1)


@jax.jit
def _copy(tree: Any) -> Any:
  """A copy of each array; in one program, where one for each shape would take as many times as long to compile."""
  return jax.tree.map(jnp.copy, tree)


def _bytes(tree: Any) -> int:
  """Size of a pytree of arrays or shapes."""
  return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))


def _shape(experiment: Experiment) -> tuple[Any, ...]:
  """Everything that a program is compiled from. Swept scalars are not part of it: they are arrays in the state."""
  swept = {"optimizer.learning_rate", "optimizer.weight_decay", *(f"algorithm.{name}" for name in
                                                                  experiment.algorithm.scalars)}
  factors = re.compile(r"optimizer\.roles\.\w+\.(rate|decay)")
  settings = {key: value for key, value in flatten(experiment.config).items()
              if key not in (*FREE, *swept, "seed") and not factors.fullmatch(key)}
  data, domains = experiment.dataset, (*experiment.sources, experiment.target)
  return (settings, domains, data.classes, data.groups and len(data.groups), data.mean, data.std,
          [data.splits[domain] for domain in domains])


@dataclasses.dataclass(frozen=True, eq=False)
class Group:
  """Experiments that are computed together.

  Attributes:
    experiments: at least one; see `alike`.
    feed: supplies the batches.
    lanes: how the runs are computed.
    steps_a_dispatch: the most updates that a call of the program makes.
  """

  experiments: tuple[Experiment, ...]
  feed: Feed
  lanes: Lanes
  steps_a_dispatch: int

  @classmethod
  def build(cls, experiments: Sequence[Experiment], feed: Feed, how: str) -> "Group":
    """Makes a group with lanes of the kind `how`, one of `lanes.KINDS`."""
    lead = experiments[0]
    accelerator = lead.devices.mesh.devices.flat[0].platform != "cpu"
    together = feed.held and accelerator and lead.devices.kind == "jit"
    return cls(tuple(experiments), feed, KINDS[how](lead.devices, len(experiments)),
               STEPS_A_DISPATCH if together else 1)

  @property
  def lead(self) -> Experiment:
    """The experiment that is used where the runs do not differ."""
    return self.experiments[0]

  @property
  def measures(self) -> bool:
    """Whether the method describes its state for the log; the state is then fetched."""
    return type(self.lead.algorithm).measures is not Algorithm.measures

  def first_states(self) -> States:
    """The states before the first update."""
    return self.lanes.join([self._first_state(experiment) for experiment in self.experiments])

  def configured(self, states: States) -> States:
    """States with the swept scalars of the runs' configs in place of those they were saved with."""
    return self.lanes.join([state.replace(hparams=self._hparams(experiment)) for experiment, state
                            in zip(self.experiments, self.lanes.split(states), strict=True)])

  def _first_state(self, experiment: Experiment) -> TrainState:
    """The first state of one run, made by the lead's program. Seed and swept scalars are the run's own."""
    state = experiment.first_state(self.lead.init)
    return state.replace(hparams=self._hparams(experiment))

  def _hparams(self, experiment: Experiment) -> dict[str, Any]:
    algorithm = experiment.algorithm
    hparams = jax.tree.map(jnp.float32, {**algorithm.optimizer.hparams(), **algorithm.scalars})
    return jax.device_put(hparams, self.lead.devices.replicated)

  def until(self, step: int, record_every: int) -> int:
    """The step at which the next call of the program ends: as far as it can go without passing what is due."""
    phase_begins = [phase.begin for phase in self.lead.algorithm.phases]
    if self.lead.algorithm.phase_at(step).enters_at(step):
      return step + 1  # a program of its own
    last = min(step + self.steps_a_dispatch, self.lead.steps)
    whole = step + 1
    while whole < last and whole % record_every and whole not in phase_begins and not self.lead.evaluates(whole):
      whole += 1
    return whole if whole - step == self.steps_a_dispatch else step + 1

  def advance(self, states: States, step: int, steps: int, active: np.ndarray) -> tuple[States, Any]:
    """Updates the states of the active runs. The states are consumed.

    Args:
      states: the states at `step`.
      step: number of updates done.
      steps: number of updates to make, `until(step) - step`.
      active: (runs,) bool. States of the other runs stay as they are.

    Returns:
      The next states, and metrics that `lanes.rows` fetches: for each run, by name, (steps,) arrays or scalars.
    """
    phase = self.lead.algorithm.phase_at(step)
    program = self._program(phase.name, phase.enters_at(step), steps)
    return program(states, self.feed.take(step, steps), self.feed.shared, active)

  @functools.cache  # noqa: B019 (a group lives as long as its programs)
  def _program(self, phase: str, first: bool, steps: int) -> Callable[..., Any]:
    """The compiled program of one or several updates in a phase."""
    update = next(one for one in self.lead.algorithm.phases if one.name == phase).step(first)

    def one(state: TrainState, part: Any, shared: Any) -> tuple[TrainState, dict[str, jax.Array]]:
      return update(state, self.feed.batch(part, shared))

    def many(state: TrainState, parts: Any, shared: Any) -> tuple[TrainState, dict[str, jax.Array]]:
      return jax.lax.scan(lambda state, part: one(state, part, shared), state, parts)

    return self.lanes.compile(one if steps == 1 else many, updates=True)

  def evaluate(self, states: States, pause: Callable[[], None] = lambda: None) -> list[Measured]:
    """Scores every run on every split.

    Args:
      states: without the optimisers' moments; see `experiment.kept`.
      pause: called before each batch. It may raise an error to end the evaluation early.

    Returns:
      The outcome for each run.
    """
    everyone = np.ones(len(self.experiments), bool)
    totals: dict[Split, Any] = {}
    for split in self.lead.scored():
      passes = [self.feed.evaluation(run, split.domain, split.split) for run in range(len(self.experiments))]
      for parts in zip(*passes, strict=True):
        pause()
        _, counts = self._count(split.known)(states, list(parts), self.feed.shared, everyone)
        totals[split] = counts if split not in totals else jax.tree.map(jnp.add, totals[split], counts)
    rows = {split: self.lanes.rows(total) for split, total in totals.items()}
    return [experiment.measured({split: found[run] for split, found in rows.items()})
            for run, experiment in enumerate(self.experiments)]

  @functools.cache  # noqa: B019
  def _count(self, known: bool) -> Callable[..., Any]:
    def one(state: TrainState, part: Any, shared: Any) -> dict[str, jax.Array]:
      return count(self.lead.algorithm, state, self.feed.evaluation_batch(part, shared), known)

    return self.lanes.compile(one, updates=False)

  def keep(self, states: States) -> States:
    """The states without the optimisers' moments, which evaluation does not need. Not a copy."""
    return [kept(state) for state in states] if isinstance(states, list) else kept(states)

  def copy(self, states: States) -> States:
    """Copies of the states in buffers that the next update does not consume."""
    return _copy(states)

  def choose(self, improved: np.ndarray, states: States, best: States) -> States:
    """For each run a copy of its state if it improved, else the best state so far.

    Args:
      improved: (runs,) bool.
      states, best: states without moments.
    """
    if improved.all():
      return self.copy(states)
    pairs = zip(improved, self.lanes.split(states), self.lanes.split(best), strict=True)
    return self.lanes.join([self.copy(state) if better else old for better, state, old in pairs])

  def finite(self, states: States) -> list[bool]:
    """For each run whether all of its parameters and statistics are finite."""
    everyone = np.ones(len(self.experiments), bool)
    nothing: list[dict[str, Any]] = [{} for _ in self.experiments]
    _, found = self._finite(states, nothing, {}, everyone)
    return [bool(row) for row in self.lanes.rows(found)]

  @functools.cached_property
  def _finite(self) -> Callable[..., Any]:
    def one(state: TrainState, part: Any, shared: Any) -> jax.Array:
      leaves = jax.tree.leaves((state.params, state.batch_stats))
      return jnp.stack([jnp.isfinite(x).all() for x in leaves]).all()

    return self.lanes.compile(one, updates=False)

  def tree(self, states: States) -> Any:
    """The states as a checkpoint holds them; for a lone run that is one state."""
    return states[0] if isinstance(states, list) and len(states) == 1 else states

  def untree(self, tree: Any) -> States:
    """The states from what a checkpoint holds."""
    return [tree] if len(self.experiments) == 1 and not isinstance(tree, list) else tree

  def seconds(self, steps: int = 3) -> tuple[float, float]:
    """Measures an update of all runs: seconds to compile it, and seconds to compute it (the median of `steps`)."""
    states, everyone, times = self.first_states(), np.ones(len(self.experiments), bool), []
    for step in range(steps + 2):
      start = time.perf_counter()
      states, metrics = self.advance(states, step, 1, everyone)
      jax.block_until_ready((states, metrics))
      times.append(time.perf_counter() - start)
    return max(times[:2]), float(np.median(times[2:]))


def build(experiments: Sequence[Experiment], feed: Feed, how: str) -> Group:
  """Makes a group and decides how it is computed.

  Args:
    experiments: see `alike`.
    feed: supplies the batches.
    how: one of `lanes.KINDS`, or "auto": one after the other, with the numbers of lone runs bit for bit, unless another
      program takes less than `CLEARLY` of that time. This is measured if it can pay: if training the runs one after the
      other would take several times as long as compiling another program. A smaller gain may be the noise of a shared
      machine, and the numbers of a run must not depend on that.

  Raises:
    UserError: `how` is not known, or does not fit.
  """
  lead, runs = experiments[0], len(experiments)
  devices = lead.devices
  if how != "auto" and how not in KINDS:
    raise UserError(f"config.grouping is {how!r}{nearest(how, ('auto', *KINDS))}")
  if runs == 1 or devices.kind != "jit" or jax.process_count() > 1:
    return Group.build(experiments, feed, "map")
  if how != "auto":
    if how == "vmap" and devices.mesh.size > 1:
      raise UserError("config.grouping=vmap is for one device: use spread, or config.devices=1")
    return Group.build(experiments, feed, how)
  one_by_one = Group.build(experiments, feed, "map")
  if lead.steps < 100:
    return one_by_one
  compiling, first = one_by_one.seconds()
  if first * lead.steps < PAYS * compiling:
    return one_by_one
  other = Group.build(experiments, feed, "spread" if devices.mesh.size > 1 else "vmap")
  _, second = other.seconds()
  log.info("%d runs together: %.1f ms a step one after the other, %.1f ms by %s", runs, 1e3 * first, 1e3 * second,
           other.lanes.name)
  return other if second < CLEARLY * first else one_by_one
