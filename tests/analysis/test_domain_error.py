import jax
import numpy as np
import pytest
from helpers import make, plain_network, tiny_network

from dgjax import config, data, train
from dgjax.analysis.domain_error import domain_errors
from dgjax.analysis.runs import Run
from dgjax.errors import UserError


def run_of(name, network):
  c = config.default(algorithm=name, model="smallnet", data="digits")
  dataset = data.load(c.data, 0)
  algorithm = make(name, network)
  shapes = train.batch_shapes((16, 16, 3), algorithm.adapts)
  state = algorithm.init(jax.random.key(0), jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes))
  *sources, target = dataset.domains
  return Run(config=c, results={"sources": sources, "target": target}, dataset=dataset, algorithm=algorithm,
             state=state, rule="last", step=0)


def test_the_mean_over_all_images_a_domain_was_trained_with():
  run = run_of("wemnet", plain_network(classes=10))
  errors = domain_errors(run, batch_size=300)  # does not divide the split
  assert set(errors) == set(run.dataset.domains)
  for domain in (run.sources[0], run.target):
    source = run.dataset.open(domain, "train")
    images = np.stack([source[i]["image"] for i in range(len(source))])
    expected = run.algorithm.domain_errors(run.state, run.prepare({"image": images})["image"])
    for name in ("with", "without"):
      np.testing.assert_allclose(errors[domain][name], np.mean(expected[name]), rtol=1e-4)
    assert errors[domain]["with"] != errors[domain]["without"]


def test_another_method_has_none():
  with pytest.raises(UserError, match="this run is of aggregate"):
    domain_errors(run_of("aggregate", tiny_network(classes=10)))
