import numpy as np
import pytest
from helpers import run_of

from dgjax.analysis import classes
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
