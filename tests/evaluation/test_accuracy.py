"""Counting over padded batches, class by class, against a loop."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dgjax.evaluation.accuracy import accuracy, class_accuracy
from dgjax.evaluation.evaluator import count

CLASSES = 4


@pytest.fixture(scope="module")
def counter():
  """Of a method whose logits are its images, or these turned by one class."""
  method = types.SimpleNamespace(
    outputs=lambda state, images, domain: {"plain": images, "turned": jnp.roll(images, 1, axis=-1)}, prediction="plain")
  one = jax.jit(lambda batch: count(method, None, batch, known=False))
  return lambda parts: jax.tree.map(lambda *counts: sum(map(np.asarray, counts)), *map(one, parts))


def batches(labels, guesses, size=8):
  for start in range(0, len(labels), size):
    part = slice(start, start + size)
    count = len(labels[part])
    image, label = np.zeros((size, CLASSES), np.float32), np.zeros(size, np.int32)
    image[np.arange(count), guesses[part]] = 1
    label[:count] = labels[part]
    yield {"image": image, "label": label, "domain": np.zeros(size, np.int32), "mask": np.arange(size) < count}


def loop(labels, guesses):
  rates = []
  for name in range(CLASSES):
    members = [guess == label for guess, label in zip(guesses, labels, strict=True) if label == name]
    if members:
      rates.append(sum(members) / len(members))
  right = sum(guess == label for guess, label in zip(guesses, labels, strict=True))
  return right / len(labels), sum(rates) / len(rates)


@pytest.mark.parametrize("present", [CLASSES, CLASSES - 1])
def test_against_a_loop(counter, present):
  rng = np.random.default_rng(present)
  labels = rng.choice(present, 37, p=np.array([0.7, *[0.3 / (present - 1)] * (present - 1)]))
  guesses = np.where(rng.random(37) < 0.6, labels, rng.integers(0, CLASSES, 37))
  counts = counter(batches(labels, guesses))
  assert counts[""].tolist() == np.bincount(labels, minlength=CLASSES).tolist()
  for mode, shift in (("plain", 0), ("turned", 1)):
    overall, by_class = loop(labels, (guesses + shift) % CLASSES)
    assert accuracy(counts)[mode] == pytest.approx(overall)
    assert class_accuracy(counts)[mode] == pytest.approx(by_class)
  assert overall != by_class
