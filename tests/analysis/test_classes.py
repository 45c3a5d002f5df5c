import numpy as np
import pytest
from test_embed import run_of

from dgjax.analysis import classes, sources
from dgjax.analysis.results import read_runs
from dgjax.errors import UserError


def test_each_class_has_its_share_of_the_targets_images():
  run = run_of("aggregate")
  scores = classes.class_accuracies(run)
  assert list(scores) == list(run.classes)
  source = run.dataset.open(run.target, "test")
  examples = [source[i] for i in range(len(source))]
  labels = np.array([example["label"] for example in examples])
  found = run.predict(np.stack([example["image"] for example in examples])).argmax(1)
  want = [(found[labels == i] == i).mean() for i in range(10)]
  np.testing.assert_allclose(list(scores.values()), want)
  assert len(set(want)) > 1
  with pytest.raises(UserError, match="does not predict by 'defualt'.*did you mean 'default'"):
    classes.class_accuracies(run, "defualt")


def test_accuracy_on_a_source_is_the_mean_over_the_runs_that_trained_on_it(tmp_path, capsys):
  from test_tables import write
  for target, accuracy in (("a", 0.5), ("b", 0.7)):
    write(tmp_path / "joint" / target, "aggregate", target, accuracy=accuracy, domains=("a", "b", "c"), source_test=True)
  write(tmp_path / "oracle" / "c", "aggregate", "a", domains=("a", "c"), source_test=True)
  runs, _ = read_runs(tmp_path / "joint")
  assert sources.source_accuracies(runs) == {"a": 0.5, "b": 0.5, "c": 0.5}
  assert sources.main([f"oracle={tmp_path / 'oracle'}", f"joint={tmp_path / 'joint'}",
                       f"--out={tmp_path / 'bars.png'}"]) == 0
  out = capsys.readouterr().out.splitlines()
  assert out[:2] == ["trained as     c", "oracle      50.0"] and (tmp_path / "bars.pdf").exists()
  write(tmp_path / "untested", "aggregate", "a", domains=("a", "c"))
  for arguments, message in (([f"oracle={tmp_path / 'untested'}"], "has no accuracy on c"),
                             ([str(tmp_path)], "give a name and a folder")):
    assert sources.main(arguments) == 1
    assert message in capsys.readouterr().err
