import dataclasses
import functools
import json
import pathlib
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import same, tiny_network

from dgjax import config, data, experiment, models, ops, parallel, plan, runs, training
from dgjax.analysis import figures
from dgjax.analysis.summary import summary
from dgjax.errors import UserError
from dgjax.evaluation import selection
from dgjax.experiment import Experiment
from dgjax.group import Group
from dgjax.preemption import Preempted
from dgjax.recorder import read_lines

DIGITS = str(pathlib.Path(__file__).parents[1] / "configs" / "dmg_digits.py")


@pytest.fixture(autouse=True)
def small(monkeypatch):
  """The tiny network under smallnet's name, and one device: the loop is what is tested here."""
  monkeypatch.setitem(models.NETWORKS, "smallnet", (lambda classes, **_: tiny_network(classes=classes), ""))


def settings(*overrides):
  return config.load(DIGITS, ["--config.target=plain", "--config.devices=1", "--config.steps=6",
                              "--config.eval_every=3", "--config.log_every=2", "--config.batch_size=16", *overrides])


def train(config, folder, command=""):
  """Trains the one run that a config stands for."""
  return plan.train(config, folder, command=lambda planned: command)[0]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  """A finished run of DMG: its folder and results."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(models.NETWORKS, "smallnet", (lambda classes, **_: tiny_network(classes=classes), ""))
    folder = tmp_path_factory.mktemp("run")
    return folder, train(settings(), folder, "the command")


def test_the_run_folder(finished):
  folder, results = finished
  assert json.loads((folder / "results.json").read_text()) == results
  assert json.loads((folder / "config.json").read_text())["target"] == "plain"
  assert list(folder.glob("events.*")) and (folder / "checkpoints" / "6").is_dir()
  with np.load(folder / "masks.npz") as masks:
    assert {name: value.shape for name, value in masks.items()} == {"stage2": (3, 8), "fc": (3, 16)}
    assert all((value > 0).all() and (value < 1).all() for value in masks.values())
  lines = read_lines(folder / "metrics.jsonl")
  assert [line["step"] for line in lines if "train/loss" in line] == [1, 2, 3, 4, 5, 6]
  assert all("step" in line for line in lines)


def test_results(finished):
  folder, results = finished
  assert (results["method"], results["dataset"], results["target"], results["seed"], results["step"]) == (
      "dmg", "digits", "plain", 0, 6)
  assert results["sources"] == ["inverted", "colour", "turned"] and results["command"] == "the command"
  history = selection.history(read_lines(folder / "metrics.jsonl"), results["sources"], "plain")
  assert [entry["step"] for entry in history] == [3, 6]
  assert results["selection"] == selection.select(history)
  assert set(results["accuracy"]) == {"pred_ens", "prob_ens", "mask_ens", "known", "known_greedy"}
  assert set(results["accuracy"]["pred_ens"]) == {"inverted", "colour", "turned", "plain"}
  assert set(results["accuracy"]["known"]) == {"inverted", "colour", "turned"}  # an unseen domain has no mask
  chosen = results["selection"]["source_val"]
  assert results["report"] == {"rule": "source_val", "step": chosen["step"]}
  assert results["accuracy"]["pred_ens"]["plain"] == chosen["target_accuracy"]  # the state of that very step was scored
  matrix = results["mask_matrix"]
  assert matrix["masks"] == ["inverted", "colour", "turned", "combined"] and matrix["split"] == "test"
  assert np.shape(matrix["accuracy"]) == (4, 4)
  assert matrix["accuracy"][3][3] == chosen["target_accuracy"]
  assert 0 <= results["overlap"]["iou/mean"] <= 1


def test_a_finished_run_is_not_run_again(finished, monkeypatch):
  folder, results = finished
  monkeypatch.setattr(data, "load", None)
  monkeypatch.setattr(plan, "FolderLock", None)  # the folder may be one that cannot be written
  assert train(settings(), folder) == results


def test_another_config_in_the_same_folder_is_refused(finished):
  folder, _ = finished
  with pytest.raises(UserError, match=r"another config \(algorithm\.overlap_weight: 0\.1 -> 1\.0; seed: 0 -> 1\)"):
    train(settings("--config.seed=1", "--config.algorithm.overlap_weight=1"), folder)


def test_a_run_goes_on_from_a_named_checkpoint_with_another_rate(tmp_path):
  results = train(settings(), tmp_path)
  lower, go_on = settings("--config.optimizer.learning_rate=1e-5"), functools.partial(plan.train, workdir=tmp_path)
  with pytest.raises(UserError, match=r"--from_step=STEP"):
    go_on(lower)
  with pytest.raises(UserError, match=r"no checkpoint of that step \(it has: 3, 6\)"):
    go_on(lower, from_step=4)
  with pytest.raises(UserError, match="here differ seed: 0 -> 1"):
    go_on(settings("--config.seed=1"), from_step=3)
  assert json.loads((tmp_path / "results.json").read_text()) == results
  changed = go_on(lower, from_step=3)[0]
  change = {"step": 3, "changed": ["optimizer.learning_rate: 0.002 -> 1e-05"]}
  assert changed["changes"] == [change] and changed["config"]["optimizer"]["learning_rate"] == 1e-5
  assert float(runs.load(tmp_path, "last").state.hparams["learning_rate"]) == pytest.approx(1e-5)
  assert [line["step"] for line in read_lines(tmp_path / "metrics.jsonl") if "train/loss" in line] == [*range(1, 7)]
  assert go_on(lower, from_step=3) == [changed] == go_on(lower)  # a requeued job repeats its command
  assert json.loads((tmp_path / "changes.json").read_text()) == {"changes": [change]}


def test_processes_must_see_the_same_data(monkeypatch):
  dataset = types.SimpleNamespace(name="digits", digests={"plain": "a", "turned": "b"})
  training.same_data(dataset)
  monkeypatch.setattr(parallel, "differing", lambda digest: [1, 3] if digest == "b" else [])
  with pytest.raises(UserError, match="domain 'turned' of digits is not the same on process 1, 3 as on process 0"):
    training.same_data(dataset)


def test_what_is_not_finite_is_never_saved(tmp_path):
  """The first loss is finite, but the step it leads to is not."""
  with pytest.raises(UserError, match=r"a parameter or statistic is nan at step 1; nothing was saved yet: lower con"):
    train(settings("--config.optimizer.learning_rate=1e38", "--config.eval_every=1"), tmp_path)
  assert not list(tmp_path.glob("checkpoints/[0-9]*")) and not (tmp_path / "results.json").exists()
  assert json.loads((tmp_path / "failure.json").read_text())["step"] == 1
  with pytest.raises(UserError, match=r"train/\w+ is (nan|inf) at step 2; nothing was saved yet"):
    train(settings("--config.optimizer.learning_rate=1e38", "--config.log_every=100"), tmp_path / "later")
  assert [line["step"] for line in read_lines(tmp_path / "later" / "metrics.jsonl") if "train/loss" in line] == [1]


def test_published_weights_go_below_a_bottleneck(tmp_path):
  """What the file has keeps its values; the bottleneck, which it lacks, and the head on it start fresh."""
  network = tiny_network(classes=7)
  published = network.init(jax.random.key(5), jnp.zeros((1, 16, 16, 3)))
  published = jax.tree.map(lambda x: x + 0.5, published)
  models.weights.save(str(tmp_path / "published.safetensors"), published)
  c = settings("--config.algorithm.name=aggregate", "--config.model.bottleneck=6",
               f"--config.model.weights={tmp_path / 'published.safetensors'}")
  state = Experiment.build(c).first_state()
  c.model.weights = ""
  fresh = Experiment.build(c).first_state()
  for kind, tree in (("params", state.params["network"]), ("batch_stats", state.batch_stats["network"])):
    for stage in ("stage1", "stage2"):
      assert same(tree[stage], published[kind][stage])
  for stage in ("bottleneck", "fc"):
    assert same(state.params["network"][stage], fresh.params["network"][stage])
  assert jax.tree.leaves(state.params["network"]["fc"])[1].shape == (6, 10)


def test_report_of_the_last_step_and_a_method_without_masks(tmp_path):
  c = settings("--config.algorithm.name=aggregate", "--config.report=last", "--config.steps=4", "--config.eval_every=2")
  results = train(c, tmp_path)
  assert results["report"] == {"rule": "last", "step": 4} and results["method"] == "aggregate"
  assert "mask_matrix" not in results and "overlap" not in results and not (tmp_path / "masks.npz").exists()
  assert set(results["accuracy"]) == {"default"}


def test_a_run_without_validation(tmp_path):
  """Where the last state counts, all images may be trained on: nothing is selected by validation, nor recorded."""
  c = settings("--config.algorithm.name=aggregate", "--config.report=last", "--config.data.val_fraction=0")
  results = train(c, tmp_path)
  assert set(results["selection"]) == {"last", "target_oracle"}
  assert results["selection"]["last"]["source_accuracy"] is None
  keys = {key for line in read_lines(tmp_path / "metrics.jsonl") for key in line}
  assert "test/plain/accuracy" in keys and not any(key.startswith("val/") for key in keys)
  assert runs.load(tmp_path).rule == "last" and "source val" not in summary([results], tmp_path)
  assert (tmp_path / "figures" / "curves.png").is_file()
  for override in ("--config.report=source_val", "--config.early_stop=0.5"):
    with pytest.raises(UserError, match=r"split 'val' of domain '\w+' of data set 'digits' is empty"):
      train(settings("--config.report=last", "--config.data.val_fraction=0", override), tmp_path / "other")


def test_settings_of_some_targets_are_theirs_alone(tmp_path):
  c = settings("--config.target=all", "--config.by_target=plain,turned:algorithm.overlap_weight=0.7")
  found = {runs[0].config.target: runs[0].config for runs in plan.plan(c, tmp_path)}
  assert {target: one.algorithm.overlap_weight for target, one in found.items()} == {
      "plain": 0.7, "inverted": 0.1, "colour": 0.1, "turned": 0.7}
  assert {one.by_target for one in found.values()} == {""}
  c = settings("--config.by_target=plain:algorithm.overlap_weight=0.7", "--config.sweep.algorithm.overlap_weight=1,2")
  assert [one.config.algorithm.overlap_weight for one in plan.plan(c, tmp_path)[0]] == [1, 2]


def test_training_ends_early_where_validation_is_good_enough(tmp_path):
  c = settings("--config.algorithm.name=aggregate", "--config.early_stop=0.01")
  results = train(c, tmp_path)
  assert results["step"] == 3 and results["selection"]["last"]["source_accuracy"] >= 0.01
  (tmp_path / "results.json").unlink()  # as if it had been killed between the last save and the report
  again = train(c, tmp_path)
  assert {**again, "seconds": 0} == {**results, "seconds": 0}


def test_the_best_checkpoint_stays_where_its_evaluation_was_stopped(tmp_path, monkeypatch):
  accuracies = {2: 0.9, 4: 0.8, 6: 0.7}
  stops = [2]  # the evaluation that is stopped once; the restart finds out that it was the best

  def evaluate(group, states, pause):
    step = int(states[0].step)
    if step in stops:
      stops.remove(step)
      raise Preempted
    val = dict.fromkeys(("inverted", "colour", "turned"), accuracies[step])
    return [types.SimpleNamespace(val=val, test=0.5, lines=dict, report=dict)]

  monkeypatch.setattr(Group, "evaluate", evaluate)
  with pytest.raises(Preempted):
    train(settings("--config.eval_every=2"), tmp_path)
  results = train(settings("--config.eval_every=2"), tmp_path)
  assert results["report"] == {"rule": "source_val", "step": 2}
  assert int(runs.load(tmp_path).state.step) == 2 and int(runs.load(tmp_path, "last").state.step) == 6


def test_a_checkpoint_of_another_arithmetic_is_noted(tmp_path, monkeypatch, caplog):
  def stop(*_):
    raise Preempted

  with monkeypatch.context() as patch:
    patch.setattr(Experiment, "evaluates", stop)  # at the top of the loop: nothing was trained yet
    with pytest.raises(Preempted):
      train(settings(), tmp_path)
  monkeypatch.setattr(Experiment, "evaluates", stop)
  with pytest.raises(Preempted), caplog.at_level("WARNING", "dgjax"):
    train(settings(), tmp_path)
  assert "Resuming" not in caplog.text
  monkeypatch.setattr(ops, "backend", lambda: "another")
  monkeypatch.setenv("NPROC", "77")
  with pytest.raises(Preempted), caplog.at_level("WARNING", "dgjax"):
    train(settings(), tmp_path)
  assert "-> 'another'" in caplog.text and "-> 77" in caplog.text
  with pytest.raises(Preempted), caplog.at_level("WARNING", "dgjax"):
    train(settings("--config.devices=2"), tmp_path)
  assert "devices: 1 -> 2" in caplog.text


@pytest.mark.parametrize("override,message", [
    ("--config.target=plane", r"config\.target is 'plane'.*\(did you mean 'plain'"),
    ("--config.sources=inverted,colours", r"config\.sources is 'colours'.*\(did you mean 'colour'"),
    ("--config.sources=inverted,plain", "config.sources names 'plain', which is the target"),
    ("--config.algorithm.prediction=max_logit", r"algorithm\.prediction is 'max_logit'.*(known|did you mean)")])
def test_wrong_domains_and_ways_to_predict_are_named_before_training(tmp_path, override, message):
  with pytest.raises(UserError, match=message):
    train(settings(override), tmp_path)


def test_chosen_sources_stay_in_the_data_sets_order(tmp_path):
  c = settings("--config.sources=turned, inverted")
  assert experiment.source_domains(c, data.load(c.data, 0)) == ("inverted", "turned")


FONTS = ("--config.data.name=fonts", "--config.data.characters=AB", "--config.data.per_character=1",
         "--config.target=unseen")


def test_a_data_set_of_many_domains(tmp_path):
  """Fonts stand in for the source domains in training; validation fonts are new, and predicted as such."""
  results = train(settings(*FONTS), tmp_path)
  assert (results["sources"], results["target"]) == (["seen"], "unseen") and len(results["groups"]) == 14
  with np.load(tmp_path / "masks.npz") as masks:
    assert masks["fc"].shape == (14, 16)  # a mask a font
  assert set(results["accuracy"]["pred_ens"]) == {"unseen"} and "known" not in results["accuracy"]
  matrix = results["mask_matrix"]
  assert matrix["masks"] == [*results["groups"], "combined"] and matrix["split"] == "val"
  assert np.shape(matrix["accuracy"]) == (15, 2)
  val = [line["val/seen/accuracy"] for line in read_lines(tmp_path / "metrics.jsonl") if "val/seen/accuracy" in line]
  chosen = results["selection"]["source_val"]
  assert matrix["accuracy"][14] == [chosen["source_accuracy"], chosen["target_accuracy"]]
  assert len(val) == 2 and max(val) == chosen["source_accuracy"]
  loaded = runs.load(tmp_path)
  assert loaded.algorithm.domains == 14
  assert figures.save_all(tmp_path, results)


def test_domains_that_cannot_be_what_they_are_asked_to(tmp_path):
  with pytest.raises(UserError, match=r"config\.target is 'seen', which fonts has for another use: use unseen"):
    train(settings(*FONTS, "--config.target=seen"), tmp_path)
  with pytest.raises(UserError, match=r"config\.sources is 'unseen', which fonts has for another use: use seen"):
    train(settings(*FONTS, "--config.sources=unseen"), tmp_path / "other")


def test_the_shape_of_a_prepared_batch():
  alone, both = (experiment.batch_shapes((98, 40, 1), adapts) for adapts in (False, True))
  assert alone["image"].shape == both["target"]["image"].shape == (2, 98, 40, 1)
  assert both["source"] == alone and both.keys() == {"source", "target"} and both["target"].keys() == {"image"}


def test_when_evaluations_are_due():
  by_steps = [step for step in range(11) if experiment.due(step, 10, 4, 3.0)]
  by_epochs = [step for step in range(11) if experiment.due(step, 10, 0, 2.5)]
  assert by_steps == [4, 8, 10] and by_epochs == [3, 5, 8, 10]


def test_images_are_normalised_on_the_device():
  class Dataset:
    mean, std = (0.5, 0.25, 0.0), (0.5, 0.25, 1.0)

  prepare = functools.partial(experiment.normalise, Dataset)
  pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 3, 3)).astype(np.uint8)
  expected = (pixels / 255 - np.array(Dataset.mean)) / np.array(Dataset.std)
  np.testing.assert_allclose(prepare({"image": jnp.asarray(pixels)})["image"], expected, atol=1e-6)
  features = np.random.default_rng(0).normal(size=(2, 3, 3, 3)).astype(np.float32)  # arrays are not divided by 255
  expected = (features - np.array(Dataset.mean)) / np.array(Dataset.std)
  np.testing.assert_allclose(prepare({"image": jnp.asarray(features)})["image"], expected, atol=1e-6)


def adapting(*overrides):
  return config.load("digits:mstn", [
      "--config.target=turned", "--config.devices=1", "--config.steps=4", "--config.eval_every=2",
      "--config.log_every=1", "--config.batch_size=16", "--config.target_batch_size=8", *overrides])


@pytest.fixture(scope="module")
def adapted(tmp_path_factory):
  """A finished run of a method that adapts: its folder and results."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(models.NETWORKS, "smallnet", (lambda classes, **_: tiny_network(classes=classes), ""))
    folder = tmp_path_factory.mktemp("adapted")
    return folder, train(adapting(), folder)


def losses(folder):
  return [line["train/loss"] for line in read_lines(folder / "metrics.jsonl") if "train/loss" in line]


def test_a_run_that_adapts(adapted):
  folder, results = adapted
  assert results["report"] == {"rule": "last", "step": 4} and results["config"]["report"] == "last"
  assert results["sources"] == ["plain", "inverted", "colour"] and results["target"] == "turned"
  assert set(results["selection"]) == {"source_val", "last", "target_oracle"}
  assert len(losses(folder)) == 4
  loaded = runs.load(folder)
  assert (loaded.rule, loaded.step) == ("last", 4) and loaded.state.extra["target"].shape == (10, 16)
  assert jnp.any(loaded.state.extra["target"])


def test_the_targets_labels_change_no_loss(adapted, tmp_path, monkeypatch):
  """Labels of the target's training images are other ones; only what it is scored on is as it was."""
  original = data.load

  def load(*arguments):
    dataset = original(*arguments)

    class Relabelled(data.dataset.Source):
      def image(self, index, smallest=None):
        image, label = super().image(index, smallest)
        return image, (label + 1 + index) % 10

    def opener(domain, split):
      source = dataset.opener(domain, split)
      if (domain, split) == ("turned", "train"):
        source.__class__ = Relabelled
      return source

    return dataclasses.replace(dataset, opener=opener)

  monkeypatch.setattr(data, "load", load)
  folder, results = adapted
  changed = train(adapting(), tmp_path)
  assert losses(tmp_path) == losses(folder) and changed["selection"] == results["selection"]


def test_a_run_that_adapts_goes_on_where_it_stopped(adapted, tmp_path, monkeypatch):
  folder, results = adapted

  def stop(*_):
    raise Preempted

  with monkeypatch.context() as patch:
    patch.setattr(Group, "until", lambda group, step, every: stop() if step == 3 else step + 1)
    with pytest.raises(Preempted):
      train(adapting(), tmp_path)
  assert len(losses(tmp_path)) == 3
  assert train(adapting(), tmp_path)["selection"] == results["selection"]
  assert losses(tmp_path) == losses(folder)


def test_the_rule_that_is_reported_follows_the_method():
  assert settings("--config.algorithm.name=mstn").report == "last"
  assert settings("--config.algorithm.name=mstn", "--config.report=source_val").report == "source_val"
  assert adapting("--config.algorithm.name=aggregate").report == "source_val"


def test_a_target_batch_that_does_not_divide(tmp_path):
  with pytest.raises(UserError, match="target_batch_size 9 does not divide among 2 devices: use 8 or 10"):
    train(adapting("--config.target_batch_size=9", "--config.devices=2"), tmp_path)
