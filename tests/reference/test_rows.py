"""Which runs a published row is about, for every row of every paper at once."""

import pytest

from dgjax import algorithms, config, data, models, reference
from dgjax.reference.table import Ours, Training, plain

ROWS = {f"{name}-{number}-{i}": (table, ours)
        for name, paper in reference.PAPERS.items() for number, table in paper.TABLES.items()
        for i, ours in enumerate(table.methods) if any(row[1] in ours.headers for row in table.rows)}


def some(value):
  return sorted(value)[0] if isinstance(value, set | frozenset) else value


def network_of(table, ours):
  """The network of the first row that is found under the closest header."""
  row = next(row for header in ours.headers for row in table.rows if row[1] == header)
  return next(name for name in models.NETWORKS if plain(name) == plain(row[0])), row[1]


def settings(table, ours):
  """The flat config of a run that is a row's in everything, trained as long as the paper's."""
  network, _ = network_of(table, ours)
  declared = {key: some(value) for key, value in {**table.settings, **ours.settings}.items()}
  whole = config.flatten(config.default(algorithm=ours.method, model=network, data=declared["data.name"]))
  return {**whole, "epochs": table.training.epochs or 1000, "steps": 0, "model.weights": "published", **declared}


@pytest.mark.parametrize("table, ours", ROWS.values(), ids=ROWS)
def test_a_row_is_found_by_its_settings_and_by_no_others(table, ours):
  run = settings(table, ours)
  mode = ours.modes[0]
  row = table.find_row(run, mode)
  assert row is not None and row[1] == network_of(table, ours)[1] and not table.training.remarks(run)
  # Each penalty's weight and every other swept number, the data, the images' size, the network and the way to predict.
  others = {f"algorithm.{name}": -1.0 for name in algorithms.ALGORITHMS[ours.method][0].swept}
  others |= {"algorithm.name": "none", "data.name": "folder", "model.name": "smallnet"}
  others |= {} if table.settings["data.name"] == "speech_commands" else {"data.image_size": 96}
  for key, value in others.items():
    assert table.find_row({**run, key: value}, mode) is None, key
  assert table.find_row(run, "member/0") is None
  for key, value in ours.settings.items():
    assert table.find_row({k: v for k, v in run.items() if k != key}, mode) != row, key
    if not isinstance(value, set | frozenset):
      assert table.find_row({**run, key: "another"}, mode) != row, key


@pytest.mark.parametrize("table, ours", ROWS.values(), ids=ROWS)
def test_every_setting_is_a_key_of_the_config(table, ours):
  network, _ = network_of(table, ours)
  known = config.flatten(config.default(algorithm=ours.method, model=network, data=table.settings["data.name"]))
  assert {**table.settings, **ours.settings}.keys() <= known.keys()
  assert table.settings["data.name"] in data.DATASETS


@pytest.mark.parametrize("method, changes", [
    ("dmg", {"algorithm.overlap_weight": 0.0}), ("dmg", {"algorithm.sparsity_weight": 0.1}),
    ("dmg", {"data.image_size": 96}), ("dmg", {"model.dynamic": "subspace"}), ("dmg", {"optimizer.name": "sgd"}),
])
def test_a_run_without_what_a_row_is_about_has_no_number_of_it(method, changes):
  table = reference.find_table("dmg", "2")
  run = settings(table, Ours(method, ("DMG (Ours)",), {"optimizer.name": "adam"}))
  assert table.find_row(run, "pred_ens") and table.find_row({**run, **changes}, "pred_ens") is None


@pytest.mark.parametrize("header, changes", [
    ("Jigsaw Puzzle [5]", {"algorithm.jigsaw_weight": 0.0}), ("RCL-SDG m = 0.9", {"algorithm.contrastive_weight": 0.0}),
    ("RCL-SDG m = 0.9", {"algorithm.reduction": "mean"}), ("RCL-SDG m = 0.9", {"algorithm.rescale": "channel"}),
    ("Spectral Decoupling [38]", {"algorithm.form": "norm"}),
])
def test_penalties_of_rcls_table_have_the_papers_weights(header, changes):
  table = reference.find_table("rcl", "2")
  run = settings(table, next(ours for ours in table.methods if header in ours.headers))
  assert table.find_row(run) == ("mnistnet", header) and table.find_row({**run, **changes}) is None


def test_the_number_of_training_speakers_is_the_rows():
  table = reference.find_table("crossgrad", "4-speech")
  run = settings(table, table.methods[0])
  assert run["data.speakers"] == 100
  assert table.find_row(run) and table.find_row({**run, "data.speakers": 40}) is None


def test_dan_generalises_and_dann_has_seen_the_target():
  table = reference.find_table("dmg", "6")
  run = settings(table, Ours("dan", ("DANN [14]",)))
  assert table.find_row(run)[1] == "DANN [14]"
  assert table.find_row({**run, "algorithm.name": "dann"}) is None


def test_sources_are_the_tables_other_domains_or_one():
  several, alone = reference.find_table("drt", "4"), reference.find_table("drt", "5")
  names = list(several.domains.values())
  assert several.covers(names[1:], names[0]) and not several.covers(names[2:], names[0])
  assert alone.covers(names[1:2], names[0]) and not alone.covers(names[1:], names[0])
  office = reference.find_table("wemnet", "1")
  assert office.covers(["amazon"], "webcam") and not office.covers(["amazon", "dslr"], "webcam")
  assert reference.find_table("rcl", "2").covers(["coloured"], "grey")


@pytest.mark.parametrize("changes, remarks", [
    ({}, ()), ({"epochs": 49}, ("short",)), ({"steps": 1_500}, ("short",)), ({"steps": 4_000}, ()),
    ({"model.weights": ""}, ("from scratch",)), ({"steps": 10, "model.weights": ""}, ("short", "from scratch")),
])
def test_shorter_training_and_none_before_are_said(changes, remarks):
  run = {"epochs": 50, "steps": 0, "batch_size": 64, "model.weights": "resnet18.safetensors", **changes}
  assert Training(weights=True, epochs=50, examples=240_000).remarks(run) == remarks
  assert Training().remarks({**run, "epochs": 0.1}) == ()
