import pathlib

import numpy as np

from dgjax.algorithms.overlap import overlap_report
from dgjax.analysis.recorded import column
from dgjax.analysis.summary import summary

DOMAINS = ("art", "photo")
WORK = pathlib.Path("runs/dmg_pacs")


def run(target, accuracy, masks=None, seed=3, weight=0.1):
  entry = {"step": 10, "target_accuracy": accuracy, "source_accuracy": 0.9}
  results = {"method": "dmg", "dataset": "pacs", "seed": seed, "target": target,
             "config": {"seed": seed, "target": target, "algorithm": {"overlap_weight": weight}},
             "selection": {"source_val": entry, "last": entry, "target_oracle": entry}}
  if masks is not None:
    results["overlap"] = overlap_report({"fc": masks}, DOMAINS[:len(masks)])
    results["mask_matrix"] = {"masks": [*DOMAINS, "combined"], "domains": [*DOMAINS, target], "split": "val",
                              "accuracy": [[0.91, 0.5, 0.4], [0.5, 0.92, 0.3], [0.8, 0.8, 0.45]]}
  return results


def test_summary_of_several_targets_ends_with_their_mean():
  lines = summary([run("sketch", 0.5), run("cartoon", 0.7)], WORK).splitlines()
  assert "dmg on pacs, seed 3" in lines[0] and "target_oracle (uses target labels)" in lines[1]
  assert lines[4].split() == ["mean", "60.0", "60.0", "60.0", "90.0"]


MASKS = np.array([[0.9, 0.9, 0.1, 0.1], [0.9, 0.1, 0.1, 0.1]])


def test_several_seeds_and_values_of_a_sweep_are_one_table_with_standard_errors():
  runs = [run(target, accuracy + seed / 10 + weight, MASKS, seed, weight)
          for target, accuracy in (("sketch", 0.2), ("photo", 0.4)) for weight in (0.0, 0.1) for seed in (0, 1)]
  text = summary(runs, WORK)
  title, header, *rows = text.splitlines()
  assert title == "dmg on pacs, seeds 0, 1: mean ± standard error of the accuracy (%) on the target, by rule"
  assert header.split()[:3] == ["target", "algorithm.overlap_weight", "source_val"]
  assert [row.split()[:5] for row in rows[:6]] == [
      ["sketch", "0.0", "25.0", "±", "5.0"], ["photo", "0.0", "45.0", "±", "5.0"], ["mean", "0.0", "35.0", "±", "5.0"],
      ["sketch", "0.1", "35.0", "±", "5.0"], ["photo", "0.1", "55.0", "±", "5.0"], ["mean", "0.1", "45.0", "±", "5.0"]]
  assert "IoU" not in text and "chosen" not in text


def test_summary_says_where_the_files_are():
  assert summary([run("sketch", 0.5)], WORK).splitlines()[-1] == (
      "runs/dmg_pacs: results.json, figures/*.png and *.pdf, log.txt")
  several = summary([run("sketch", 0.5), run("photo", 0.5)], WORK)
  assert "runs/dmg_pacs, in a folder for each of 2 runs: results.json, figures/*.png and *.pdf, log.txt" in several
  assert several.endswith("dgjax report runs/dmg_pacs --out=report.html")


def test_summary_shows_the_mask_matrix_and_the_overlap():
  lines = summary([run("sketch", 0.5, MASKS)], WORK).splitlines()
  assert [line.split() for line in lines if line.startswith(("art", "photo", "combined"))] == [
      ["art", "91.0", "50.0", "40.0"], ["photo", "50.0", "92.0", "30.0"], ["combined", "80.0", "80.0", "45.0"]]
  assert [line.split() for line in lines if line.startswith(("fc", "all"))] == [
      ["fc", "50.0", "37.5", "50.0", "25.0", "25.0"], ["all", "50.0", "37.5", "50.0", "25.0", "25.0"]]


def test_summary_of_a_single_source_has_no_overlap():
  lines = summary([run("sketch", 0.5, np.array([[0.9, 0.1]]))], WORK).splitlines()
  assert lines[-3].split()[:3] == ["all", "-", "50.0"]


def test_a_run_whose_sources_were_named_tells_them():
  one = {**run("webcam", 0.5), "config": {"sources": "amazon"}, "sources": ["amazon"]}
  two = {**run("webcam", 0.6), "config": {"sources": "amazon,dslr"}, "sources": ["amazon", "dslr"]}
  rest = {**run("webcam", 0.6), "config": {"sources": ""}, "sources": ["amazon", "dslr"]}
  assert [column(results) for results in (one, two, rest)] == ["amazon->webcam", "amazon+dslr->webcam", "webcam"]
  assert summary([one], WORK).splitlines()[2].split()[0] == "amazon->webcam"
