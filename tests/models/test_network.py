"""Stages, gates and what follows from them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dgjax.errors import UserError
from dgjax.models import resnet, small


@pytest.fixture(scope="module")
def tiny(random_variables):
  """A network, its variables and images."""
  network = small.smallnet(5, widths=(4, 6, 8))
  x = np.random.default_rng(0).normal(size=(3, 16, 16, 3)).astype(np.float32)
  return network, random_variables(network, 16), x


def test_stages_compose_to_the_full_pass(tiny):
  network, variables, x = tiny
  full = network.apply(variables, x)
  assert full.shape == (3, 5) and full.dtype == jnp.float32
  y = x
  for start, stop in zip(network.names, (*network.names[1:], None), strict=True):
    y = network.apply(variables, y, start=start, stop=stop)
  np.testing.assert_array_equal(y, full)


def test_a_gate_multiplies_the_input_of_its_stage(tiny):
  network, variables, x = tiny
  rng = np.random.default_rng(1)
  gates = {"conv3": rng.random((3, 6), np.float32), "fc": rng.integers(0, 2, (3, 8)).astype(np.float32)}
  h = network.apply(variables, x, stop="conv3")
  h = network.apply(variables, h * gates["conv3"][:, None, None], start="conv3", stop="fc")
  want = network.apply(variables, h * gates["fc"], start="fc")
  np.testing.assert_allclose(network.apply(variables, x, gates=gates), want, atol=1e-6)
  # One gate for all examples, and gates of stages outside the pass.
  same = {"fc": gates["fc"][:1]}
  np.testing.assert_allclose(network.apply(variables, x, gates=same)[0],
                             network.apply(variables, x, gates={"fc": gates["fc"]})[0], atol=1e-6)
  trunk = network.apply(variables, x, stop="conv3", gates=gates)
  np.testing.assert_array_equal(trunk, network.apply(variables, x, stop="conv3"))


def test_masks_of_all_domains_share_the_trunk(tiny):
  network, variables, x = tiny
  masks = np.random.default_rng(1).random((2, 6), np.float32)
  trunk = network.apply(variables, x, stop="conv3")
  logits = jax.vmap(lambda mask: network.apply(variables, trunk, start="conv3", gates={"conv3": mask[None]}))(masks)
  for mask, served in zip(masks, logits, strict=True):
    np.testing.assert_allclose(served, network.apply(variables, x, gates={"conv3": mask[None]}), atol=1e-5)


def test_wrong_names_and_shapes_are_told(tiny):
  network, variables, x = tiny
  for faulty in ({"start": "conv4"}, {"stop": "conv4"}, {"gates": {"conv4": jnp.ones((3, 6))}}):
    with pytest.raises(UserError, match=r"no stage 'conv4'.*'conv"):
      network.apply(variables, x, **faulty)
  with pytest.raises(ValueError, match="gate of stage 'conv3': 7 channels, but its input has 6"):
    network.apply(variables, x, gates={"conv3": jnp.ones((3, 7))})


def test_vmap_over_parameters(tiny, random_variables):
  network, _, x = tiny
  alone = [random_variables(network, 16, seed) for seed in range(2)]

  def step(variables):
    def loss(params):
      logits, new = network.apply({**variables, "params": params}, x, train=True, mutable=["batch_stats"])
      return jax.nn.logsumexp(logits, axis=-1).mean(), new
    grads, new = jax.grad(loss, has_aux=True)(variables["params"])
    return grads, new

  together = jax.jit(jax.vmap(step))(jax.tree.map(lambda *leaves: np.stack(leaves), *alone))
  step = jax.jit(step)
  for i, variables in enumerate(alone):
    jax.tree.map(lambda a, b, i=i: np.testing.assert_allclose(a[i], b, atol=1e-5), together, step(variables))


def test_bfloat16_is_near_float32(random_variables):
  x = np.random.default_rng(0).normal(size=(8, 32, 32, 3)).astype(np.float32)
  wide, narrow = (resnet.resnet(resnet.BasicBlock, (1, 1, 1, 1), 5, dtype=dtype)
                  for dtype in (jnp.float32, jnp.bfloat16))
  variables = random_variables(wide, 32)

  def pass_(network):
    logits, new = network.apply(variables, x, train=True, mutable=["batch_stats"])
    return logits, new["batch_stats"]

  logits, stats = jax.jit(pass_, static_argnums=0)(wide)
  near_logits, near_stats = jax.jit(pass_, static_argnums=0)(narrow)
  assert near_logits.dtype == jnp.float32
  np.testing.assert_allclose(near_logits, logits, atol=0.1 * float(logits.std()))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=0.02, rtol=0.05), near_stats, stats)
  assert {leaf.dtype for leaf in jax.tree.leaves(near_stats)} == {jnp.dtype("float32")}
