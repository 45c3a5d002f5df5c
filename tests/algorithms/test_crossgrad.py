import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import CLASSES, DOMAINS, Head, batch, make, quick_init, start, trained
from linear import SGD, Flatten, Linear, linear, softmax

from dgjax.errors import UserError
from dgjax.models.network import Network


class Hidden(nn.Module):
  """Four linear units."""

  @nn.compact
  def __call__(self, x, train):
    return nn.Dense(4, kernel_init=quick_init)(x)


def deep(classes):
  return Network((("flatten", Flatten), ("hidden", Hidden), ("fc", functools.partial(Head, classes))), {}, "flatten")


def moved(x, gradient, epsilon, clip, scale=1):
  out = np.array(x, np.float64)
  for i in np.ndindex(x.shape):
    out[i] += epsilon * np.clip(gradient[i] * scale, -clip, clip)
  return out


def descended(before, clean, again, alpha, rate):
  kernel = before.kernel - rate * ((1 - alpha) * clean[0] + alpha * again[0])
  return kernel, before.bias - rate * ((1 - alpha) * clean[1] + alpha * again[1])


@pytest.mark.parametrize("gradient,scale", [("batch", 1), ("example", 16)])
def test_crossgrad_is_algorithm_1(gradient, scale):
  """CrossGrad, Algorithm 1, on linear networks, whose gradients are written out."""
  algorithm = dataclasses.replace(
      make("crossgrad", network=linear(CLASSES), domain_network=linear(DOMAINS), gradient=gradient, alpha=0.3,
           domain_alpha=0.6, epsilon=5.0, domain_epsilon=7.0, clip=0.01), optimizer=SGD)
  state, b = start(algorithm), batch()
  label, domain = Linear(state.params["network"]), Linear(state.params["domain_network"])
  x, y, d = b["image"].astype(np.float64), b["label"], b["domain"]
  x_d = moved(x, domain.grads(x, d)[2], 5.0, 0.01, scale)
  x_l = moved(x, label.grads(x, y)[2], 7.0, 0.01, scale)
  assert np.abs(x_d - x).max() > 0.01 and (np.abs(x_l - x) < 0.07 - 1e-6).any()  # clipped, and not everywhere

  after, metrics = jax.jit(algorithm.update)(state, b)
  for name, before, labels, other, alpha in (("network", label, y, x_d, 0.3), ("domain_network", domain, d, x_l, 0.6)):
    kernel, bias = descended(before, before.grads(x, labels), before.grads(other, labels), alpha, 0.1)
    np.testing.assert_allclose(after.params[name]["fc"]["Dense_0"]["kernel"], kernel, atol=1e-5)
    np.testing.assert_allclose(after.params[name]["fc"]["Dense_0"]["bias"], bias, atol=1e-5)
  expected = 0.7 * label.loss(x, y) + 0.3 * label.loss(x_d, y) + 0.4 * domain.loss(x, d) + 0.6 * domain.loss(x_l, d)
  np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-5)
  for name, net, images, labels in (("cross_entropy", label, x, y), ("moved_cross_entropy", label, x_d, y),
                                    ("domain_cross_entropy", domain, x, d),
                                    ("moved_domain_cross_entropy", domain, x_l, d)):
    np.testing.assert_allclose(metrics[name], net.loss(images, labels), rtol=1e-5)
  np.testing.assert_allclose(metrics["accuracy"], (label.logits(x).argmax(1) == y).mean(), rtol=1e-6)
  np.testing.assert_allclose(metrics["domain_accuracy"], (domain.logits(x).argmax(1) == d).mean(), rtol=1e-6)


def test_labelgrad_against_loops():
  algorithm = dataclasses.replace(make("labelgrad", network=linear(CLASSES), alpha=0.25, epsilon=3.0, clip=0.0),
                                  optimizer=SGD)
  state, b = start(algorithm), batch()
  before, x, y = Linear(state.params["network"]), b["image"].astype(np.float64), b["label"]
  away = x + 3.0 * before.grads(x, y)[2]
  after, metrics = jax.jit(algorithm.update)(state, b)
  kernel, _ = descended(before, before.grads(x, y), before.grads(away, y), 0.25, 0.1)
  np.testing.assert_allclose(after.params["network"]["fc"]["Dense_0"]["kernel"], kernel, atol=1e-5)
  np.testing.assert_allclose(metrics["loss"], 0.75 * before.loss(x, y) + 0.25 * before.loss(away, y), rtol=1e-5)
  assert before.loss(away, y) > before.loss(x, y)  # the move is adversarial


@pytest.mark.parametrize("name", ["crossgrad", "labelgrad"])
def test_without_moved_images_it_is_erm(name):
  algorithm, plain = make(name, alpha=0.0), make("aggregate")
  state, expected = start(algorithm), start(plain)
  network = expected.params["network"]
  state = state.replace(params={**state.params, "network": network})
  for i in range(3):
    state, metrics = jax.jit(algorithm.update)(state, batch(i))
    expected, wanted = jax.jit(plain.update)(expected, batch(i))
    np.testing.assert_allclose(metrics["cross_entropy"], wanted["loss"], rtol=1e-5)
  for got, want in zip(jax.tree.leaves(state.params["network"]), jax.tree.leaves(expected.params["network"]),
                       strict=True):
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_running_statistics_see_both_batches():
  algorithm = make("labelgrad")
  state, b = start(algorithm), batch()
  key, moved_key = jax.random.split(algorithm.step_key(state))
  classify = jax.jit(jax.value_and_grad(algorithm.classify, 1, has_aux=True))
  (_, (once, _)), by_image = classify(
      state.params, b["image"], state, b["label"], key)
  away = algorithm.move(b["image"], by_image, jnp.float32(10), jnp.float32(0.1))
  (_, (twice, _)), _ = classify(state.params, away, state.replace(batch_stats=once), b["label"], moved_key)
  after, _ = jax.jit(algorithm.update)(state, b)
  for got, want in zip(jax.tree.leaves(after.batch_stats), jax.tree.leaves(twice), strict=True):
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_the_label_network_sees_the_domain_embedding():
  algorithm = make("crossgrad", network=deep(CLASSES), domain_network=deep(DOMAINS), concatenate=True)
  state, b = trained(algorithm), batch(7)
  assert state.params["network"]["fc"]["Dense_0"]["kernel"].shape == (4 + 4, CLASSES)
  parts = [algorithm.evaluate(state, b["image"], stop="fc", name=name) for name in ("network", "domain_network")]
  head = state.params["network"]["fc"]["Dense_0"]
  np.testing.assert_allclose(algorithm.predict(state, b["image"]),
                             np.concatenate(parts, 1) @ head["kernel"] + head["bias"][None], atol=1e-5)


@pytest.mark.parametrize("concatenate", [False, True])
def test_statistics_of_both_networks_see_the_clean_and_the_moved_images(concatenate):
  """In turn, and nothing else does: the pass that only makes g of moved images leaves no trace."""
  algorithm = make("crossgrad", concatenate=concatenate)
  state, b = start(algorithm), batch()
  means = {name: 0.0 for name in ("network", "domain_network")}

  def seen(name, images):
    kernel = state.params[name]["stage1"]["Conv_0"]["kernel"]
    maps = jax.lax.conv_general_dilated(images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    means[name] = 0.9 * means[name] + 0.1 * np.asarray(maps, np.float64).mean((0, 1, 2))

  keys = jax.random.split(algorithm.step_key(state), 5)
  (_, (*_, g)), by_domain = jax.jit(jax.value_and_grad(algorithm.domain_loss, 1, has_aux=True))(
      state.params, b["image"], state, b["domain"], keys[0])
  by_label, _ = jax.jit(jax.grad(algorithm.label_loss, 1, has_aux=True))(
      state.params, b["image"], state, b["label"], keys[1], g)
  epsilon, clip = state.hparams["epsilon"], state.hparams["clip"]
  seen("network", b["image"])
  seen("network", algorithm.move(b["image"], by_domain, epsilon, clip))
  seen("domain_network", b["image"])
  seen("domain_network", algorithm.move(b["image"], by_label, epsilon, clip))
  after, _ = jax.jit(algorithm.update)(state, b)
  for name, mean in means.items():
    np.testing.assert_allclose(after.batch_stats[name]["stage1"]["BatchNorm_0"]["mean"], mean, atol=1e-5)


def test_in_training_too_the_label_network_sees_the_domain_embedding():
  """Of the clean images beside the clean ones, of the moved beside the moved."""
  algorithm = dataclasses.replace(make("crossgrad", network=deep(CLASSES), domain_network=deep(DOMAINS),
                                       concatenate=True, alpha=1.0, domain_alpha=0.0), optimizer=SGD)
  state, b = start(algorithm), batch()
  domain = {k: np.asarray(v, np.float64) for k, v in state.params["domain_network"]["hidden"]["Dense_0"].items()}
  by_domain = jax.grad(lambda x: algorithm.domain_loss(state.params, x, state, b["domain"], jax.random.key(0))[0])(
      b["image"])
  away = np.asarray(algorithm.move(b["image"], by_domain, jnp.float32(10), jnp.float32(0.1)), np.float64)
  losses = {}
  own, head = (state.params["network"][stage]["Dense_0"] for stage in ("hidden", "fc"))
  for name, x in (("cross_entropy", b["image"]), ("moved_cross_entropy", away)):
    flat = x.reshape(16, -1)
    both = np.concatenate([flat @ own["kernel"] + own["bias"][None], flat @ domain["kernel"] + domain["bias"]], 1)
    logits = both @ np.asarray(head["kernel"]) + np.asarray(head["bias"])
    losses[name] = -np.mean(np.log(softmax(logits))[np.arange(16), b["label"]])
  after, metrics = jax.jit(algorithm.update)(state, b)
  for name, value in losses.items():
    np.testing.assert_allclose(metrics[name], value, rtol=1e-4)
  moved = after.params["network"]["fc"]["Dense_0"]["kernel"] - head["kernel"]
  assert np.abs(moved[4:]).max() > 1e-3  # the rows of g learn


def test_passes_have_dropout_of_their_own(monkeypatch):
  """No key serves two passes; `g` of moved images is a pass of its own."""
  algorithm = make("crossgrad", network=deep(CLASSES), domain_network=deep(DOMAINS), concatenate=True)
  state, keys = start(algorithm), []
  forward = type(algorithm).forward

  def record(self, params, state, inputs, key, **how):
    keys.append((how.get("name", "network"), how.get("start"), key))
    return forward(self, params, state, inputs, key, **how)

  monkeypatch.setattr(type(algorithm), "forward", record)
  algorithm.update(state, batch())
  begun = [tuple(np.asarray(jax.random.key_data(key)).tolist()) for _, start_stage, key in keys if start_stage is None]
  assert len(begun) == 5 and len(set(begun)) == 5


def test_nothing_passes_through_the_domain_embedding():
  algorithm = make("crossgrad", network=deep(CLASSES), domain_network=deep(DOMAINS), concatenate=True)
  state, b = start(algorithm), batch()
  g = jnp.ones((16, 4))
  by_g = jax.grad(lambda g: algorithm.label_loss(state.params, b["image"], state, b["label"], jax.random.key(0), g)[0])
  assert not by_g(g).any()


def test_pmap_moves_as_the_whole_batch_would():
  """A device's mean loss has fewer examples, whose gradients are larger."""
  algorithm = make("labelgrad", clip=0.0, epsilon=1.0)
  gradient = jnp.arange(8.0).reshape(8, 1, 1, 1)
  move = lambda algorithm, rows: algorithm.move(jnp.zeros((rows, 1, 1, 1)), gradient[:rows], 1.0, 0.0)  # noqa: E731
  np.testing.assert_allclose(move(algorithm, 8).ravel(), np.arange(8))
  mapped = dataclasses.replace(algorithm, axis="data")
  half = jax.vmap(lambda _: move(mapped, 4), axis_name="data")(jnp.arange(2))
  np.testing.assert_allclose(half[0].ravel(), np.arange(4) / 2)


def test_an_unknown_gradient_is_named():
  with pytest.raises(UserError, match=r"algorithm\.gradient is 'exmple' \(did you mean 'example'\?\)"):
    make("labelgrad", gradient="exmple")
