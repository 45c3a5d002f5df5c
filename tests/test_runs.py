import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dgjax import config, data, plan, runs
from dgjax.data import pipeline, transforms
from dgjax.data.dataset import array, picture
from dgjax.errors import UserError
from dgjax.evaluation import selection

SOURCES, TARGET = ("plain", "inverted"), "colour"
FIRST, LAST = 2, 4


@pytest.fixture(scope="module")
def settings():
  c = config.load("digits:dmg")
  c.update(target=TARGET, sources=",".join(SOURCES), steps=LAST, eval_every=FIRST, batch_size=16, devices=1)
  c.optimizer.roles.masks.rate = 1.0 / c.optimizer.learning_rate  # masks that are not all on after four steps
  return c


@pytest.fixture(scope="module")
def folder(settings, tmp_path_factory):
  path = tmp_path_factory.mktemp("runs") / "digits"
  update = selection.update
  with pytest.MonkeyPatch.context() as patch:  # the first evaluation is the best, whatever it finds
    patch.setattr(selection, "update", lambda chosen, step, val, target: update(
        chosen, step, dict.fromkeys(val, 1 / step), target))
    plan.train(settings, path)
  return path


@pytest.fixture
def copy(folder, tmp_path):
  return shutil.copytree(folder, tmp_path / "copy")


def edit(folder, change):
  results = json.loads((folder / "results.json").read_text())
  change(results)
  (folder / "results.json").write_text(json.dumps(results))


def test_opens_the_state_that_the_report_is_about(folder):
  run = runs.load(folder)
  assert run.rule == "source_val" and run.step == run.results["selection"]["source_val"]["step"] == int(run.state.step)
  assert run.sources == SOURCES and run.target == TARGET and set(run.dataset.domains) >= {*SOURCES, TARGET}
  with np.load(folder / "masks.npz") as saved:
    masks = run.algorithm.arrays(run.state)["masks"]
    assert list(saved) == list(masks) and all(np.array_equal(saved[stage], masks[stage]) for stage in masks)


def test_predicts_what_the_run_reported(folder):
  run = runs.load(folder)
  predict = jax.jit(run.algorithm.predict, static_argnames="mode")
  right = []
  for batch in pipeline.evaluate(run.dataset, TARGET, "test", batch_size=128, image_size=16):
    logits = predict(run.state, run.normalise(batch)["image"], mode="member/1")
    right.append((np.asarray(logits).argmax(-1) == batch["label"])[batch["mask"]])
  assert np.concatenate(right).mean() == pytest.approx(run.results["mask_matrix"]["accuracy"][1][-1], abs=1e-6)


def test_a_run_predicts_without_its_data(folder, monkeypatch):
  monkeypatch.setattr(data, "load", None)  # as if they were deleted
  run = runs.load(folder)
  pixels = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3)).astype(np.uint8)
  outputs = run.outputs(pixels, batch_size=3)  # does not divide
  logits = run.algorithm.outputs(run.state, run.normalise({"image": jnp.asarray(pixels)})["image"])
  assert outputs.keys() == logits.keys() and run.classes == tuple("0123456789")
  for mode in outputs:
    np.testing.assert_allclose(outputs[mode], jax.nn.softmax(logits[mode]), atol=1e-6)
  np.testing.assert_array_equal(run.predict(pixels, batch_size=3), outputs[run.algorithm.prediction])
  larger = np.repeat(np.repeat(pixels, 3, 1), 3, 2)
  expected = np.stack([array(transforms.resize(picture(image), 16)) for image in larger])
  np.testing.assert_allclose(run.predict(larger), run.predict(expected), atol=1e-6)
  for wrong in (pixels[..., :1], pixels[0], pixels.astype(np.float32), pixels[:0]):
    with pytest.raises(UserError, match="images must"):
      run.predict(wrong)


@pytest.mark.parametrize(("rule", "step"), [("", FIRST), ("source_val", FIRST), ("last", LAST)])
def test_a_rule_chooses_the_step(folder, rule, step):
  run = runs.load(folder, rule)
  assert run.step == int(run.state.step) == step


def test_a_state_that_was_not_kept_is_an_error_that_says_which_were(copy):
  edit(copy, lambda results: results["selection"]["target_oracle"].update(step=1))
  with pytest.raises(UserError, match=r"no checkpoint of step 1, which target_oracle selected: .*steps 2, 4\)"):
    runs.load(copy, "target_oracle")


def test_an_unknown_rule_is_an_error_that_names_the_nearest(folder):
  with pytest.raises(UserError, match="did you mean 'source_val'"):
    runs.load(folder, "source_vall")


@pytest.mark.parametrize("change, told", [
    (lambda results: results.update(config=3), "is damaged .its 'config' is of the type int"),
    (lambda results: results.update(selection=[1]), "its 'selection' is of the type list"),
    (lambda results: results.update(selection={}), "nothing that source_val selected"),
    (lambda results: results["selection"].update(last=4), "its 'selection/last' is of the type int"),
    (lambda results: results.update(report="x"), "its 'report' is of the type str"),
    (lambda results: results.pop("data"), "does not describe a run .KeyError: 'data'"),
    (lambda results: results.update(data=3), "does not describe a run"),
    (lambda results: results.update(config={}), "does not describe a run"),
    (lambda results: results["data"].update(classes=None), "does not describe a run")])
def test_results_of_another_shape_are_named(copy, change, told):
  edit(copy, change)
  with pytest.raises(UserError, match=told) as error:
    runs.load(copy)
  assert str(error.value).startswith(f"{copy}/results.json")


def test_a_folder_of_several_runs_or_of_an_unfinished_one_is_an_error(copy):
  with pytest.raises(UserError, match="that of one target domain"):
    runs.load(copy.parent)
  (copy / "results.json").unlink()
  with pytest.raises(UserError, match="not finished"):
    runs.load(copy)
