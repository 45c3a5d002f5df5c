"""How fast a run goes: a progress bar for people, examples a second for its record."""

import time

import jax
import tqdm

from dgjax.recorder import Recorder


class Pace:
  """Counts steps, shows them on process 0, and records how many examples a second they make."""

  def __init__(self, recorder: Recorder, step: int, steps: int, batch_size: int):
    """
    Args:
      recorder: written to, and flushed, as `step` is told to.
      step: updates done.
      steps: updates in the whole run.
      batch_size: examples in an update.
    """
    self._recorder, self._batch_size = recorder, batch_size
    self._bar = tqdm.tqdm(total=steps * batch_size, initial=step * batch_size, unit=" examples", unit_scale=True,
                          disable=None if jax.process_index() == 0 else True)
    self.restart(step)

  def restart(self, step: int) -> None:
    """Starts the clock at `step`, after what is not to count as training."""
    self._since, self._clock = step, time.perf_counter()

  def step(self, step: int, record: bool) -> None:
    """Counts one update; with `record`, metrics are fetched and the pace since the last time is written down."""
    self._bar.update(self._batch_size)
    if record:
      self._recorder.flush()
      rate = (step - self._since) * self._batch_size / (time.perf_counter() - self._clock)
      self._recorder.write(step, {"time/examples_per_second": rate})
      self.restart(step)

  def close(self) -> None:
    """Ends the bar."""
    self._bar.close()
