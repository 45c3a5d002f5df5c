import csv
import io
import json
import math
import statistics

import pytest
from run_folders import PACS, evaluations, write

from dgjax import console, reference
from dgjax.analysis import recorded, rendering, sources, tables, tabulating
from dgjax.errors import UserError

DOMAINNET = ("clipart", "infograph", "painting", "quickdraw", "real", "sketch")


@pytest.fixture
def runs(tmp_path):
  """Aggregate on all four targets with one seed, DMG on two with three seeds, one run under way."""
  for i, target in enumerate(PACS):
    write(tmp_path / "aggregate" / target, "aggregate", target, accuracy=0.6 + i / 100)
  for seed, accuracy in enumerate((0.70, 0.72, 0.77)):
    for target in ("photo", "sketch"):
      write(tmp_path / f"dmg_{seed}" / target, "dmg", target, seed, accuracy)
  (tmp_path / "dmg_0" / "cartoon").mkdir()
  (tmp_path / "dmg_0" / "cartoon" / "config.json").write_text("{}")
  return tmp_path


def build(folder, **options):
  return tabulating.build(recorded.read_runs(folder)[0], **options)


def printed(capsys, *arguments):
  status = console.run(tables.main, [str(argument) for argument in arguments])
  out, err = capsys.readouterr()
  return status, out, err


def test_cells_are_means_and_standard_errors_over_seeds(runs):
  (table,) = build(runs)
  assert table.columns == PACS and table.mean_label == "mean"
  aggregate, dmg = table.rows
  scores = (70.0, 72.0, 77.0)
  assert dmg.cells["sketch"].mean == pytest.approx(statistics.mean(scores))
  assert dmg.cells["sketch"].error == pytest.approx(statistics.stdev(scores) / math.sqrt(3))
  assert dmg.cells["cartoon"].mean is None and dmg.mean == (None, None) and table.seeds_of(dmg) == "0-3 of 3"
  assert aggregate.mean == (pytest.approx(61.5), None) and table.seeds_of(aggregate) == "1 of 3"
  assert aggregate.cells["photo"].error is None


def test_the_mean_over_targets_has_the_error_of_the_means_per_seed(tmp_path):
  for seed, (a, b) in enumerate(((0.5, 0.9), (0.6, 0.8), (0.8, 0.9))):
    write(tmp_path / f"{seed}a", target="a", seed=seed, accuracy=a, domains=("a", "b"))
    write(tmp_path / f"{seed}b", target="b", seed=seed, accuracy=b, domains=("a", "b"))
  (row,) = build(tmp_path)[0].rows
  per_seed = (70.0, 70.0, 85.0)
  assert row.mean == (pytest.approx(75), pytest.approx(statistics.stdev(per_seed) / math.sqrt(3)))
  write(tmp_path / "more", target="a", seed=9, accuracy=0.5, domains=("a", "b"))
  (row,) = build(tmp_path)[0].rows  # targets with other seeds: no error of the mean
  assert row.mean == (pytest.approx((60.0 + 260 / 3) / 2), None)


def test_text_is_aligned_and_says_what_it_is(runs, capsys):
  status, out, err = printed(capsys, runs, "--paper=dmg:table2")
  assert status == 0
  title, rule, header, *rows, legend, source = out.splitlines()
  assert title == "pacs: accuracy (%) on the target, mean ± standard error over seeds"
  assert rule.startswith("step chosen by source_val: highest mean accuracy on the source domains' validation splits")
  assert header.split() == ["method", "seeds", *(x for target in PACS for x in (target, "paper")), "mean", "paper"]
  assert len({len(line) for line in (header, *rows)}) == 1 and legend.startswith("* best of its column, ~ within")
  assert " ".join(rows[0].split()) == "aggregate 1 of 3 60.00 72.61 61.00 78.46 62.00 93.17 63.00 65.20 61.50 77.36"
  assert "73.00 ± 2.08 *  75.21" in rows[1] and rows[1].count("missing") == 3 and rows[1].endswith("missing  81.46")
  assert source.startswith("paper: dmg, Table 2: out-of-domain accuracy (%) on PACS")
  assert err == f"note: {runs / 'dmg_0' / 'cartoon'} is not finished, before its first step\n"


def test_what_evaluate_wrote_into_a_runs_folder_is_no_run(runs):
  before = len(recorded.read_runs(runs)[0])
  folder = runs / "aggregate" / "photo" / "evaluation"
  folder.mkdir()
  (folder / "results.json").write_text(json.dumps({"run": str(folder.parent), "rule": "last", "domains": {}}))
  assert len(recorded.read_runs(runs)[0]) == before


def test_rules_choose_other_numbers(runs, capsys):
  _, out, _ = printed(capsys, runs, "--selection=target_oracle")
  assert "uses target labels" in out and "70.00" in out.splitlines()[3]


def test_the_rule_is_the_one_that_the_runs_report(tmp_path, capsys):
  for i, rule in enumerate(("last", "last", "source_val")):
    write(tmp_path / str(i), seed=i)
    results = json.loads((tmp_path / str(i) / "results.json").read_text())
    results["report"]["rule"] = rule
    (tmp_path / str(i) / "results.json").write_text(json.dumps(results))
  assert "step chosen by source_val" in printed(capsys, tmp_path)[1]
  assert "step chosen by source_val" in printed(capsys, tmp_path / "2")[1]
  (tmp_path / "2" / "results.json").unlink()
  out = printed(capsys, tmp_path)[1]
  assert "step chosen by last" in out and "60.00 ± 0.00" in out
  assert "70.00" in printed(capsys, tmp_path, "--selection=source_val")[1]


def test_other_formats(runs):
  (table,) = build(runs, paper=reference.find_table("dmg", "2"))
  markdown = rendering.render(table, "markdown").split("\n\n")[1].splitlines()
  assert {line.count("|") for line in markdown} == {13} and markdown[1].startswith("| --- | ---: |")
  latex = rendering.render(table, "latex")
  assert r"art\_painting" in latex and r"\textbf{73.00 $\pm$ 2.08} & 75.21" in latex
  assert latex.count("&") == 3 * 11 and r"\begin{tabular}{lrrrrrrrrrrr}" in latex
  header, aggregate, dmg = csv.reader(io.StringIO(rendering.render(table, "csv")))
  row = dict(zip(header, dmg, strict=True))
  assert len(header) == len(aggregate) == 23 and row["remarks"] == ""
  assert header[:3] == ["dataset", "selection", "method"] and dmg[:3] == ["pacs", "source_val", "dmg"]
  sketch = [row[f"sketch{column}"] for column in ("", " standard error", " paper", " seeds")]
  assert sketch == ["73.00", "2.08", "75.21", "3"]
  assert row["cartoon"] == row["mean"] == "" and row["mean paper"] == "81.46" and row["cartoon seeds"] == "0"


def test_a_single_target_has_no_mean(tmp_path):
  write(tmp_path / "run")
  (table,) = build(tmp_path, paper=reference.find_table("dmg", "2"))
  assert rendering.grid(table) == [["method", "seeds", "sketch", "paper"], ["dmg", "1", "70.00", "75.21"]]


def test_a_mean_over_some_targets_says_so_and_is_not_put_beside_the_papers(tmp_path):
  for target in ("photo", "sketch"):
    write(tmp_path / target, target=target)
  header, row = rendering.grid(build(tmp_path, paper=reference.find_table("dmg", "2"))[0])
  assert header[-2:] == ["mean of 2 of 4", "paper"] and row[-2:] == ["70.00", "-"]


def test_data_sets_get_tables_of_their_own(tmp_path):
  write(tmp_path / "pacs")
  write(tmp_path / "domainnet", dataset="domainnet", domains=("clipart", "sketch", "quickdraw"))
  write(tmp_path / "digits", dataset="digits", target="noisy", domains=("clean", "noisy"))
  found = build(tmp_path, paper=reference.find_table("dmg", "1"))
  assert [table.title.split(":")[0] for table in found] == ["digits", "domainnet", "pacs"]
  assert [bool(table.paper) for table in found] == [False, True, True]


def test_modes_are_rows(runs, capsys):
  _, out, _ = printed(capsys, runs, "--modes=all")
  labels = [line.split("  ")[0] for line in out.splitlines()[3:6]]
  assert labels == ["aggregate (default)", "dmg (pred_ens)", "dmg (mask_ens)"]
  _, out, _ = printed(capsys, runs, "--modes=mask_ens")
  assert "72.00 ± 2.08" in out and "aggregate" not in out


def test_in_domain_accuracy_is_over_the_sources(tmp_path):
  write(tmp_path / "dmg", target="clipart", dataset="domainnet", domains=DOMAINNET, source_test=True,
        model__name="alexnet")
  (table,) = build(tmp_path, in_domain=True, paper=reference.find_table("dmg", "5-bottom"))
  assert rendering.grid(table)[1:] == [["dmg (pred_ens)", "1", "50.00", "49.63"],
                                    ["dmg (mask_ens)", "1", "49.00", "49.49"],
                                    ["dmg (known)", "1", "54.00", "51.91"]]


def test_group_by_makes_rows_of_a_sweep(tmp_path):
  for weight in (10.0, 0.1, 1.0):
    write(tmp_path / str(weight), algorithm__overlap_weight=weight, accuracy=weight / 20)
  (table,) = build(tmp_path, group_by=["algorithm.overlap_weight"])
  assert [row.label for row in table.rows] == [f"dmg, algorithm.overlap_weight={w}" for w in (0.1, 1.0, 10.0)]
  assert [row.cells["sketch"].mean for row in table.rows] == pytest.approx([0.5, 5, 50])


def test_rows_of_a_sweep_are_compared_with_the_papers_own(tmp_path):
  options = {"dataset": "mnist_mp", "target": "grey", "domains": ("coloured", "grey"), "model__name": "mnistnet",
             "data__image_size": 32, "early_stop": 0.0, "sources": ""}
  for margin in (0.5, 0.9, math.inf):
    write(tmp_path / str(margin), "rcl", algorithm__margin=margin, algorithm__contrastive_weight=1.0, **options)
  write(tmp_path / "aggregate", "aggregate", **options)
  (table,) = build(tmp_path, group_by=["algorithm.margin"], paper=reference.find_table("rcl", "2"))
  assert [(row.label, row.cells["grey"].paper) for row in table.rows] == [
    ("aggregate", 26.0), ("rcl, algorithm.margin=0.5", None), ("rcl, algorithm.margin=0.9", 68.2),
    ("rcl, algorithm.margin=inf", 89.9)]


def test_configs_make_rows_named_by_file_and_variant(tmp_path):
  for name, accuracy in (("dmg_pacs.py:resnet50", 0.5), ("dmg_pacs.py", 0.7)):
    folder = tmp_path / name
    write(folder, accuracy=accuracy, algorithm__overlap_weight=accuracy)
    results = json.loads((folder / "results.json").read_text())
    results["command"] = f"python -m dgjax.main '--config=my configs/{name}' --config.seed=0"
    (folder / "results.json").write_text(json.dumps(results))
  (table,) = build(tmp_path, group_by=["config"])
  assert [(row.label, row.cells["sketch"].mean) for row in table.rows] == [("dmg_pacs", 70), ("dmg_pacs:resnet50", 50)]
  (table,) = build(tmp_path, group_by=["algorithm.overlap_weight", "config"], modes=["pred_ens"])
  assert table.rows[0].label == "dmg_pacs:resnet50, algorithm.overlap_weight=0.5 (pred_ens)"


def test_single_sources_have_columns_of_their_own(tmp_path):
  names = ("amazon", "dslr", "webcam")
  settings = {"algorithm__base": "dann", "algorithm__dim": True, "algorithm__sem": True, "model__name": "resnet50"}
  for source in names:
    for target in names:
      if source != target:
        write(tmp_path / f"{source}-to-{target}", "wemnet", target, dataset="office31", domains=(source, target),
              sources=source, **settings)
  (table,) = build(tmp_path, paper=reference.find_table("wemnet", "1"))
  assert len(table.columns) == 6 and table.mean_label == "mean"
  (row,) = table.rows
  assert row.cells["amazon->webcam"].paper == 93.7 and row.cells["webcam->amazon"].paper == 69.2
  assert row.mean_paper == 87.1 and row.mean[0] == pytest.approx(70)
  (tmp_path / "dslr-to-amazon" / "results.json").unlink()
  (table,) = build(tmp_path, paper=reference.find_table("wemnet", "1"))
  assert table.mean_label == "mean of 5 of 6" and table.rows[0].mean_paper is None


def test_sgd_is_compared_with_the_papers_sgd(tmp_path):
  write(tmp_path / "a", "aggregate", dataset="domainnet", domains=DOMAINNET)
  write(tmp_path / "b", "aggregate", dataset="domainnet", domains=DOMAINNET, optimizer__name="sgd")
  (table,) = build(tmp_path, group_by=["optimizer.name"], paper=reference.find_table("dmg", "1"))
  assert [row.cells["sketch"].paper for row in table.rows] == [39.41, 38.83]


def test_one_source_at_a_time_is_compared_with_the_papers_average_over_sources(tmp_path):
  settings = {"algorithm__form": "one_step", "algorithm__discrepancy_weight": 50.0, "algorithm__balance_weight": 0.01,
              "algorithm__label_smoothing": 0.01, "algorithm__prediction": "max_logit", "model__name": "resnet101",
              "model__dynamic": "subspace", "model__dynamic_k": 4, "epochs": 10}
  for source, accuracy in (("clipart", 0.4), ("real", 0.6)):
    write(tmp_path / source, "mcd", "sketch", accuracy=accuracy, dataset="domainnet", domains=(source, "sketch"),
          sources=source, **settings)
  (table,) = build(tmp_path, paper=reference.find_table("drt", "5"))
  assert rendering.grid(table) == [["method", "seeds", "sketch", "paper"], ["mcd", "1", "50.00 (short)", "35.00"]]
  assert "mean over single sources" in table.title
  with pytest.raises(UserError, match="the runs' targets are clipart->sketch, real->sketch"):
    build(tmp_path, paper=reference.find_table("drt", "4"))  # of several sources


def test_classes_count_alike_where_the_papers_mean_is_over_classes(tmp_path):
  write(tmp_path / "a", "dann", "real", accuracy=0.8, dataset="visda2017", domains=("synthetic", "real"), sources="",
        model__name="resnet101")
  assert rendering.grid(build(tmp_path, paper=reference.find_table("wemnet", "2"))[0])[1] == [
    "dann", "1", "40.00", "57.40"]
  assert build(tmp_path)[0].rows[0].cells["real"].mean == pytest.approx(80)


def test_short_runs_and_those_from_scratch_say_so(tmp_path):
  write(tmp_path / "a", target="photo", steps=100, batch_size=64, model__weights="")
  write(tmp_path / "b", target="sketch")
  (table,) = build(tmp_path, paper=reference.find_table("dmg", "2"))
  assert rendering.grid(table)[1][2:] == ["70.00 (short, from scratch)", "93.35", "70.00", "75.21",
                                          "70.00 (short, from scratch)", "-"]
  assert rendering.render(table, "csv").splitlines()[1].endswith('"short, from scratch"')
  assert "short" not in rendering.render(build(tmp_path)[0])


def test_a_cell_of_which_not_all_runs_are_the_rows_has_no_published_number(tmp_path):
  write(tmp_path / "a", target="photo", algorithm__overlap_weight=0.0)
  write(tmp_path / "b", target="sketch", algorithm__overlap_weight=0.1)
  assert rendering.grid(build(tmp_path, paper=reference.find_table("dmg", "2"))[0])[1][3:6] == ["-", "70.00", "75.21"]


def test_averaged_masks_are_not_compared_with_averaged_predictions(tmp_path):
  write(tmp_path / "a")
  results = json.loads((tmp_path / "a" / "results.json").read_text())
  results["config"]["algorithm"]["prediction"] = "mask_ens"
  (tmp_path / "a" / "results.json").write_text(json.dumps(results))
  assert rendering.grid(build(tmp_path, paper=reference.find_table("dmg", "2"))[0])[1][-1] == "-"


def test_targets_that_differ_in_config_are_noted(tmp_path):
  write(tmp_path / "a", target="photo", steps=10)
  write(tmp_path / "b", target="sketch", steps=20)
  assert build(tmp_path)[0].notes == ("dmg: the targets' runs differ in steps (10, 20)",)


def test_commands_are_printed_for_every_cell(runs, capsys):
  _, out, _ = printed(capsys, runs, "--commands")
  lines = [line for line in out.splitlines() if "python" in line]
  assert len(lines) == 10
  assert "dmg, sketch, seed 2: python -m dgjax.main --config.target=sketch --config.seed=2" in lines


def test_accuracy_on_a_source_is_the_mean_over_the_runs_that_trained_on_it(tmp_path, capsys):
  for target, accuracy in (("a", 0.5), ("b", 0.7)):
    write(tmp_path / "joint" / target, "aggregate", target, accuracy=accuracy, domains=("a", "b", "c"),
          source_test=True)
  write(tmp_path / "oracle" / "c", "aggregate", "a", domains=("a", "c"), source_test=True)
  runs, _ = recorded.read_runs(tmp_path / "joint")
  assert sources.source_accuracies(runs) == {"a": 0.5, "b": 0.5, "c": 0.5}
  assert console.run(sources.main, [f"oracle={tmp_path / 'oracle'}", f"joint={tmp_path / 'joint'}",
                       f"--out={tmp_path / 'bars.png'}"]) == 0
  out = capsys.readouterr().out.splitlines()
  assert out[:2] == ["trained as     c", "oracle      50.0"] and (tmp_path / "bars.pdf").exists()
  write(tmp_path / "untested", "aggregate", "a", domains=("a", "c"))
  for arguments, message in (([f"oracle={tmp_path / 'untested'}"], "has no accuracy on c"),
                             ([str(tmp_path)], "give a name and a folder")):
    assert console.run(sources.main, arguments) == 1
    assert message in capsys.readouterr().err


def test_rules_and_ways_are_applied_to_the_record(tmp_path):
  """No other numbers of a run than those of its report are in its results."""
  write(tmp_path / "a")
  evaluations(tmp_path / "a", (5, 0.5, 0.9, 0.61, 0.55), (8, 0.6, 0.3, 0.62, 0.71), (10, 0.4, 0.5, 0.66, 0.50))

  def number(selection, *modes):
    return [row.cells["sketch"].mean for row in build(tmp_path, selection=selection, modes=modes or None)[0].rows]

  assert number("target_val") == [pytest.approx(61)]
  assert number("target_val", "mask_ens") == [pytest.approx(71)]  # its own validation accuracy is highest at step 8
  assert number("target_oracle", "pred_ens", "mask_ens") == [pytest.approx(66), pytest.approx(71)]
  assert number("last", "mask_ens") == [pytest.approx(50)]
  assert number("source_val", "mask_ens") == [pytest.approx(69)]  # what the report has
  assert number("last", "known") == []  # it does not predict for an unseen domain


def test_the_best_of_a_column_and_ties_within_the_error_are_marked(tmp_path):
  for name, accuracies in (("dmg", (0.70, 0.80)), ("aggregate", (0.66, 0.76)), ("mldg", (0.50, 0.51))):
    for seed, accuracy in enumerate(accuracies):
      write(tmp_path / f"{name}{seed}", name, seed=seed, accuracy=accuracy)
  (table,) = build(tmp_path)
  assert table.standings("sketch") == ["tie", "best", ""]
  markdown = rendering.render(table, "markdown")
  assert "| _71.00 ± 5.00_ |" in markdown and "| **75.00 ± 5.00** |" in markdown and "| 50.50 ± 0.50 |" in markdown
  lines = rendering.render(table).splitlines()[2:6]
  assert [line[-2:] for line in lines[1:]] == [" ~", " *", ".50"[-2:]]
  write(tmp_path / "lone", "rcl", dataset="other", domains=("a", "sketch"))
  assert "best" not in rendering.render(build(tmp_path)[0])  # nothing to compare it with


def test_fewer_seeds_than_others_are_said_in_the_cell(tmp_path):
  for seed in range(3):
    write(tmp_path / f"p{seed}", target="photo", seed=seed)
    if seed:
      write(tmp_path / f"s{seed}", target="sketch", seed=seed)
  (tmp_path / "s0").mkdir()
  config = json.loads((tmp_path / "s1" / "config.json").read_text()) | {"seed": 0}
  (tmp_path / "s0" / "config.json").write_text(json.dumps(config))
  (tmp_path / "s0" / "failure.json").write_text('{"step": 7, "reason": "train/loss is nan"}')
  (table,) = tabulating.build(*recorded.read_runs(tmp_path))
  assert rendering.grid(table)[1] == ["dmg", "2-3 of 3", "70.00 ± 0.00", "70.00 ± 0.00 (2 of 3 seeds)",
                                     "70.00 (2-3 of 3 seeds)"]
  assert table.rows[0].cells["sketch"].missing == {0: "failed at step 7: train/loss is nan"}
  assert table.rows[0].cells["photo"].missing == {}
  for file in tmp_path.glob("*/results.json"):
    file.write_text(file.read_text().replace("dgjax.main", "dgjax.main --config=configs/dmg_pacs.py"))
  # The failed run does not tell its file.
  (table,) = tabulating.build(*recorded.read_runs(tmp_path), group_by=["config"])
  assert [(row.label, table.seeds_of(row)) for row in table.rows] == [("dmg_pacs", "2-3 of 3")]


def test_a_row_without_a_finished_run_is_missing(tmp_path):
  write(tmp_path / "a", "aggregate")
  write(tmp_path / "b", "dmg")
  (tmp_path / "b" / "results.json").unlink()
  (tmp_path / "b" / "metrics.jsonl").write_text('{"step": 20, "train/loss": 1.0}')
  (table,) = tabulating.build(*recorded.read_runs(tmp_path))
  assert rendering.grid(table)[1:] == [["aggregate", "1", "70.00"], ["dmg", "0 of 1", "missing"]]
  assert table.rows[1].cells["sketch"].missing == {0: "is not finished, at step 20"}


def test_rows_come_in_the_order_given(tmp_path):
  for name in ("aggregate", "dmg", "mldg"):
    write(tmp_path / name, name)
    file = tmp_path / name / "results.json"
    file.write_text(file.read_text().replace("dgjax.main", f"dgjax.main --config=configs/digits.py:{name}"))
  (table,) = build(tmp_path, order=["digits:mldg", "digits:aggregate"])
  assert [row.label for row in table.rows] == ["mldg", "aggregate", "dmg"]


def differ(folder):
  write(folder / "a", seed=0, algorithm__overlap_weight=0.1)
  write(folder / "b", seed=1, algorithm__overlap_weight=1.0)


def twice(folder):
  write(folder / "a")
  write(folder / "b")


def broken(folder):
  (folder / "a").mkdir()
  (folder / "a" / "results.json").write_text("{")


def incomplete(folder):
  (folder / "a").mkdir()
  (folder / "a" / "results.json").write_text('{"config": {}, "method": "dmg"}')


def unfinished(folder):
  (folder / "a").mkdir()
  (folder / "a" / "config.json").write_text("{}")


def unscored(folder):
  write(folder / "a")
  text = (folder / "a" / "results.json").read_text()
  (folder / "a" / "results.json").write_text(text.replace('"target_accuracy": 0.7,', '"target_accuracy": null,'))


def one(folder):
  write(folder / "a")


@pytest.mark.parametrize("make, arguments, message", [
    (differ, [], "runs of dmg on sketch differ in algorithm.overlap_weight (0.1, 1.0): "
                 "--group-by=algorithm.overlap_weight makes rows of them"),
    (twice, [], "are the same run (seed 0): remove one"),
    (broken, [], "results.json, the results of the run, is damaged"),
    (incomplete, [], "is damaged (it has no 'dataset')"),
    (unscored, [], "results.json has no target accuracy under source_val"),
    (unfinished, [], "holds no finished run (no results.json), but 1 unfinished"),
    (one, ["--selection=oracle"], "no selection rule 'oracle'"),
    (one, ["--format=html"], "no format 'html'"),
    (one, ["--group-by=algorithm.overlap"], "no run has the config key 'algorithm.overlap'"),
    (one, ["--modes=mask_end"], "no run was scored in mode 'mask_end' (did you mean 'mask_ens'?)"),
    (one, ["--modes=all", "--selection=last"], "no accuracies of pred_ens at every evaluation: --selection=source_val"),
    (one, ["--selection=target_val"], "has no accuracies of pred_ens at every evaluation"),
    (one, ["--in-domain"], "keeps no test split of it apart from training"),
    (one, ["--paper=dmg:table9"], "dmg has no table 'table9' (known: 1, 2"),
    (one, ["--paper=wemnet:4"], "table 4 of wemnet has no column for an unseen domain"),
    (one, ["--paper=resnet"], "no published numbers of 'resnet'"),
    (one, ["--format=csv", "--commands"], "--commands does not go with --format=csv"),
    (one, ["--colour"], "unrecognized arguments: --colour"),
])
def test_errors_are_one_line(make, arguments, message, tmp_path, capsys):
  make(tmp_path)
  status, out, err = printed(capsys, tmp_path, *arguments)
  assert status == 1 and out == "" and err.startswith("error: ") and err.count("\n") == 1
  assert message in err


def test_a_table_of_other_domains_is_refused(tmp_path, capsys):
  write(tmp_path / "a", dataset="digits", target="noisy", domains=("clean", "noisy"))
  status, _, err = printed(capsys, tmp_path, "--paper=dmg:2")
  assert status == 1 and "is about art_painting, cartoon, photo, sketch; the runs' targets are noisy" in err
  assert printed(capsys, tmp_path / "nothing")[2] == f"error: no folder {tmp_path / 'nothing'}\n"
