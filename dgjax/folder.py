"""A run's folder: who may use it, which run is in it, and how far the run is."""

import json
import logging
import pathlib
import shutil
from typing import Any

import jax
from ml_collections import ConfigDict

from dgjax import parallel
from dgjax.config import differences, flatten
from dgjax.errors import UserError
from dgjax.files import read_json, write_atomically
from dgjax.lock import FolderLock

log = logging.getLogger("dgjax")

SELECTED = {"step": int, "target_accuracy": (int, float), "source_accuracy": (int, float, type(None))}
# What `results.json` has at least
RESULTS = {"config": dict, "selection": {"*": SELECTED}, "report": {"rule": str}, "step": int}
LENGTH = ("steps", "epochs")  # keys in which a run may go on beyond where it was to end


class RunFolder:
  """The folder of one run.

  Attributes:
    path: absolute.
    command: the command that started the run.
    lock: held while the run is trained; None if there is no lock.
  """

  lock: FolderLock | None = None

  def __init__(self, path: pathlib.Path | str, command: str = ""):
    self.path, self.command = pathlib.Path(path).expanduser().absolute(), command

  @property
  def checkpoints(self) -> pathlib.Path:
    """Where the run's checkpoints are."""
    return self.path / "checkpoints"

  @property
  def finished(self) -> bool:
    """Whether the run has its results."""
    return (self.path / "results.json").exists()

  @property
  def failed(self) -> bool:
    """Whether the run ended, at its last start, because a number was not finite."""
    return (self.path / "failure.json").exists() and not self.finished

  @property
  def failure(self) -> str:
    """Why the run failed, as its `failure.json` says; where that cannot be read, that it is to be read."""
    path = self.path / "failure.json"
    try:
      return str(read_json(path, "why the run failed", {"reason": str})["reason"])
    except (OSError, UserError):
      return f"see {path.name}"

  def make(self) -> None:
    """Makes the folder, on process 0.

    Raises:
      UserError: it cannot be made.
    """
    problem = ""
    if jax.process_index() == 0:
      try:
        self.path.mkdir(parents=True, exist_ok=True)
      except OSError as error:
        problem = f"cannot make the run's folder {self.path} ({error.strerror}): use another --workdir"
    if problem := parallel.agree(problem):
      raise UserError(problem)

  def results_of(self, config: ConfigDict) -> dict[str, Any] | None:
    """The contents of `results.json` if the run of this config is finished. Nothing is written, and no lock is needed.

    Raises:
      UserError: a file of the folder is damaged.
    """
    answer: dict[str, Any] = {}
    if jax.process_index() == 0 and (self.path / "results.json").exists() and (self.path / "config.json").exists():
      try:
        if not differences(self._settings(), json.loads(config.to_json())):
          answer = {"results": read_json(self.path / "results.json", "the results of the run", RESULTS)}
      except UserError as error:
        answer = {"problem": str(error)}
    answer = parallel.agree(answer)
    if problem := answer.get("problem"):
      raise UserError(problem)
    if results := answer.get("results"):
      log.info("%s is finished", self.path)
      return results
    return None

  def claim(self, config: ConfigDict, from_step: int | None = None) -> dict[str, Any] | None:
    """Takes the folder for a config, or checks that the run in it has this config. Process 0 decides for all.

    Args:
      config: of the run.
      from_step: step of a checkpoint from which the run goes on with other numbers of the optimiser or the method. The
        change is appended to `changes.json`. With the same numbers as before the run just goes on.

    Returns:
      The contents of `results.json` if the run is finished.

    Raises:
      UserError: the folder holds a run with another config, or processes see different folders of that name.
    """
    answer: dict[str, Any] = {}
    if jax.process_index() == 0:
      try:
        answer = {"results": self._claim(config, from_step)}
      except UserError as error:
        answer = {"problem": str(error)}
    answer = parallel.agree(answer)
    if problem := answer.get("problem"):
      raise UserError(problem)
    if not (self.path / "config.json").exists():
      raise UserError(f"process {jax.process_index()} does not see the {self.path} of process 0: "
                      "--workdir must be on a file system that all processes share")
    return answer["results"]

  def _claim(self, config: ConfigDict, from_step: int | None) -> dict[str, Any] | None:
    path, results = self.path / "config.json", self.path / "results.json"
    if from_step is not None:
      self._go_back(config, from_step)
    elif not path.exists() or not (self.checkpoints.exists() or (self.path / "metrics.jsonl").exists()):
      write_atomically(path, config.to_dict())  # a start that failed before any step leaves nothing to keep
      return None
    changed = differences(self._settings(), json.loads(config.to_json()))
    longer = [change for change in changed if change.partition(":")[0] in LENGTH]
    if others := [change for change in changed if change not in longer]:
      raise UserError(f"{self.path} holds a run with another config ({'; '.join(others)}): "
                      "use the same config to resume, --from_step=STEP to change numbers of config.optimizer and "
                      "config.algorithm from a checkpoint on, or another --workdir")
    finished = read_json(results, "the results of the run", RESULTS) if results.exists() else None
    if not longer:
      if finished:
        log.info("%s is finished", self.path)
      return finished
    log.info("the run goes on with another length (%s)", "; ".join(longer))
    if finished:
      results.replace(results.with_name(f"results-{finished['step']}.json"))
    write_atomically(path, config.to_dict())
    return None

  def _go_back(self, config: ConfigDict, step: int) -> None:
    """Makes the checkpoint of `step` the newest and the config's numbers those of the run."""
    old, new = self._settings(), json.loads(config.to_json())
    changed = differences(old, new)
    before = flatten(old)
    if others := [change for change in changed if (key := change.partition(":")[0]) not in LENGTH and not (
        key.startswith(("optimizer.", "algorithm.")) and isinstance(before.get(key), float))]:
      raise UserError("--from_step is for changes of numbers of config.optimizer and config.algorithm, and here "
                      f"differ {'; '.join(others)}: use another --workdir")
    earlier = self.changes()
    if not changed and earlier and earlier[-1]["step"] == step:
      return
    found = {int(path.name): path for path in self.checkpoints.glob("*") if path.name.isdecimal()}
    if step not in found:
      raise UserError(f"--from_step={step}: {self.path} has no checkpoint of that step "
                      f"(it has: {', '.join(map(str, sorted(found))) or 'none'})")
    # The settings are written last, so that the same command can finish what a crash leaves undone.
    for later in sorted(found.keys() - set(range(step + 1)), reverse=True):
      shutil.rmtree(found[later])
    for name in ("results.json", "failure.json"):
      (self.path / name).unlink(missing_ok=True)
    if [*earlier[-1:], {}][0] != (change := {"step": step, "changed": changed}):
      write_atomically(self.path / "changes.json", {"changes": [*earlier, change]})
    write_atomically(self.path / "config.json", new)
    log.info("going on from step %d with %s", step, "; ".join(changed) or "the same config")

  def changes(self) -> list[dict[str, Any]]:
    """The settings that were changed on the way, and the steps from which they hold."""
    path = self.path / "changes.json"
    return read_json(path, "what was changed on the way", {"changes": list})["changes"] if path.exists() else []

  def _settings(self) -> dict[str, Any]:
    return read_json(self.path / "config.json", "the settings of the run")

  def remembered(self, key: str, default: Any) -> Any:
    """What was remembered under a key when the folder was used before."""
    path = self.path / "group.json"
    found = parallel.agree(read_json(path, "how the runs are computed").get(key) if path.exists() else None)
    return default if found is None else found

  def remember(self, key: str, value: Any) -> None:
    """Remembers how a group of runs is computed, so that a resumed one goes on in that way."""
    self.make()
    self.write("group.json", {key: value})

  def write(self, name: str, value: Any) -> None:
    """Writes JSON into the folder, on process 0, so that a reader finds all of it or none."""
    if jax.process_index() == 0:
      write_atomically(self.path / name, value)
