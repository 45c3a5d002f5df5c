"""Every method's settings as its paper or its released code has them, and what a search draws them from."""

import dataclasses

import pytest
from helpers import make

from dgjax import algorithms
from dgjax.algorithms import ALGORITHMS
from dgjax.config import flatten
from dgjax.distributions import Choice, LogUniform, Uniform
from dgjax.errors import UserError


def ramp(slope, length, delay=0.0, name="ramp"):
  return {f"{name}.slope": slope, f"{name}.length": length, f"{name}.delay": delay}


PLAIN = {"prediction": "default"}
# CrossGrad's released code: a step of 10 along gradients within 0.1, half of the loss on moved images.
MOVED = PLAIN | {"alpha": 0.5, "epsilon": 10.0, "clip": 0.1, "gradient": "batch"}
# TLL: 2 / (1 + exp(-step / 1000)) - 1; two hidden layers of 1,024 units, a weight of 1.
DANN = PLAIN | ramp(1.0, 1e3) | {"hidden": (1024, 1024), "norm": False, "adversarial_weight": 1.0,
                                 "aligned": "embedding"}
# MSTN's released code: a tenth of the sum of both domains' losses, slope 10 over 10,000 steps, 0.7 of old centroids.
MSTN = DANN | ramp(10.0, 1e4) | ramp(10.0, 1e4, name="semantic_ramp") | {
    "adversarial_weight": 0.2, "semantic_weight": 1.0, "momentum": 0.7, "absent": "keep"}
# MCD's released code for digits: four generator steps; class balance is VisDA's, the rest DRT's, and off.
MCD = {"prediction": "pred_ens", "form": "three_step", "passes": "separate", "head": "", "hidden": (),
       "hidden_init": "uniform", "generator_steps": 4, "generator_momentum": True, "discrepancy_weight": 1.0,
       "reversal": 4.0, "balance_weight": 0.0, "label_smoothing": 0.0, "self_training.rounds": 0,
       "self_training.confidence": 0.8, "self_training.mode": "prob_ens"}
SETTINGS = {
    # ADDA's released code: 500-500, as many steps in each phase, the rate 1e-3 and then 2e-4, beta1 0.5.
    "adda": PLAIN | {"hidden": (500, 500), "norm": False, "features": "embedding", "averaging": "target",
                     "pretrain_share": 0.5, "adaptation_rate": 0.2, "adaptation_beta1": 0.5},
    "aggregate": PLAIN,
    "channel_dropout": PLAIN | {"orthogonality_weight": 0.0, "covariance_weight": 0.0,
                                "covariance_samples": "positions"},
    "crossgrad": MOVED | {"domain_alpha": 0.5, "domain_epsilon": 10.0, "concatenate": False},
    # CrossGrad's released code: the ramp has a slope of 15 and begins after 2,000 of 50,000 steps.
    "dan": PLAIN | {"hidden": (256, 128, 128, 128), "norm": False, "adversarial_weight": 1.0} | ramp(15.0, 5e4, 2e3),
    "dann": DANN,
    # DMG, sections 4.1 and 7.5.
    "dmg": {"prediction": "pred_ens", "overlap_weight": 0.1, "overlap_reduction": "mean", "sparsity_weight": 0.0,
            "domain_classifier": False, "masks.placement": "paper", "masks.init": "uniform", "masks.init_value": 1.0,
            "masks.training": "sample"},
    "jigsaw": PLAIN | {"jigsaw_weight": 10.0},  # RCL, section 5.1
    "labelgrad": MOVED,
    # M3SDA's released code: five orders with weight 0.0005.
    "m3sda": MCD | {"prediction": "prob_ens", "moment_weight": 5e-4, "orders": 5, "raw": False, "official": False},
    "mcd": MCD,
    "metareg": PLAIN | {"task": "", "meta_share": 0.5, "inner_steps": 1, "inner_rate": 0.1, "regulariser_rate": 0.1,
                        "initial": 0.0},
    "mldg": PLAIN | {"inner_rate": 0.5, "meta_weight": 1.0, "first_order": False},  # its released code
    "mstn": MSTN,
    "multi_headed": {"prediction": "pred_ens", "shared_heads": False},
    "rcl": PLAIN | {"contrastive_weight": 1.0, "margin": 0.9, "rescale": "batch", "reduction": "sum",
                    "pooling": "none", "begin": 0.0},
    "reconstruction": PLAIN | {"reconstruction_weight": 1.0},  # RCL, section 5.1
    # The released code's curriculum: 30 % of the examples, 20 more every ten epochs.
    "rsc": PLAIN | {"form": "channel", "share": 0.3, "share_growth": 0.2, "share_epochs": 10.0},
    "spectral_decoupling": PLAIN | {"logit_weight": 5.0, "form": "mean"},  # RCL, section 5.1
    # WEMNet, section 2: both modules on DANN, one linear layer as discriminator, lambda 1.
    "wemnet": MSTN | {"hidden": (), "adversarial_weight": 1.0, "base": "dann", "dim": True, "sem": True,
                      "reversal": "before"} | ramp(1.0, 1e3),
}
GRID = LogUniform(1e-3, 10)  # RCL, section 5.1: weights of all methods
LAMBDA = LogUniform(0.01, 100)  # DomainBed's, of its adversarial weight
# CrossGrad, section 4.
MOVES = {"alpha": Choice((0.1, 0.25, 0.5, 0.75, 0.9)), "epsilon": Choice((5.0, 10.0, 20.0, 25.0))}
SEARCHED = {
    "adda": {"adaptation_rate": LogUniform(0.02, 2)},
    "channel_dropout": {"orthogonality_weight": GRID, "covariance_weight": GRID},
    "crossgrad": MOVES, "labelgrad": MOVES,
    "dan": {"adversarial_weight": LAMBDA}, "dann": {"adversarial_weight": LAMBDA},
    "dmg": {"overlap_weight": LogUniform(1e-5, 1), "sparsity_weight": LogUniform(1e-5, 1)},  # DMG, sections 5 and 7.2
    "jigsaw": {"jigsaw_weight": GRID},
    "m3sda": {"discrepancy_weight": LogUniform(0.1, 100), "moment_weight": LogUniform(5e-5, 5e-3)},
    "mcd": {"discrepancy_weight": LogUniform(0.1, 100)},
    "metareg": {"regulariser_rate": LogUniform(0.01, 1)},
    "mldg": {"meta_weight": LogUniform(0.1, 10)},  # DomainBed's mldg_beta
    "mstn": {"adversarial_weight": LAMBDA, "semantic_weight": LAMBDA},
    "rcl": {"contrastive_weight": GRID, "margin": Uniform(0.2, 0.9)},
    "reconstruction": {"reconstruction_weight": GRID},
    "spectral_decoupling": {"logit_weight": LogUniform(1e-5, 10)},
    "wemnet": {"adversarial_weight": LAMBDA},
}


@pytest.mark.parametrize("name", ALGORITHMS)
def test_settings_of_every_method(name):
  assert flatten(algorithms.defaults(name)) == {"name": name, **SETTINGS[name]}
  assert dict(algorithms.find(name).searched) == SEARCHED.get(name, {})
  assert set(SEARCHED.get(name, {})) <= set(algorithms.find(name).swept) <= set(SETTINGS[name])


@pytest.mark.parametrize("name, key, allowed, refused", [
    ("adda", "pretrain_share", (0.01, 0.99), (0.0, 1.0)), ("m3sda", "orders", (1,), (0,)),
    ("mcd", "generator_steps", (0,), (-1,)), ("metareg", "inner_steps", (1,), (0,)),
    ("metareg", "meta_share", (0.01, 0.99), (0.0, 1.0)), ("mstn", "momentum", (0.0, 0.99), (-0.01, 1.0)),
    ("rcl", "begin", (0.0,), (-0.01,)), ("rcl", "margin", (0.0, float("inf")), (-0.01, float("nan"))),
    ("rsc", "share", (0.0, 1.0), (-0.01, 1.01)), ("rsc", "share_epochs", (0.01,), (0.0,)),
    ("rsc", "share_growth", (0.0,), (-0.01,))])
def test_settings_within_their_bounds(name, key, allowed, refused):
  for value in allowed:
    assert getattr(make(name, **{key: value}), key) == value
  for value in refused:
    with pytest.raises(UserError, match=key):
      make(name, **{key: value})


def test_metareg_needs_two_domains():
  assert dataclasses.replace(make("metareg"), domains=2).domains == 2
  with pytest.raises(UserError, match="at least two source domains"):
    dataclasses.replace(make("metareg"), domains=1)
