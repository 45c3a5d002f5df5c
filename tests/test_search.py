"""Searches: draws by name, ranges, rules on hand-made folders, the config that is written, and one small search."""

import json

import numpy as np
import pytest
from helpers import tiny_network

from dgjax import algorithms, commands, config, main, models, search, training
from dgjax.distributions import Choice, LogUniform, PowerOfTwo, Uniform
from dgjax.errors import UserError
from dgjax.group import Group
from dgjax.plan import Planned
from dgjax.preemption import Preempted
from dgjax.search import Part, Scored, Trial

RANGES = {"rate": LogUniform(1e-5, 1e-1), "share": Uniform(0.0, 1.0), "size": PowerOfTwo(-2, 3, times=64)}
SHORT = ("--config.target=plain", "--config.devices=1", "--config.steps=2", "--config.eval_every=1")


def test_another_hyperparameter_leaves_the_draws_of_the_others_as_they_are():
  for trial in range(1, 6):
    before = search.draw(RANGES, 3, trial)
    after = search.draw({"first": Uniform(0, 1), **dict(reversed(RANGES.items())), "last": Choice((1, 2))}, 3, trial)
    assert before.items() <= after.items()


def test_names_seeds_and_trials_have_streams_of_their_own():
  same = Uniform(0, 1)
  drawn = [value for seed in range(3) for trial in range(3)
           for value in search.draw({"a": same, "b": same}, seed, trial).values()]
  assert len(set(drawn)) == 18
  assert search.draw(RANGES, 0, 1) == search.draw(RANGES, 0, 1)


@pytest.mark.parametrize("distribution,said,shares", [
    (Uniform(-1.0, 3.0), "uniform from -1 to 3", {(-1, 0): 0.25, (2, 3): 0.25}),
    (LogUniform(1e-4, 1.0), "log-uniform from 0.0001 to 1", {(0, 1e-3): 0.25, (0.1, 1): 0.25}),
    (Choice((1, 5)), "one of 1, 5", {(1, 1): 0.5, (5, 5): 0.5}),
    (PowerOfTwo(-1, 2, times=6), "one of 3, 6, 12, 24", {(3, 3): 0.25, (24, 24): 0.25})])
def test_distributions_stay_in_their_ranges(distribution, said, shares):
  rng = np.random.default_rng(0)
  drawn = [distribution.draw(rng) for _ in range(2000)]
  assert all(value in distribution for value in drawn) and str(distribution) == said
  for (low, high), share in shares.items():
    assert np.mean([low <= value <= high for value in drawn]) == pytest.approx(share, abs=0.04)
  assert all(float(f"{value:.3g}") == value for value in drawn)


@pytest.mark.parametrize("name", algorithms.ALGORITHMS)
def test_what_a_method_searches_is_among_its_settings(name):
  defaults = algorithms.defaults(name)
  for key, distribution in algorithms.find(name).searched.items():
    assert defaults[key] == 0 or defaults[key] in distribution, key


def test_ranges_follow_the_config():
  own = config.load("dmg_digits")
  found = search.distributions(own)
  assert list(found) == ["optimizer.learning_rate", "optimizer.weight_decay", "batch_size", "algorithm.overlap_weight"]
  assert all(config.flatten(own)[key] in distribution for key, distribution in found.items())
  assert "batch_size" not in search.distributions(own, ["batch_size"])
  own.model.weights, own.batch_size, own.algorithm.overlap_weight = "file", 50, 0.0
  found = search.distributions(own)
  assert found["batch_size"].values == (25, 50, 100) and "algorithm.overlap_weight" not in found
  assert found["optimizer.learning_rate"].low == pytest.approx(own.optimizer.learning_rate * 10**-0.7)


def write(folder, target, sources, val, test):
  """A finished run: at evaluation i its sources have val[i], a row each, and its target test[i]."""
  folder.mkdir(parents=True)
  lines = [{"step": 10 * i + 10, f"test/{target}/accuracy": float(test[i])} |
           {f"val/{name}/accuracy": float(val[i][j]) for j, name in enumerate(sources)} for i in range(len(val))]
  (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
  (folder / "results.json").write_text(json.dumps({"config": {}, "selection": {}, "report": {"rule": "source_val"},
                                                   "step": 0, "sources": sources, "target": target}))
  return Planned(None, folder, {})


@pytest.fixture
def trials(tmp_path):
  """Three trials of two targets and two seeds with random accuracies, and the arrays that they are of."""
  rng, domains, arrays, found = np.random.default_rng(0), ["a", "b", "c"], {}, []
  for number in range(3):
    parts = []
    for target in ("a", "b"):
      for seed in (0, 1):
        sources = [name for name in domains if name != target]
        folder = tmp_path / f"trial={number}" / target / f"seed={seed}"
        val, test, left = rng.random((4, 2)), rng.random(4), rng.random((2, 4))
        arrays[number, target, seed] = val, test, left
        others = {source: write(folder.parent / f"leave_out={source}" / folder.name, source,
                                [name for name in sources if name != source], val[:, :1], left[i])
                  for i, source in enumerate(sources)}
        parts.append(Part(target, seed, write(folder, target, sources, val, test), others))
    found.append(Trial(number, {"optimizer.learning_rate": 0.1 + number}, parts))
  return found, arrays


@pytest.mark.parametrize("rule", search.RULES)
def test_rules_equal_a_plain_loop(trials, rule):
  found, arrays = trials
  means, reached = [], []
  for number in range(3):
    values, targets = [], []
    for target in ("a", "b"):
      for seed in (0, 1):
        val, test, left = arrays[number, target, seed]
        measure = {"source_val": val.mean(1), "last": val.mean(1), "target_oracle": test,
                   "leave_one_out": left.mean(0)}[rule]
        step = 3 if rule == "last" else int(np.argmax(measure))
        values.append(measure[step])
        targets.append(test[step])
    means.append(np.mean(values))
    reached.append(targets)
  ranked = search.rank(found, rule)
  assert [one.trial.number for one in ranked] == list(np.argsort(means)[::-1])
  best = ranked[0]
  assert best.cell("value").mean == pytest.approx(100 * max(means))
  a0, a1, b0, b1 = reached[best.trial.number]
  by_seed = 100 * np.array([(a0 + b0) / 2, (a1 + b1) / 2])
  reported = best.cell("target_accuracy")
  assert reported.mean == pytest.approx(by_seed.mean())
  assert reported.error == pytest.approx(by_seed.std(ddof=1) / np.sqrt(2))
  assert f"{reported.mean:.1f} ± {reported.error:.1f}" in search.report(ranked, rule).splitlines()[3]


def test_each_target_alone_has_a_trial_of_its_own(trials):
  found, arrays = trials
  ranked = search.rank(found, "target_oracle")
  rows = {row.split()[0]: row.split() for row in search.report(ranked, "target_oracle").splitlines()[-3:]}
  accuracies = []
  for target in ("a", "b"):
    means = [np.mean([arrays[number, target, seed][1].max() for seed in (0, 1)]) for number in range(3)]
    assert int(rows[target][1]) == np.argmax(means)
    accuracies.append(max(means))
  assert rows["mean"][1] == f"{100 * np.mean(accuracies):.1f}"


def test_a_trial_with_a_failed_run_is_not_chosen(trials):
  found, _ = trials
  best = search.rank(found, "source_val")[0].trial
  (best.parts[2].run.folder / "results.json").unlink()
  ranked = search.rank(found, "source_val")
  assert ranked[-1].trial == best and not ranked[-1].scores
  assert "failed" in search.report(ranked, "source_val").splitlines()[5]
  for trial in found:
    (trial.parts[0].run.folder / "results.json").unlink(missing_ok=True)
  with pytest.raises(UserError, match="in each of the 3 trials a run failed"):
    search.rank(found, "source_val")


@pytest.fixture
def small(monkeypatch):
  """The tiny network under smallnet's name; logging and caches stay as the tests have them."""
  monkeypatch.setitem(models.NETWORKS, "smallnet", (lambda classes, **_: tiny_network(classes=classes), ""))
  monkeypatch.setattr(main, "set_up", lambda settings: None)


def test_the_written_config_is_the_trials(tmp_path, small):
  overrides = [*SHORT, "--config.algorithm.prediction=prob_ens", "--noconfig.optimizer.nesterov"]
  found = search.trials("configs/dmg_digits.py", overrides, tmp_path, count=3, seeds=2)
  chosen = Scored(found[2], {("plain", 0): search.Score(1, 1)})
  search.write_config(tmp_path / "best.py", "configs/dmg_digits.py", overrides, chosen, "last")
  loaded = config.flatten(config.load(f"{tmp_path}/best.py"))
  run = config.flatten(found[2].parts[0].run.config)
  assert loaded == run | {"seeds": 2} and found[2].settings.items() <= loaded.items()
  assert "the best by last: 100.0 % over 2 seeds, 1 target." in (
      tmp_path / "best.py").read_text()
  assert found[0].settings != found[2].settings and loaded["algorithm.prediction"] == "prob_ens"


def test_sources_are_left_out_in_turn(tmp_path, small):
  own = [override for override in SHORT if "target" not in override]
  found = search.trials("dmg_digits", own, tmp_path, count=2, seeds=1, leave_one_out=True)
  part = found[1].parts[0]
  assert part.target == "plain" and part.run.folder == tmp_path / "trial=1" / "plain" / "seed=0"
  assert list(part.left_out) == ["inverted", "colour", "turned"]
  run = part.left_out["colour"]
  assert (run.config.target, run.config.sources) == ("colour", "inverted,turned")
  assert run.folder == tmp_path / "trial=1" / "plain" / "leave_out=colour" / "seed=0"
  assert [len(runs) for runs in search.plans(found)] == [2] * 16  # four targets, each with all sources and without each
  assert run.changes.items() >= {"target": "colour", "sources": "inverted,turned",
                                 "batch_size": str(found[1].settings["batch_size"])}.items()


def test_a_search(tmp_path, small, monkeypatch, capsys):
  """Trials of one shape train together, one that diverges is left behind, and a stopped search goes on."""
  drawn = {1: (0.01, 16), 2: (1e38, 8)}
  monkeypatch.setattr(search, "distributions", lambda *_: dict.fromkeys(("optimizer.learning_rate", "batch_size")))
  monkeypatch.setattr(search, "draw", lambda ranges, seed, trial: dict(zip(ranges, drawn[trial], strict=True)))
  groups, until, run = [], Group.until, training.run
  monkeypatch.setattr(training, "run", lambda experiments, *rest: groups.append(len(experiments)) or
                      run(experiments, *rest))
  words = ["search", "digits:aggregate", *SHORT, "--config.batch_size=16", "--config.log_every=1", "--trials=3",
           "--seeds=1", f"--workdir={tmp_path}"]

  def stop(group, step, every):
    if step == 1:
      raise Preempted
    return until(group, step, every)

  with monkeypatch.context() as patch:
    patch.setattr(Group, "until", stop)
    assert commands.main(words) == 75
  assert groups == [2]
  assert commands.main(words) == 0
  assert groups == [2, 2, 1]
  said = capsys.readouterr().out
  assert "3 runs: 3 trials, 1 seed, 1 target; 3 to train, 6 steps in 2 groups" in said and "failed" in said
  assert json.loads((tmp_path / "trial=2" / "seed=0" / "failure.json").read_text())["step"] >= 1
  settings = json.loads((tmp_path / "trial=1" / "seed=0" / "config.json").read_text())
  assert settings["optimizer"]["learning_rate"] == 0.01
  best = config.load(f"{tmp_path}/best.py")
  assert best.optimizer.learning_rate in (0.002, 0.01) and best.batch_size == 16

  assert commands.main([*words, "--rule=target_oracle"]) == 0
  assert groups == [2, 2, 1]
  assert "3 runs: 3 trials, 1 seed, 1 target; all are done" in capsys.readouterr().out


@pytest.mark.parametrize("words,message", [
    (["dmg_digit"], "no config 'dmg_digit' (did you mean 'dmg_digits'?)"),
    (["dmg_digits", "--trials=0"], "--trials is 0: it must be at least 1"),
    (["dmg_digits", "--seeds=x"], "argument --seeds: invalid int value: 'x': see --help"),
    (["dmg_digits", "--rule=best"], "argument --rule: invalid choice"),
    (["dmg_digits", "--trial=3"], "unrecognized arguments: --trial=3"),
    ([], "the following arguments are required: config"),
    (["dmg_digits", "--config.optimiser.name=sgd"], "no key config.optimiser.name"),
    (["dmg_digits", "--config.sweep.seed=1,2"], "config.sweep: there is no key seed to vary"),
    (["dmg_digits", "--config.sweep.batch_size=1,2"], "config.sweep does not go with a search"),
    (["dmg_digits", "--config.steps=9", "--rule=leave_one_out"], "set config.eval_every"),
    (["dmg_digits", "--config.target=plain", "--config.sources=colour", "--leave_one_out"], "cannot leave it out")])
def test_bad_arguments_are_one_line(small, capsys, tmp_path, words, message):
  assert commands.main(["search", *words, f"--workdir={tmp_path}"]) == 1
  captured = capsys.readouterr()
  assert message in captured.err and captured.err.count("\n") == 1 and not captured.out


