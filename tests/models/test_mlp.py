import jax
import jax.numpy as jnp
import numpy as np

from dgjax.models.mlp import MLP


def test_hidden_layers_are_normalised_over_the_batch_against_loops():
  x = np.random.default_rng(0).normal(3.0, 2.0, (6, 4)).astype(np.float32)
  network = MLP((5, 3), 2, norm=True)
  params = network.init(jax.random.key(0), x)["params"]
  params = jax.tree.map(lambda leaf: np.asarray(leaf) + 0.1, params)  # scales and shifts that are not 1 and 0
  h = x.astype(np.float64)
  for i in (1, 2):
    h = h @ params[f"fc{i}"]["kernel"] + params[f"fc{i}"]["bias"]
    for unit in range(h.shape[1]):
      mean, variance = h[:, unit].mean(), h[:, unit].var()
      scaled = (h[:, unit] - mean) / np.sqrt(variance + 1e-5)
      h[:, unit] = np.maximum(scaled * params[f"bn{i}"]["scale"][unit] + params[f"bn{i}"]["bias"][unit], 0)
  expected = h @ params["out"]["kernel"] + params["out"]["bias"]
  np.testing.assert_allclose(network.apply({"params": params}, x), expected, atol=1e-5)


def test_without_normalisation_an_example_does_not_depend_on_the_others():
  x = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
  for norm, alone in ((False, True), (True, False)):
    network = MLP((5,), 2, norm)
    variables = network.init(jax.random.key(0), x)
    assert bool(jnp.allclose(network.apply(variables, x)[:3], network.apply(variables, x[:3]), atol=1e-6)) == alone
