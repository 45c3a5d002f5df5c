import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dgjax.errors import UserError
from dgjax.evaluation import selection

HISTORY = [
    {"step": 10, "val": {"art": 0.5, "photo": 0.7}, "target": 0.3},
    {"step": 20, "val": {"art": 0.6, "photo": 0.8}, "target": 0.2},
    {"step": 30, "val": {"art": 0.8, "photo": 0.6}, "target": 0.4},
    {"step": 40, "val": {"art": 0.6, "photo": 0.6}, "target": 0.4},
]
ACCURACY = st.sampled_from([0.1, 0.25, 0.3, 0.7, math.nan])
EVALUATIONS = st.lists(st.tuples(ACCURACY, ACCURACY, ACCURACY | st.none()), min_size=1, max_size=8)


def history(rows):
  return [{"step": 5 * i, "val": {"a": a, "b": b}, "target": t} for i, (a, b, t) in enumerate(rows)]


def test_each_rule_on_a_history():
  assert selection.select(HISTORY) == {
      # Steps 20 and 30 tie: the first counts.
      "source_val": {"step": 20, "target_accuracy": 0.2, "source_accuracy": pytest.approx(0.7)},
      "last": {"step": 40, "target_accuracy": 0.4, "source_accuracy": pytest.approx(0.6)},
      "target_oracle": {"step": 30, "target_accuracy": 0.4, "source_accuracy": pytest.approx(0.7)},
  }


@given(EVALUATIONS)
def test_selection_is_the_first_strict_maximum(rows):
  entries = history(rows)
  chosen = selection.select(entries)
  means = {5 * i: (a + b) / 2 for i, (a, b, _) in enumerate(rows) if not math.isnan(a + b)}
  targets = {5 * i: t for i, (_, _, t) in enumerate(rows) if t is not None and not math.isnan(t)}
  for rule, scores in (("source_val", means), ("target_oracle", targets)):
    if scores:
      assert chosen[rule]["step"] == max(scores, key=lambda s: (scores[s], -s))
    else:
      assert rule not in chosen
  assert chosen["last"]["step"] == entries[-1]["step"]


@given(EVALUATIONS, EVALUATIONS)
def test_source_val_never_depends_on_the_target(rows, others):
  scores = [t for _, _, t in others]
  swapped = [(a, b, scores[i % len(scores)]) for i, (a, b, _) in enumerate(rows)]
  steps = [selection.select(history(r)).get("source_val", {}).get("step") for r in (rows, swapped)]
  assert steps[0] == steps[1]


@given(EVALUATIONS, st.integers(0, 8))
def test_resuming_from_json_changes_nothing(rows, cut):
  entries = history(rows)
  resumed = json.loads(json.dumps(selection.select(entries[:cut])))
  for entry in entries[cut:]:
    resumed = selection.update(resumed, **entry)
  assert json.dumps(resumed) == json.dumps(selection.select(entries))


def test_update_leaves_what_it_was_given_alone():
  first = selection.update({}, **HISTORY[0])
  before = json.dumps(first)
  second = selection.update(first, **HISTORY[1])
  second["last"]["step"] = -1
  assert json.dumps(first) == before and second["source_val"]["step"] == 20


def test_the_mean_is_unweighted_and_ties_do_not_depend_on_order():
  assert selection.source_accuracy({"a": 0.2, "b": 0.6}) == pytest.approx(0.4)
  val = {"a": 0.1, "b": 0.2, "c": 0.3}  # 0.1 + 0.2 + 0.3 and 0.3 + 0.2 + 0.1 differ in floating point
  assert selection.source_accuracy(val) == selection.source_accuracy(dict(reversed(val.items())))


def test_without_validation_the_last_evaluation_counts():
  entries = [{"step": step, "val": {}, "target": target} for step, target in ((10, 0.5), (20, 0.4))]
  assert selection.select(entries) == {
      "last": {"step": 20, "target_accuracy": 0.4, "source_accuracy": None},
      "target_oracle": {"step": 10, "target_accuracy": 0.5, "source_accuracy": None}}
  lines = [{"step": 5, "train/loss": 1.0}, *({"step": entry["step"], "test/sketch/accuracy": entry["target"]}
                                             for entry in entries)]
  assert selection.history(lines, ("art",), "sketch") == entries


def test_history_from_metrics_lines():
  lines = [
      {"step": 1, "train/loss": 2.0},
      {"step": 10, "val/art/accuracy": 0.1, "val/photo/accuracy": 0.1},
      {"step": 11, "train/loss": 1.0},
      # Killed and resumed from step 0: step 10 is written again, this time on several lines.
      {"step": 10, "val/art/accuracy": 0.5, "val/photo/accuracy": 0.7, "val/sketch/accuracy": 0.99},
      {"step": 10, "test/sketch/accuracy": 0.3, "test/art/accuracy": 0.9},
      {"step": 20, "val/art/accuracy": 0.6, "val/photo/accuracy": 0.8},
  ]
  found = selection.history(lines, ("art", "photo"), "sketch")
  assert found == [HISTORY[0], {**HISTORY[1], "target": None}]
  assert selection.select(found)["source_val"] == {
      "step": 20, "target_accuracy": None, "source_accuracy": pytest.approx(0.7)}


def test_history_without_one_of_the_sources_is_an_error():
  with pytest.raises(UserError, match="step 10 has no val/photo/accuracy"):
    selection.history([{"step": 10, "val/art/accuracy": 0.1}], ("art", "photo"), "sketch")
