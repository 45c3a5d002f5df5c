"""Runs that train together: how they are computed, which they are, and that each is what it would be alone."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import same, tiny_network

from dgjax import config, group, models, parallel, plan, runs, training
from dgjax.errors import UserError
from dgjax.experiment import Experiment
from dgjax.group import Group
from dgjax.lanes import KINDS
from dgjax.preemption import Preempted
from dgjax.recorder import NotFinite, read_lines


@pytest.fixture(autouse=True)
def small(monkeypatch):
  """The tiny network under smallnet's name."""
  monkeypatch.setitem(models.NETWORKS, "smallnet", (lambda classes, **_: tiny_network(classes=classes), ""))


def settings(*overrides, method="aggregate"):
  return config.load(f"digits:{method}", [
      "--config.target=plain", "--config.devices=1", "--config.steps=6", "--config.eval_every=3",
      "--config.log_every=2", "--config.batch_size=16", *(f"--config.{override}" for override in overrides)])


def losses(folder):
  return [line["train/loss"] for line in read_lines(folder / "metrics.jsonl") if "train/loss" in line]


def shown(results):
  """What two runs of the same settings must agree in."""
  return {key: value for key, value in results.items() if key not in ("seconds", "command", "config", "devices")}


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
  """Two seeds, each by itself: their folders and results."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(models.NETWORKS, "smallnet", (lambda classes, **_: tiny_network(classes=classes), ""))
    root = tmp_path_factory.mktemp("alone")
    return {seed: (root / str(seed), plan.train(settings(f"seed={seed}"), root / str(seed))[0]) for seed in (3, 4)}


@pytest.mark.parametrize("how", sorted(KINDS))
def test_lanes_compute_each_run_and_leave_those_that_ended(how):
  """Of a state x and a part a, x + a s and 2 x: on one device, and of three runs on two."""
  lanes = KINDS[how](parallel.make("jit", 2 if how == "spread" else 1, 8), 3)
  key = jax.random.key(0)
  states = lanes.join([{"x": jnp.full((2,), float(run)), "key": jax.random.fold_in(key, run)} for run in range(3)])
  update = lanes.compile(lambda state, part, shared: (
      {"x": state["x"] + part["a"] * shared, "key": jax.random.fold_in(state["key"], 1)}, 2 * state["x"]), updates=True)
  parts = [{"a": np.array([10.0 * run, 1.0], np.float32)} for run in range(3)]
  states, outputs = update(states, parts, jnp.float32(2), np.array([True, False, True]))
  after = lanes.split(states)
  expected = [[0, 2], [1, 1], [42, 4]]
  np.testing.assert_array_equal([state["x"] for state in after], expected)
  moved = [not same(state["key"], jax.random.fold_in(key, run)) for run, state in enumerate(after)]
  assert moved == [True, False, True]
  rows = lanes.rows(outputs)
  np.testing.assert_array_equal(rows[2], [4, 4])
  score = lanes.compile(lambda state, part, shared: state["x"].sum() * shared, updates=False)
  _, sums = score(states, [{}] * 3, jnp.float32(1), np.ones(3, bool))
  np.testing.assert_array_equal(lanes.rows(sums), np.sum(expected, 1))


def test_calls_end_where_something_is_due():
  class Toy:
    """A run of 40 steps that is evaluated after 20, with a second phase from 30 on."""
    steps = 40

    @staticmethod
    def evaluates(step):
      return step in (20, 40)

  class Phases:
    phases = tuple(type("Phase", (), {"begin": begin, "enters_at": lambda self, step: step == self.begin == 30})()
                   for begin in (0, 30))

    def phase_at(self, step):
      return [phase for phase in self.phases if phase.begin <= step][-1]

  toy = Toy()
  toy.algorithm = Phases()
  made = Group((toy,), None, None, 8)
  step, stops = 0, []
  while step < 40:
    step = made.until(step, record_every=16)
    stops.append(step)
  # Calls of 8 steps; single ones before what is due at 20 and 30, for the phase's first, and up to the record at 32
  assert stops == [8, 16, 17, 18, 19, 20, 28, 29, 30, 31, 32, 40]


@pytest.mark.parametrize("how, devices", [("map", 1), ("vmap", 1), ("spread", 2)])
def test_each_run_of_a_group_is_what_it_is_alone(how, devices, alone, tmp_path):
  c = settings("seed=3", "seeds=2", f"grouping={how}", f"devices={devices}")
  together = plan.train(c, tmp_path)
  assert not list(tmp_path.glob("group-*"))
  for results, (seed, (folder, lone)) in zip(together, alone.items(), strict=True):
    own = tmp_path / f"seed={seed}"
    assert json.loads((own / "results.json").read_text()) == results and results["seed"] == seed
    assert f"--config.seed={seed}" not in results["command"]  # no command was given
    ours, theirs = runs.load(own), runs.load(folder)
    if how == "map":
      assert losses(own) == losses(folder) and shown(results) == shown(lone)
      assert same(ours.state, theirs.state)
    else:
      np.testing.assert_allclose(losses(own), losses(folder), rtol=1e-4)
      assert ours.step == theirs.step
    assert (own / "log.txt").exists() and list(own.glob("events.*"))


def test_a_sweep_and_seeds_are_folders_and_one_group(tmp_path):
  c = settings("seeds=2", "sweep.optimizer.learning_rate=1e-3,1e-2", "sweep.optimizer.weight_decay=0,1e-4")
  planned, = plan.plan(c, tmp_path)
  assert [one.folder.relative_to(tmp_path) for one in planned][:3] == [pathlib.Path(name) for name in (
      "optimizer.learning_rate=1e-3/optimizer.weight_decay=0/seed=0",
      "optimizer.learning_rate=1e-3/optimizer.weight_decay=0/seed=1",
      "optimizer.learning_rate=1e-3/optimizer.weight_decay=1e-4/seed=0")]
  assert len(planned) == 8 and planned[7].config.optimizer.learning_rate == 1e-2 and planned[7].config.seeds == 1
  experiments = [Experiment.build(one.config) for one in planned]
  assert group.alike(experiments) == [list(range(8))]
  other = Experiment.build(settings("model.bottleneck=4"))
  assert group.alike([*experiments[:2], other]) == [[0, 1], [2]]


def test_what_does_not_fit_into_memory_waits(monkeypatch, caplog):
  experiments = [Experiment.build(settings(f"seed={seed}")) for seed in range(5)]
  each = 2 * sum(x.size * 4 for x in jax.tree.leaves(experiments[0].state_shapes()))  # of which the key is a trifle
  monkeypatch.setattr(group, "free_memory", lambda devices: int((2.5 + 2) * each / group.FREE_SHARE))
  with caplog.at_level("INFO", "dgjax"):
    assert group.alike(experiments) == [[0, 1], [2, 3], [4]]
  assert "2 of 5 runs fit into memory together" in caplog.text
  monkeypatch.setattr(group, "free_memory", lambda devices: 1)
  assert group.alike(experiments) == [[run] for run in range(5)]


def test_swept_values_are_the_runs(tmp_path):
  results = plan.train(settings("sweep.optimizer.learning_rate=1e-3,1e-2", "grouping=vmap"), tmp_path / "together")
  lone = plan.train(settings("optimizer.learning_rate=1e-2"), tmp_path / "lone")[0]
  own = tmp_path / "together" / "optimizer.learning_rate=1e-2"
  np.testing.assert_allclose(losses(own), losses(tmp_path / "lone"), rtol=1e-4)
  assert [one["config"]["optimizer"]["learning_rate"] for one in results] == [1e-3, 1e-2]
  assert lone["config"]["optimizer"] == results[1]["config"]["optimizer"]


@pytest.mark.parametrize("override, message", [
    ("sweep.optimizer.learning_rte=1", "there is no key optimizer.learning_rte to vary.*optimizer.learning_rate"),
    ("sweep.optimizer.learning_rate=", "write --config.sweep.optimizer.learning_rate=V1,V2"),
    ("grouping=vmpa", r"config.grouping is 'vmpa' \(did you mean 'vmap'")])
def test_what_cannot_be_run_together_is_named(override, message, tmp_path):
  with pytest.raises(UserError, match=message):
    plan.train(settings("seeds=2", override), tmp_path)


def test_a_run_that_diverges_ends_alone(tmp_path):
  with pytest.raises(plan.RunsFailed, match=r"^1 of 2 runs failed: .*=1e38: .* at step .* lower") as told:
    plan.train(settings("sweep.optimizer.learning_rate=1e-3,1e38", "grouping=map"), tmp_path)
  good, bad = (tmp_path / f"optimizer.learning_rate={rate}" for rate in ("1e-3", "1e38"))
  assert [one["config"]["optimizer"]["learning_rate"] for one in told.value.finished] == [1e-3]
  assert "from_step" not in str(told.value) and not (bad / "checkpoints").exists()  # there is none of it alone
  assert len(losses(good)) == 6 and (good / "results.json").exists() and not (bad / "results.json").exists()
  assert json.loads((bad / "failure.json").read_text())["step"] == len(losses(bad)) + 1


def test_a_run_that_is_good_enough_waits_for_the_others(tmp_path, monkeypatch):
  for run in (0, 1):
    plan.train(settings(f"seed={run}"), tmp_path / f"whole{run}")
  history = [read_lines(tmp_path / f"whole{run}" / "metrics.jsonl") for run in (0, 1)]
  early = [np.mean([line[f"val/{domain}/accuracy"] for domain in ("inverted", "colour", "turned")])
           for lines in history for line in lines if line["step"] == 3 and "val/colour/accuracy" in line]
  assert early[0] != early[1]
  results = plan.train(settings("seeds=2", f"early_stop={max(early)}", "grouping=vmap"), tmp_path / "group")
  ended = int(np.argmax(early))
  assert results[ended]["step"] == 3 and int(runs.load(tmp_path / "group" / f"seed={ended}", "last").state.step) == 3
  if early[1 - ended] < max(early):
    assert results[1 - ended]["step"] in (3, 6)
  assert len(losses(tmp_path / "group" / f"seed={ended}")) == 3
  for run in (0, 1):  # which ended at different steps: lost results are made again from their checkpoints
    (tmp_path / "group" / f"seed={run}" / "results.json").unlink()
  monkeypatch.setattr(Group, "advance", None)
  again = plan.train(settings("seeds=2", f"early_stop={max(early)}", "grouping=vmap"), tmp_path / "group")
  for one, before in zip(again, results, strict=True):
    assert (one["step"], one["selection"]) == (before["step"], before["selection"])
    assert one["accuracy"]["default"] == pytest.approx(before["accuracy"]["default"], abs=0.01)  # under vmap before


def test_other_targets_are_trained_after_one_that_failed(tmp_path, monkeypatch):
  def train(experiments, folders, home):
    if experiments[0].target == "plain":
      folders[0].write("failure.json", {"step": 1, "reason": "loss is nan"})
      raise NotFinite("loss", float("nan"), 1)
    return [{"target": experiment.target, "config": {}} for experiment in experiments]

  monkeypatch.setattr(plan.training, "run", train)
  monkeypatch.setattr("dgjax.analysis.figures.save_all", lambda *_: None)
  with pytest.raises(plan.RunsFailed, match=f"^1 of 4 runs failed: {tmp_path}/plain: loss is nan$") as told:
    plan.train(settings("target=all"), tmp_path)
  assert [one["target"] for one in told.value.finished] == ["inverted", "colour", "turned"]
  with pytest.raises(NotFinite):  # of a single run the error itself
    plan.train(settings(), tmp_path / "lone")


def test_a_stopped_group_goes_on_and_a_lost_result_is_made_again(tmp_path, alone, monkeypatch):
  c = settings("seed=3", "seeds=2", "grouping=map")
  until = Group.until

  def stop(made, step, every):
    if step == 4:
      raise Preempted
    return until(made, step, every)

  with monkeypatch.context() as patch:
    patch.setattr(Group, "until", stop)
    with pytest.raises(Preempted):
      plan.train(c, tmp_path)
  assert list(tmp_path.glob("group-*/checkpoints/4"))
  expected = [shown(lone) for _, lone in alone.values()]
  assert [shown(results) for results in plan.train(c, tmp_path)] == expected
  (tmp_path / "seed=4" / "results.json").unlink()  # as if killed between the two
  monkeypatch.setattr(Group, "advance", None)  # nothing is trained again
  assert [shown(results) for results in plan.train(c, tmp_path)] == expected
  assert [losses(tmp_path / f"seed={seed}") for seed in alone] == [losses(folder) for folder, _ in alone.values()]


def test_measuring_decides_where_it_pays(monkeypatch, caplog):
  experiments = [Experiment.build(settings(f"seed={seed}", "steps=1000")) for seed in (0, 1)]
  feed = training.Feed(experiments)
  times = {"map": (10.0, 0.5), "vmap": (12.0, 0.2)}
  monkeypatch.setattr(Group, "seconds", lambda made: times[made.lanes.name])
  with caplog.at_level("INFO", "dgjax"):
    assert group.build(experiments, feed, "auto").lanes.name == "vmap"
  assert "500.0 ms a step one after the other, 200.0 ms by vmap" in caplog.text
  times["vmap"] = (12.0, 0.45)  # a tenth less may be noise
  assert group.build(experiments, feed, "auto").lanes.name == "map"
  times |= {"map": (10.0, 0.01), "vmap": None}  # 10 s of training are not worth a compilation of 10 s
  assert group.build(experiments, feed, "auto").lanes.name == "map"
  assert group.build(experiments[:1], feed, "vmap").lanes.name == "map"


def test_the_command_makes_one_run_again(tmp_path):
  c = settings("seeds=2", "sweep.optimizer.learning_rate=1e-3,1e-2")
  planned = plan.plan(c, tmp_path)[0][3]
  overrides = ["--config.seeds=2", "--config.sweep.optimizer.learning_rate=1e-3,1e-2", "--config.steps=6"]
  command = plan.command_line("digits:aggregate", overrides)(planned)
  assert command == ("python -m dgjax.main --config=digits:aggregate --config.steps=6 --config.target=plain "
                     f"--config.optimizer.learning_rate=1e-2 --config.seed=1 --workdir={planned.folder}")


