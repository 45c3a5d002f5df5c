import functools

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import CLASSES, DOMAINS, batch, make, start, stepper, tiny_network, trained
from linear import softmax

from dgjax import config
from dgjax.algorithms import build, masks
from dgjax.algorithms.masks import MaskSettings
from dgjax.errors import UserError


def full_pass(algorithm, state, images, row):
  """Logits under one soft mask: the whole network, nothing shared."""
  gates = {stage: np.tile(value[None], (images.shape[0], 1)) for stage, value in row.items()}
  variables = {"params": state.params["network"], "batch_stats": state.batch_stats["network"]}
  return jax.jit(algorithm.network.apply)(variables, images, gates=gates)


def under_each(algorithm, state, images, masks):
  """Logits under every domain's mask."""
  return np.stack([full_pass(algorithm, state, images, {s: v[d] for s, v in masks.items()}) for d in range(DOMAINS)])


def test_all_masks_on_and_no_penalty_is_aggregate():
  dmg = make("dmg", masks=MaskSettings(init="constant", init_value=40.0), overlap_weight=0.0)
  aggregate = make("aggregate")
  state, plain = start(dmg), start(aggregate)
  plain = plain.replace(params={"network": state.params["network"]})
  for i in range(3):
    state, metrics = jax.jit(dmg.update)(state, batch(i))
    plain, expected = jax.jit(aggregate.update)(plain, batch(i))
    np.testing.assert_allclose(metrics["loss"], expected["loss"], rtol=1e-6)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), state.params["network"],
               plain.params["network"])


@pytest.mark.parametrize("placement,first", [("paper", "stage2"), ("code", "stage1")])
def test_predictions_against_one_full_pass_per_mask(placement, first):
  algorithm = make("dmg", masks=MaskSettings(placement=placement))
  state, b = trained(algorithm), batch(9)
  assert algorithm.stages[0] == first
  probs = masks.probabilities(state.params["masks"])
  each = under_each(algorithm, state, b["image"], probs)
  out = jax.jit(algorithm.outputs)(state, b["image"], b["domain"])
  near = lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6)  # noqa: E731
  for d in range(DOMAINS):
    near(out[f"member/{d}"], each[d])
  near(out["pred_ens"], each.mean(0))
  near(out["known"], each[b["domain"], np.arange(16)])
  near(out["mask_ens"], full_pass(algorithm, state, b["image"], {s: v.mean(0) for s, v in probs.items()}))
  greedy = {s: (v > 0.5).astype(jnp.float32) for s, v in probs.items()}
  each = under_each(algorithm, state, b["image"], greedy)
  near(out["known_greedy"], each[b["domain"], np.arange(16)])
  near(jax.jit(algorithm.predict)(state, b["image"]), out["pred_ens"])


def test_the_trunk_runs_once():
  """Under three masks the stage below the first masked one is convolved once."""
  algorithm = make("dmg")
  state, images = start(algorithm), batch()["image"]
  text = jax.jit(algorithm.predict).lower(state, images).as_text()
  shapes = [line for line in text.splitlines() if "stablehlo.convolution" in line]
  assert len(shapes) == 2
  assert "tensor<16x8x8x3xf32>" in shapes[0] and "tensor<48x4x4x8xf32>" in shapes[1]


def test_loss_is_cross_entropy_plus_weighted_penalties():
  algorithm = make("dmg", overlap_weight=0.7, sparsity_weight=0.01)
  state, b, key = trained(algorithm), batch(3), jax.random.key(5)
  loss, (_, metrics) = jax.jit(algorithm.loss)(state.params, state, b, key)
  overlap = sparsity = 0.0
  for logits in state.params["masks"].values():
    m = 1 / (1 + np.exp(-np.asarray(logits, np.float64)))
    pairs = [((m[i] * m[j]).sum() + 1e-6) / ((m[i] + m[j] - m[i] * m[j]).sum() + 1e-6)
             for i in range(DOMAINS) for j in range(i + 1, DOMAINS)]
    overlap += np.mean(pairs)
    sparsity += m.sum()
  np.testing.assert_allclose(metrics["overlap"], overlap, rtol=1e-5)
  np.testing.assert_allclose(loss, metrics["cross_entropy"] + 0.7 * overlap + 0.01 * sparsity, rtol=1e-5)


def test_the_penalty_makes_masks_overlap_less():
  """The gradient of the penalty alone lowers it: one step of plain descent."""
  algorithm = make("dmg", overlap_weight=1.0)
  state = start(algorithm)

  @jax.jit
  def penalty(mask_logits):
    return algorithm.loss({**state.params, "masks": mask_logits}, state, batch(), jax.random.key(0))[1][1]["overlap"]

  before, grads = jax.jit(jax.value_and_grad(penalty))(state.params["masks"])
  after = penalty(jax.tree.map(lambda p, g: p - 10 * g, state.params["masks"], grads))
  assert after < before


def test_masks_of_domains_absent_from_the_batch_get_only_the_penaltys_gradient():
  algorithm = make("dmg", overlap_weight=0.0)
  state, b = start(algorithm), batch()
  b["domain"] = np.zeros_like(b["domain"])
  grads = jax.jit(jax.grad(lambda p: algorithm.loss(p, state, b, jax.random.key(0))[0]))(state.params)["masks"]
  for value in grads.values():
    assert np.abs(value[0]).max() > 0
    np.testing.assert_array_equal(value[1:], 0)


@pytest.mark.parametrize("name", ["dmg", "aggregate"])
def test_dropout_is_off(name):
  """The masks take its place: DMG's network asks for no key of dropout in training, others' do."""
  c = config.default(algorithm=name, model="alexnet", data="digits")
  network = build(c, classes=CLASSES, domains=DOMAINS, steps_per_epoch=1.0).network
  images = jnp.zeros((2, 96, 96, 3))
  variables = jax.eval_shape(network.init, jax.random.key(0), images)
  run = lambda: jax.eval_shape(functools.partial(network.apply, train=True), variables, images)  # noqa: E731
  if name == "dmg":
    assert run().shape == (2, CLASSES)
  else:
    with pytest.raises(flax.errors.InvalidRngError):
      run()


def test_predictions_weighted_by_a_domain_classifier():
  """It learns the domains from what enters the first mask, and nothing else learns from it."""
  algorithm, plain = make("dmg", domain_classifier=True, prediction="weighted"), make("dmg")
  step, expected = stepper(algorithm), trained(plain, 5)
  state, losses = start(algorithm), []
  for i in range(5):
    state, metrics = step(state, batch(i))
    losses.append(metrics["domain_cross_entropy"])
  learned = state.params.pop("domain_classifier")
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), state.params, expected.params)
  assert losses[-1] < losses[0]

  state, images = state.replace(params={**state.params, "domain_classifier": learned}), batch(9)["image"]
  features = np.asarray(algorithm.evaluate(state, images, stop="stage2")).mean((1, 2))
  p = softmax(features @ np.asarray(learned["kernel"]) + np.asarray(learned["bias"]))
  each = under_each(algorithm, state, images, masks.probabilities(state.params["masks"]))
  weighted = sum(p[:, [d]] * each[d] for d in range(DOMAINS))
  np.testing.assert_allclose(jax.jit(algorithm.predict)(state, images), weighted, atol=1e-5)
  assert np.abs(p - 1 / DOMAINS).max() > 0.01


def test_measures_of_constant_masks():
  algorithm = make("dmg", masks=MaskSettings(init="constant", init_value=1.0))
  report = algorithm.measures(jax.device_get(start(algorithm).params and start(algorithm).replace(key=None)), "abc")
  assert report["iou/mean"] == 1 and report["units/fc/shared"] == 1 and report["units/fc/off"] == 0


def test_unknown_prediction_is_named():
  """Before training: when the first state is made."""
  for mode in ("pred_en", "known"):  # the target's domain is never known
    algorithm = make("dmg", prediction=mode)
    with pytest.raises(UserError, match=rf"algorithm\.prediction is '{mode}'"):
      jax.eval_shape(algorithm.init, jax.random.key(0), batch())
  with pytest.raises(UserError, match=r"algorithm\.prediction is 'pred_en' \(did you mean 'pred_ens'"):
    algorithm, images = make("dmg"), batch()["image"]
    state = jax.eval_shape(algorithm.init, jax.random.key(0), batch())
    jax.eval_shape(functools.partial(algorithm.predict, mode="pred_en"), state, images)


def test_placement_of_the_network():
  assert make("dmg", masks=MaskSettings(placement="code")).stages == tiny_network().masked["code"]
