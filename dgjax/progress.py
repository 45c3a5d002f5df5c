"""The pace of runs: a progress bar, and records of examples a second and of time lost to input."""

import logging
import time
from collections.abc import Sequence

import jax
import tqdm

from dgjax.recorder import Recorder

log = logging.getLogger("dgjax")

SLOW = 0.2  # share of the time that a run may wait for input before it warns


class Pace:
  """Counts steps, shows them on process 0, and records examples a second."""

  def __init__(self, recorders: Sequence[Recorder], step: int, steps: int, batch_size: int):
    """
    Args:
      recorders: the recorders of the runs that are trained together.
      step: number of updates done.
      steps: number of updates in the whole run.
      batch_size: number of examples in an update of one run.
    """
    self._recorders, self._batch_size, self._said, self._waited = recorders, batch_size, False, 0.0
    self._shown = step
    self._bar = tqdm.tqdm(total=steps * batch_size * len(recorders), initial=step * batch_size * len(recorders),
                          unit=" examples", unit_scale=True, disable=None if jax.process_index() == 0 else True)
    self.restart(step)

  def restart(self, step: int, waited: float | None = None) -> None:
    """Starts the clock anew at `step`, after work that does not count as training."""
    self._since, self._clock = step, time.perf_counter()
    self._waited = self._waited if waited is None else waited

  def step(self, step: int) -> None:
    """Shows that `step` updates are done."""
    self._bar.update((step - self._shown) * self._batch_size * len(self._recorders))
    self._shown = step

  def record(self, step: int, waited: float) -> None:
    """Records the pace since the last time.

    Args:
      step: number of updates done. Their metrics were fetched, so they are complete.
      waited: total seconds that training has waited for batches.
    """
    seconds = time.perf_counter() - self._clock
    share = min((waited - self._waited) / seconds, 1.0)
    values = {"time/examples_per_second": (step - self._since) * self._batch_size / seconds,
              "time/waiting_for_data": share}
    for recorder in self._recorders:
      recorder.write(step, values)
    if share > SLOW and not self._said:
      log.warning("%.0f %% of the time goes into waiting for images: raise config.data.threads, or keep them on the "
                  "device by config.data.on_device=always", 100 * share)
      self._said = True
    self.restart(step, waited)

  def close(self) -> None:
    """Ends the bar."""
    self._bar.close()
