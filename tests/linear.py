"""A linear softmax classifier: as a network, and written out in NumPy with its gradients."""

import dataclasses
import functools

import numpy as np
from helpers import Flatten, Head, optimizer

from dgjax.models.network import Network

SGD = dataclasses.replace(optimizer(0.1, name="sgd"), momentum=0.0)


def linear(classes):
  return Network((("flatten", Flatten), ("fc", functools.partial(Head, classes))), {}, "flatten")


def softmax(z):
  e = np.exp(z - z.max(1, keepdims=True))
  return e / e.sum(1, keepdims=True)


class Linear:
  """A linear softmax classifier by loops: its loss, and the gradients by kernel, bias and images."""

  def __init__(self, params):
    self.kernel, self.bias = (np.asarray(params["fc"]["Dense_0"][name], np.float64) for name in ("kernel", "bias"))

  def logits(self, x):
    return x.reshape(len(x), -1) @ self.kernel + self.bias

  def loss(self, x, y):
    p = softmax(self.logits(x))
    return -np.mean([np.log(p[i, y[i]]) for i in range(len(x))])

  def grads(self, x, y):
    flat = x.reshape(len(x), -1)
    error = softmax(self.logits(x))
    for i in range(len(x)):
      error[i, y[i]] -= 1
    error /= len(x)
    return flat.T @ error, error.sum(0), (error @ self.kernel.T).reshape(x.shape)
