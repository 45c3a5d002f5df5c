"""Settings that several files of `configs/` share, each a paper's."""

from typing import Any

from ml_collections import ConfigDict


def ramps_over_the_run(c: ConfigDict) -> None:
  """Stretches every ramp to Ganin's schedule over the whole run, as the papers' lengths are for longer runs."""
  for name in ("ramp", "semantic_ramp"):
    if name in c.algorithm:
      c.algorithm[name].update({"slope": 10.0, "length": 0.0})


# What WEMNet's Table 1 and 2 compare -> the keys that a method changes.
WEMNET_METHODS = {
    "wemnet": {"algorithm.norm": True, "algorithm.base": "dann", "algorithm.dim": True, "algorithm.sem": True},
    "wemnet_mstn": {"algorithm.name": "wemnet", "algorithm.norm": True, "algorithm.base": "mstn"},
    "wemnet_dim": {"algorithm.name": "wemnet", "algorithm.norm": True, "algorithm.sem": False},
    "wemnet_sem": {"algorithm.name": "wemnet", "algorithm.norm": True, "algorithm.dim": False},
    "source_only": {"algorithm.name": "aggregate"},
    "dann": {"algorithm.norm": True},
    "mstn": {"algorithm.norm": True},
}


def wemnet_training(c: ConfigDict, *, epochs: int, small: bool) -> None:
  """The training of WEMNet, section 3.2, and of TLL's DANN, whose rates these are, where the paper is silent.

  The paper's: SGD, momentum 0.9, learning rate 0.01, weight decay 1e-3, the epochs. TLL's: Nesterov, the rate times
  (1 + 0.001 step)^-0.75, a tenth of it below the bottleneck of 256 units, 32 source and 32 target images a step, epochs
  of 1,000 steps, evaluated after each. TLL (transfer-learning-library) is a collection of released implementations.

  Args:
    c: the config to change.
    epochs: how many.
    small: whether images of 96 pixels are trained on from scratch instead, for a machine without an accelerator: all
      parameters at one rate, 3,000 steps, and ramps over the whole run (no paper).
  """
  c.model.bottleneck = 256
  c.batch_size = 32
  c.steps = epochs * 1_000
  c.eval_every = 1_000
  c.optimizer.name = "sgd"
  c.optimizer.learning_rate = 0.01
  c.optimizer.momentum = 0.9
  c.optimizer.nesterov = True
  c.optimizer.weight_decay = 1e-3
  c.optimizer.schedule.update({"name": "inverse", "clock": "step", "gamma": 1e-3, "power": 0.75})
  c.optimizer.roles.trunk.rate = 0.1
  if small:
    c.data.image_size = 96
    c.steps, c.eval_every = 3_000, 250
    c.optimizer.roles.trunk.rate = 1.0
    ramps_over_the_run(c)


DRT_CLASSES = 345  # of DomainNet, which the released code of DRT is for


def drt_mcd(classes: int = DRT_CLASSES) -> dict[str, Any]:
  """MCD in one step, as DRT's released code has it; keys of a config.

  The paper states the discrepancy's weight of 50, for DomainNet and for Digit-Five. The discrepancy is a mean over
  classes and at most 2 / classes, so on ten classes a weight weighs 35 times what it does on 345. In runs of some
  hundred steps 50 keeps the heads from learning ten classes well (docs/results.md), and 50 * 10 / 345 does not.

  Args:
    classes: number of classes that the weight is for; other than DomainNet's for short runs from scratch alone.
  """
  return {"algorithm.name": "mcd", "algorithm.form": "one_step",
          "algorithm.discrepancy_weight": 50.0 * classes / DRT_CLASSES, "algorithm.reversal": 4.0,
          "algorithm.balance_weight": 0.01, "algorithm.label_smoothing": 0.01, "algorithm.prediction": "max_logit"}


DRT_HEADS: dict[str, Any] = {"algorithm.hidden": (1000, 1000), "algorithm.hidden_init": "normal_0.01"}
"""Heads of DRT's released code: two hidden layers of 1,000 units, which start from N(0, 0.01^2), as the last."""


def drt_training(c: ConfigDict) -> None:
  """The training of DRT, section 4, and of its released code where the paper is silent.

  SGD, momentum 0.9, weight decay 5e-4, learning rate 1e-3, ten times that for heads and residuals, a tenth after 5 and
  after 10 of 15 epochs; 64 source and 64 target images a step.
  """
  c.epochs = 15
  c.batch_size = 64
  c.optimizer.name = "sgd"
  c.optimizer.learning_rate = 1e-3
  c.optimizer.momentum = 0.9
  c.optimizer.weight_decay = 5e-4
  c.optimizer.schedule.update({"name": "exponential", "clock": "epoch", "period": 5, "decay": 0.1})
  c.optimizer.roles.head.rate = 10.0
  if c.model.dynamic != "none":
    c.optimizer.roles.residuals.rate = 10.0


def drt_self_training(c: ConfigDict) -> None:
  """DRT+ST (DRT, section 4.3): a second run as long as the first, on target images classified above 0.8 too.

  Args:
    c: the config of the first run, to change; its length is in epochs.
  """
  c.algorithm.self_training.update({"rounds": 1, "confidence": 0.8})
  c.epochs *= 2


def crossgrad_training(c: ConfigDict) -> None:
  """The training of CrossGrad, section 4, for images, and of its released code where the paper is silent.

  RMSProp, learning rate 0.02, x0.94 every second epoch, momentum 0.9, epsilon 1, gradients within +-0.1, L2 of 4e-5 on
  kernels; batch 32.
  """
  c.batch_size = 32
  c.optimizer.name = "rmsprop"
  c.optimizer.learning_rate = 0.02
  c.optimizer.decay = 0.9
  c.optimizer.momentum = 0.9
  c.optimizer.epsilon = 1.0
  c.optimizer.clip = 0.1
  c.optimizer.weight_decay = 4e-5
  c.optimizer.decayed = "kernels"
  c.optimizer.schedule.update({"name": "exponential", "clock": "epoch", "period": 2, "decay": 0.94})


CROSSGRAD_METHODS: dict[str, dict[str, Any]] = {
    "crossgrad": {"algorithm.alpha": 0.5, "algorithm.epsilon": 10.0, "algorithm.clip": 0.1,
                  "algorithm.domain_alpha": 0.5, "algorithm.domain_epsilon": 10.0},
    "labelgrad": {"algorithm.alpha": 0.5, "algorithm.epsilon": 10.0, "algorithm.clip": 0.1},
    "dan": {"algorithm.hidden": (256, 128, 128, 128), "algorithm.adversarial_weight": 1.0},
    "aggregate": {},  # ERM
}
"""The rows of CrossGrad's tables: the released code's settings."""

RESIDUALS = {"subspace": {"model.dynamic": "subspace"}, "channel": {"model.dynamic": "channel"},
             "both": {"model.dynamic": "both"}, "static": {"model.dynamic": "none"}}
"""DRT's ablations: which dynamic residual the network's convolutions have."""
