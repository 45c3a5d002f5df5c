import csv
import json

import numpy as np
import pytest

import dgjax
from dgjax import commands


def evaluate(trained, out, *arguments):
  assert commands.main(["evaluate", str(trained.folder), f"--out={out}", *arguments]) == 0
  with (out / "predictions.csv").open(newline="") as file:
    return json.loads((out / "results.json").read_text()), list(csv.DictReader(file))


def test_its_own_data_on_held_out_images(trained, tmp_path, capsys):
  results, lines = evaluate(trained, tmp_path)
  run = dgjax.load(trained.folder)
  assert tuple(results["domains"]) == run.experiment.dataset.domains and len(results["domains"]) == 3
  for domain, score in results["domains"].items():
    own = [line for line in lines if line["domain"] == domain]
    held_out = run.dataset.splits[domain]
    assert score["splits"] == (["train", "val", "test"] if domain == "cartoon" else ["test"])
    assert score["images"] == len(own) == sum(held_out[split] for split in score["splits"])
    assert np.sum(score["confusion"]) == len(own)
    right = [line["class"] == line["predicted"] for line in own]
    assert score["accuracy"] == pytest.approx(np.mean(right))
    assert score["class_accuracy"] == pytest.approx(np.mean(list(score["by_class"].values())))
    for line in own:
      assert (trained.data / domain / line["image"]).exists() or (trained.data / line["image"]).exists()
      assert line["class"] in line["image"]
  assert "confusion matrix" in capsys.readouterr().out
  again, _ = evaluate(trained, tmp_path, "--domains=cartoon")
  assert again["domains"] == {"cartoon": results["domains"]["cartoon"]}


def test_other_data_with_some_of_the_classes(trained, write_images, tmp_path, capsys):
  """A domain never seen, whose only class has another number there; both spellings of the setting."""
  data = write_images(tmp_path / "other", ["poster", "photo"], ["dog"], 5, seed=1)
  results, lines = evaluate(trained, tmp_path / "out", f"--data.dir={data}")
  assert results["domains"]["poster"]["images"] == 5 and {line["class"] for line in lines} == {"dog"}
  assert results["domains"]["poster"]["confusion"][0] == [0, 0]
  err = capsys.readouterr().err
  assert "trained on a domain 'photo' with other images" in err and "poster" not in err
  assert evaluate(trained, tmp_path / "out", "--config.data.dir", str(data))[0] == results


@pytest.mark.parametrize(("arguments", "message"), [
    (["--domains=phoot"], "no domain 'phoot' (did you mean 'photo'?)"),
    (["--config.seed=1"], "no argument '--config.seed=1': settings of the data are --config.data.KEY=VALUE"),
    (["--config.data.dirr=x"], "did you mean 'data.dir'?"),
    (["--data.dir=birds"], "class 'bird' of folder is none that the run was trained on: its classes are cat, dog")])
def test_what_cannot_be_evaluated(trained, write_images, tmp_path, monkeypatch, capsys, arguments, message):
  write_images(tmp_path / "birds", ["photo", "poster"], ["bird", "cat"], 3)
  monkeypatch.chdir(tmp_path)
  assert commands.main(["evaluate", str(trained.folder), "--out=out", *arguments]) == 1
  assert message in capsys.readouterr().err and not list(tmp_path.glob("out/*"))
