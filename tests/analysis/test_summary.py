import numpy as np

from dgjax.algorithms.overlap import overlap_report
from dgjax.analysis.summary import column, summary

DOMAINS = ("art", "photo")


def run(target, accuracy, masks=None):
  entry = {"step": 10, "target_accuracy": accuracy, "source_accuracy": 0.9}
  results = {"method": "dmg", "dataset": "pacs", "seed": 3, "target": target,
             "selection": {"source_val": entry, "last": entry, "target_oracle": entry}}
  if masks is not None:
    results["overlap"] = overlap_report({"fc": masks}, DOMAINS[:len(masks)])
    results["mask_matrix"] = {"masks": [*DOMAINS, "combined"], "domains": [*DOMAINS, target], "split": "val",
                              "accuracy": [[0.91, 0.5, 0.4], [0.5, 0.92, 0.3], [0.8, 0.8, 0.45]]}
  return results


def test_summary_of_several_targets_ends_with_their_mean():
  lines = summary([run("sketch", 0.5), run("cartoon", 0.7)]).splitlines()
  assert "dmg on pacs, seed 3" in lines[0] and "target_oracle (uses target labels)" in lines[1]
  assert lines[-1].split() == ["mean", "60.0", "60.0", "60.0", "90.0"]


def test_summary_shows_the_mask_matrix_and_the_overlap():
  lines = summary([run("sketch", 0.5, np.array([[0.9, 0.9, 0.1, 0.1], [0.9, 0.1, 0.1, 0.1]]))]).splitlines()
  assert [line.split() for line in lines if line.startswith(("art", "photo", "combined"))] == [
      ["art", "91.0", "50.0", "40.0"], ["photo", "50.0", "92.0", "30.0"], ["combined", "80.0", "80.0", "45.0"]]
  assert [line.split() for line in lines if line.startswith(("fc", "all"))] == [
      ["fc", "50.0", "37.5", "50.0", "25.0", "25.0"], ["all", "50.0", "37.5", "50.0", "25.0", "25.0"]]


def test_summary_of_a_single_source_has_no_overlap():
  lines = summary([run("sketch", 0.5, np.array([[0.9, 0.1]]))]).splitlines()
  assert lines[-1].split()[:3] == ["all", "-", "50.0"]


def test_a_run_whose_sources_were_named_tells_them():
  one = {**run("webcam", 0.5), "config": {"sources": "amazon"}, "sources": ["amazon"]}
  two = {**run("webcam", 0.6), "config": {"sources": "amazon,dslr"}, "sources": ["amazon", "dslr"]}
  rest = {**run("webcam", 0.6), "config": {"sources": ""}, "sources": ["amazon", "dslr"]}
  assert [column(results) for results in (one, two, rest)] == ["amazon->webcam", "amazon+dslr->webcam", "webcam"]
  assert summary([one]).splitlines()[-1].split()[0] == "amazon->webcam"
