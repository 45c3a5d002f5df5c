"""Selection rules: which evaluation of a run is reported."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dgjax.errors import UserError

RULES = {
    "source_val": "highest mean accuracy on the source domains' validation splits (first on ties)",
    "last": "the last evaluation",
    "target_oracle": "highest accuracy on the target (first on ties): uses target labels, an upper bound",
}
"""Rules that a run applies while it trains."""

OFFLINE = RULES | {
    "target_val": "highest accuracy on the target's validation split (first on ties): uses target labels, an upper "
                  "bound",
}
"""Rules that `choose` can apply to the record of a finished run."""


def source_accuracy(val: Mapping[str, float]) -> float | None:
  """Unweighted mean over source domains of validation accuracy.

  Args:
    val: per source domain, accuracy in [0, 1]; empty for a run without validation.

  Returns:
    The mean, in [0, 1]; None if `val` is empty. The sum is exact, whatever the order of the domains, so that ties are
    ties.

  Source: Chattopadhyay et al. 2020 (DMG), section 7.5 ("overall in-domain validation accuracy").
  """
  return math.fsum(val.values()) / len(val) if val else None


def update(
    selection: Mapping[str, dict[str, Any]], step: int, val: Mapping[str, float], target: float | None = None
) -> dict[str, dict[str, Any]]:
  """Takes one more evaluation into account. The returned selection is the only state.

  `source_val` looks at `val` alone. Whether this step is the one to keep a checkpoint of is
  `update(...)["source_val"]["step"] == step`.

  Args:
    selection: what this function returned for the evaluation before; {} at first.
    step: optimisation steps done, not smaller than at the evaluation before.
    val: per source domain, validation accuracy in [0, 1]; empty for a run without validation.
    target: accuracy on the target domain in [0, 1], or None where it was not measured.

  Returns:
    A new mapping from each rule of `RULES` to {"step", "target_accuracy", "source_accuracy"}, JSON-able.
    A rule that found nothing yet is absent: `target_oracle` while no target accuracy was measured,
    `source_val` while no source accuracy was a number. Without validation "source_accuracy" is None.

  Source: Chattopadhyay et al. 2020 (DMG), section 7.5, for `source_val`.
  """
  source = source_accuracy(val)
  target = None if target is None else float(target)
  entry = {"step": int(step), "target_accuracy": target, "source_accuracy": source}
  chosen = dict(selection)
  worst = {"source_accuracy": -math.inf, "target_accuracy": -math.inf}
  # A comparison with NaN is false: an accuracy that is not a number is never selected.
  if source is not None and source > chosen.get("source_val", worst)["source_accuracy"]:
    chosen["source_val"] = entry
  chosen["last"] = entry
  if target is not None and target > chosen.get("target_oracle", worst)["target_accuracy"]:
    chosen["target_oracle"] = entry
  return {rule: dict(chosen[rule]) for rule in RULES if rule in chosen}


def select(history: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
  """Applies every rule to a recorded history.

  Args:
    history: evaluations {"step": int, "val": {source domain: accuracy}, "target": accuracy or None}, in order
      of step.

  Returns:
    As `update`.
  """
  selection: dict[str, dict[str, Any]] = {}
  for entry in history:
    selection = update(selection, entry["step"], entry["val"], entry.get("target"))
  return selection


def choose(rule: str, records: Iterable[Mapping[str, Any]], sources: Sequence[str], target: str,
           way: str) -> int | None:
  """Applies a rule to a run's record, without training.

  Args:
    rule: one of `OFFLINE`.
    records: the parsed lines of `metrics.jsonl`.
    sources: the source domains.
    target: the target domain.
    way: the way to predict that rules which know the target's labels look at. The others choose the same step for
      every way.

  Returns:
    The step that the rule chooses; None where the record lacks what it looks at.
  """
  split = "target_val" if rule == "target_val" else "test"
  chosen = select(history(records, sources, target, f"{split}/{target}/accuracy/{way}"))
  found = chosen.get("target_oracle" if rule == "target_val" else rule)
  return found["step"] if found else None


def merge(records: Iterable[Mapping[str, Any]]) -> dict[int, dict[str, Any]]:
  """Puts the lines of one step together; of a key that was written twice, the later line counts."""
  steps: dict[int, dict[str, Any]] = {}
  for record in records:
    steps.setdefault(record["step"], {}).update(record)
  return dict(sorted(steps.items()))


def history(records: Iterable[Mapping[str, Any]], sources: Sequence[str], target: str,
            key: str = "") -> list[dict[str, Any]]:
  """Finds the evaluations in the lines of a run's `metrics.jsonl`.

  Lines of one step belong together, and where a key was written twice (a run that was killed and resumed
  repeats the steps since its last checkpoint) the later line counts.

  Args:
    records: the parsed lines, each with `step`; `val/DOMAIN/accuracy` and `test/DOMAIN/accuracy` are read.
    sources: the source domains. `val/` of another domain is not looked at, whatever the file holds.
    target: the target domain.
    key: what counts as accuracy on the target; default: `test/TARGET/accuracy`.

  Returns:
    What `select` takes, in order of step; steps without any accuracy are left out.

  Raises:
    UserError: if a step has the validation accuracy of some source domains but not of all.
  """
  entries = []
  for step, record in merge(records).items():
    keys = {domain: f"val/{domain}/accuracy" for domain in sources}
    val = {domain: record[key] for domain, key in keys.items() if key in record}
    test = record.get(key or f"test/{target}/accuracy")
    if not val and test is None:
      continue
    if val and (missing := [domain for domain in sources if domain not in val]):
      raise UserError(f"step {step} has no {keys[missing[0]]}, though other source domains were evaluated: "
                      "the metrics are incomplete, or the list of sources is not the run's")
    entries.append({"step": step, "val": val, "target": test})
  return entries
