"""Supplies the batches of a group's runs: gathered from images on the device, or streamed from the host."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from dgjax.data import augment, resident
from dgjax.errors import UserError, nearest
from dgjax.experiment import Experiment

ON_DEVICE = ("auto", "always", "never")


class Feed:
  """Batches for all runs of a group.

  Attributes:
    held: whether images stay on the device.
    shared: a further argument of compiled functions, beside states and parts: the images on the device, or nothing.
  """

  def __init__(self, experiments: Sequence[Experiment], pause: Callable[[], None] = lambda: None):
    """Opens the streams, and decodes all images if they stay on the device.

    Args:
      experiments: the runs' experiments, which differ in seeds and swept scalars alone.
      pause: called now and then while images are decoded. It may raise an error to end that.

    Raises:
      UserError: a split is empty, a batch size does not divide, or the setting is not known.
    """
    self._lead = lead = experiments[0]
    self._experiments = experiments
    for experiment in experiments:
      experiment.check_splits()
    self._streams = [experiment.batches() for experiment in experiments]
    self._augment = augment.on_device(lead.config.data.augment, lead.config.data.image_size)
    self.shared: Mapping[str, Any] = {}
    plan = self._plan()
    self.held = self._on_device(plan)
    if self.held:
      training, evaluation = plan.build(lead.devices.replicated, lead.config.data.threads, pause)
      self.shared = {"training": training.arrays, "evaluation": evaluation.arrays}
      self._indices = [stream.indices(training) for stream in self._streams]
      self._evaluation = evaluation
    else:
      self._iterators = [stream.iterator() for stream in self._streams]
      self._position = 0

  def _plan(self) -> resident.Plan:
    """What would have to be on the device."""
    lead = self._lead
    evaluated = [lead_batches.source for experiment in self._experiments
                 for lead_batches in (experiment.evaluation_batches(*split[:2]) for split in experiment.scored())]
    return resident.Plan(lead.dataset, [source for stream in self._streams for source in stream.sources], evaluated,
                         lead.config.data.image_size, lead.config.data.augment)

  def _on_device(self, plan: resident.Plan) -> bool:
    setting, devices = self._lead.config.data.on_device, self._lead.devices
    if setting not in ON_DEVICE:
      raise UserError(f"config.data.on_device is {setting!r}{nearest(setting, ON_DEVICE)}")
    possible = devices.kind == "jit" and jax.process_count() == 1
    if setting == "always" and not possible:
      raise UserError("config.data.on_device=always is for one process and parallel=jit: use auto")
    where = list(devices.mesh.devices.flat)
    # On a CPU cropping on "the device" is no faster than in the threads that stream, which run beside training.
    pays = where[0].platform != "cpu" or plan.shared
    return setting == "always" or (setting == "auto" and possible and pays and plan.fits(where))

  @property
  def waited(self) -> float:
    """Seconds that training has waited for streamed batches."""
    return 0.0 if self.held else sum(iterator.waited for iterator in self._iterators)

  def take(self, step: int, steps: int) -> list[dict[str, Any]]:
    """For each run, what `batch` makes its batches of some steps from.

    Args:
      step: the first step.
      steps: the number K of steps; 1 if images are streamed.

    Returns:
      NumPy arrays. Those of several steps have a leading axis of K.
    """
    if self.held:
      found = [indices(step, steps) for indices in self._indices]
      return found if steps > 1 else jax.tree.map(lambda x: x[0], found)
    if step != self._position:
      for iterator in self._iterators:
        iterator.set_state({"next_index": step})
    self._position = step + 1
    return [next(iterator) for iterator in self._iterators]

  def batch(self, part: Mapping[str, Any], shared: Mapping[str, Any]) -> dict[str, Any]:
    """The batch of one run and step, augmented and normalised, on the device. For use under jit."""
    raw = resident.gather(shared["training"], part) if self.held else part
    return self._lead.normalise(self._augment(raw))

  @functools.cache  # noqa: B019 (of a run's length)
  def evaluation(self, run: int, domain: str, split: str) -> Any:
    """What `evaluation_batch` makes the batches of one pass over a run's split from. Iterate as often as needed."""
    batches = self._experiments[run].evaluation_batches(domain, split)
    if not self.held:
      return batches
    index = batches.indices(self._evaluation)
    return [jax.tree.map(lambda x: x[number], index) for number in range(len(batches))]  # noqa: B023

  def evaluation_batch(self, part: Mapping[str, Any], shared: Mapping[str, Any]) -> dict[str, Any]:
    """One batch of an evaluation, normalised, on the device. For use under jit."""
    return self._lead.normalise(resident.gather(shared["evaluation"], part) if self.held else part)
