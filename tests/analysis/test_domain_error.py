import numpy as np
import pytest
from helpers import plain_network, run_of, tiny_network

from dgjax.analysis.domain_error import domain_errors
from dgjax.errors import UserError


def test_the_mean_over_all_images_a_domain_was_trained_with():
  run = run_of("wemnet", plain_network(classes=10))
  errors = domain_errors(run, batch_size=300)  # does not divide the split
  assert set(errors) == set(run.dataset.domains)
  for domain in (run.sources[0], run.target):
    source = run.dataset.open(domain, "train")
    images = np.stack([source[i]["image"] for i in range(len(source))])
    expected = run.algorithm.domain_errors(run.state, run.normalise({"image": images})["image"])
    for name in ("with", "without"):
      np.testing.assert_allclose(errors[domain][name], np.mean(expected[name]), rtol=1e-4)
    assert errors[domain]["with"] != errors[domain]["without"]


def test_another_method_has_none():
  with pytest.raises(UserError, match="this run is of aggregate"):
    domain_errors(run_of("aggregate", tiny_network(classes=10)))
