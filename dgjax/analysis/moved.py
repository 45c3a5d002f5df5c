"""The perturbed images that CrossGrad and LabelGrad train on: images moved along a loss's gradient."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dgjax.algorithms.crossgrad import CrossGrad, InputGradient
from dgjax.errors import UserError
from dgjax.losses.classification import cross_entropy
from dgjax.runs import Run


def move(run: Run, images: np.ndarray, labels: np.ndarray, domains: np.ndarray) -> np.ndarray:
  """Moves images along the domain loss (LabelGrad: the label loss), as training does, but in evaluation mode.

  Dropout is off and BatchNorm uses its running statistics, so an image's move does not depend on other images. The
  gradient is that of the mean loss over as many images as a training batch has.

  Args:
    run: of CrossGrad or LabelGrad, whose domains are not groups.
    images: (n, h, w, c) float32, normalised.
    labels: (n,) int, classes.
    domains: (n,) int, indices of `run.sources`.

  Returns:
    (n, h, w, c) float32.

  Raises:
    UserError: the run is of another method.

  Source: CrossGrad, Algorithm 1, line 5.
  """
  algorithm, size = run.algorithm, run.config.batch_size
  if not isinstance(algorithm, InputGradient):
    raise UserError(f"only CrossGrad and LabelGrad move images, and this run is of {run.config.algorithm.name}")
  by_domain = isinstance(algorithm, CrossGrad)

  @jax.jit
  def moved(state: Any, x: jax.Array, wanted: jax.Array) -> jax.Array:
    def loss(x: jax.Array) -> jax.Array:
      logits = algorithm.evaluate(state, x, name="domain_network" if by_domain else "network")
      return (cross_entropy(logits, wanted) * len(x)) / size  # an example's share is that in a batch of training
    return algorithm.move(x, jax.grad(loss)(x), state.hparams["epsilon"], state.hparams["clip"])

  wanted = domains if by_domain else labels
  parts = [moved(run.state, jnp.asarray(images[i:i + size]), jnp.asarray(wanted[i:i + size]))
           for i in range(0, len(images), size)]
  return np.concatenate(jax.device_get(parts))
