import json

import pytest

from dgjax import console
from dgjax.analysis import sweep

# weight -> for each seed: source validation, target, sources' test, IoU
MEASURED = {0.0: [(0.5, 0.9, 0.6, 0.9)], 0.1: [(0.6, 0.4, 0.5, 0.6), (0.8, 0.6, 0.7, 0.4)],
            10.0: [(0.6, 0.5, 0.5, 0.1)]}


def write(folder, weight, seed, measured, masks=True):
  val, target, test, iou = measured
  chosen = {"step": 9, "target_accuracy": target, "source_accuracy": val}
  results = {
      "config": {"algorithm": {"overlap_weight": weight, "prediction": "pred_ens", "name": "dmg"}, "seed": seed},
      "method": "dmg", "dataset": "digits", "sources": ["a", "b"], "target": "c", "seed": seed, "step": 9,
      "selection": {"source_val": chosen, "last": {**chosen, "target_accuracy": 0.0}},
      "report": {"rule": "source_val", "step": 9},
      "accuracy": {"pred_ens": {"a": test - 0.1, "b": test + 0.1, "c": target}}}
  if masks:
    results["overlap"] = {"iou/mean": iou}
  path = folder / f"weight={weight}" / f"seed={seed}"
  path.mkdir(parents=True)
  (path / "results.json").write_text(json.dumps(results))


@pytest.fixture
def folder(tmp_path):
  for weight, seeds in MEASURED.items():
    for seed, measured in enumerate(seeds):
      write(tmp_path, weight, seed, measured)
  return tmp_path


def test_validation_chooses_and_the_target_does_not(folder, capsys):
  assert console.run(sweep.main, [str(folder), "algorithm.overlap_weight"]) == 0
  lines = capsys.readouterr().out.splitlines()
  assert lines[0].split() == ["algorithm.overlap_weight", "runs", "source", "val", "target", "sources'", "test", "IoU"]
  assert [line.split() for line in lines[1:4]] == [
      ["0.0", "1", "50.0", "90.0", "60.0", "90.0"], ["0.1", "2", "70.0", "50.0", "60.0", "50.0"],
      ["10.0", "1", "60.0", "50.0", "50.0", "10.0"]]
  assert lines[4] == "highest source validation accuracy: --config.algorithm.overlap_weight=0.1"


def test_several_settings_and_methods_without_masks(tmp_path, capsys):
  write(tmp_path, 0.5, 0, MEASURED[0.0][0], masks=False)
  assert console.run(sweep.main, [str(tmp_path), "algorithm.overlap_weight,seed"]) == 0
  out = capsys.readouterr().out
  assert "IoU" not in out and out.endswith("--config.algorithm.overlap_weight=0.5 --config.seed=0\n")


def test_a_setting_that_the_runs_lack_is_named(folder, capsys):
  assert console.run(sweep.main, [str(folder), "algorithm.overlap"]) == 1
  assert "no setting algorithm.overlap (did you mean 'algorithm.overlap_weight'?)" in capsys.readouterr().err
