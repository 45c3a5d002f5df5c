"""The methods by name."""

import dataclasses
import inspect
from collections.abc import Sequence
from functools import partial
from typing import Any

from dgjax import models, optimizers, registry
from dgjax.algorithms.adda import ADDA
from dgjax.algorithms.adversarial import DAN, DANN, MSTN
from dgjax.algorithms.aggregate import Aggregate, MultiHeaded
from dgjax.algorithms.base import Algorithm, Batch, TrainState
from dgjax.algorithms.channel_dropout import ChannelDropout
from dgjax.algorithms.crossgrad import CrossGrad, LabelGrad
from dgjax.algorithms.dmg import DMG
from dgjax.algorithms.jigsaw import Jigsaw
from dgjax.algorithms.m3sda import M3SDA
from dgjax.algorithms.mcd import MCD
from dgjax.algorithms.meta import MLDG, MetaReg
from dgjax.algorithms.rcl import RCL
from dgjax.algorithms.reconstruction import Reconstruction
from dgjax.algorithms.rsc import RSC
from dgjax.algorithms.spectral_decoupling import SpectralDecoupling
from dgjax.algorithms.wemnet import WEMNet
from dgjax.models import Network, dynamic

__all__ = ["ALGORITHMS", "Algorithm", "Batch", "TrainState", "adapts", "build", "defaults", "find", "roles",
           "shared_settings"]

# name -> (class, what it is and its paper)
ALGORITHMS: dict[str, tuple[type[Algorithm], str]] = {
    "adda": (ADDA, "adversarial discriminative domain adaptation (Tzeng et al., CVPR 2017)"),
    "aggregate": (Aggregate, "one network on all source domains pooled (ERM; \"source only\" in papers of adaptation; "
                             "DMG, section 4.1)"),
    "channel_dropout": (ChannelDropout, "channels dropped at a random rate, alone or with a penalty on redundant ones "
                                        "(Duboudin et al., RCL, 2021)"),
    "crossgrad": (CrossGrad, "label and domain network, each moved along the other's loss (Shankar et al., ICLR 2018)"),
    "dan": (DAN, "domain-adversarial network over the sources (Ganin et al., JMLR 2016; CrossGrad, section 4)"),
    "dann": (DANN, "adversarial adaptation to an unlabelled target (Ganin et al., JMLR 2016)"),
    "dmg": (DMG, "domain-specific masks (Chattopadhyay et al., ECCV 2020)"),
    "jigsaw": (Jigsaw, "jigsaw puzzles beside the classes (JiGen, Carlucci et al., CVPR 2019), in RCL's form"),
    "labelgrad": (LabelGrad, "moved along its own loss (CrossGrad, section 4; after Goodfellow et al., 2014)"),
    "m3sda": (M3SDA, "moment matching for several sources, M3SDA-beta (Peng et al., ICCV 2019)"),
    "mcd": (MCD, "maximum classifier discrepancy (Saito et al., CVPR 2018), and the one-step form of DRT's code"),
    "metareg": (MetaReg, "weighted L1 regulariser learned by episodes (Balaji et al., NeurIPS 2018)"),
    "mldg": (MLDG, "meta-learning on held-out source domains (Li et al., AAAI 2018)"),
    "mstn": (MSTN, "DANN, and moving centroids of classes drawn together (Xie et al., ICML 2018)"),
    "multi_headed": (MultiHeaded, "one head per source domain (DMG, section 4.1)"),
    "rcl": (RCL, "reverse contrastive loss (Duboudin et al., ICCV Workshops 2021)"),
    "reconstruction": (Reconstruction, "reconstruction of the input (Ghifary et al., ICCV 2015), in RCL's form"),
    "rsc": (RSC, "representation self-challenging (Huang et al., ECCV 2020), in RCL's form and its own"),
    "spectral_decoupling": (SpectralDecoupling, "a penalty on the logits (Pezeshki et al., NeurIPS 2021)"),
    "wemnet": (WEMNet, "masks from the weights of discriminator and classifier (Lee et al., ICASSP 2023)"),
}
# Fields that are not settings of a method.
SHARED = ("network", "domain_network", "optimizer", "domains", "steps", "axis")


def find(name: str) -> type[Algorithm]:
  """The class of a method, by its name in `ALGORITHMS`, or by FILE.py:NAME for a class in a file of your own.

  Raises:
    UserError: there is no such class.
  """
  key = "config.algorithm.name"
  found = registry.resolve(name, ALGORITHMS, "algorithm", key)
  return found[0] if isinstance(found, tuple) else registry.subclass(found, Algorithm, name, key)


def adapts(name: str) -> bool:
  """Whether a method trains on unlabelled images of the target too.

  Raises:
    UserError: the name is not known.
  """
  return find(name).adapts


def defaults(name: str) -> dict[str, Any]:
  """The keys of `config.algorithm` for a method, with their defaults.

  Raises:
    UserError: the name is not known.
  """
  def plain(value):
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value

  fields = [field for field in dataclasses.fields(find(name)) if field.name not in SHARED]
  return {"name": name, **{field.name: plain(field.default) for field in fields}}


def shared_settings(one: str, other: str) -> set[str]:
  """Settings that mean the same in two methods: those of a class that both derive from.

  `prediction` is not among them: each method has ways to predict of its own.

  Raises:
    UserError: a name is not known.
  """
  def declared(name: str) -> set[tuple[str, type]]:
    cls = find(name)
    first = {field: base for base in cls.__mro__ for field in inspect.get_annotations(base)}  # the furthest base's
    return {(field, first[field]) for field in defaults(name) if field in first}

  return {field for field, _ in declared(one) & declared(other)} - {"prediction"}


def roles(config: Any) -> tuple[str, ...]:
  """The roles that a run's parameters have, in the order of `optimizers.ROLES`.

  Args:
    config: sections `algorithm` and `model`.

  Raises:
    UserError: the method is not known.
  """
  found = {"trunk", "head", *find(config.algorithm.name).roles.values()}
  if config.model.dynamic != "none":
    found.add("residuals")
  return tuple(role for role in optimizers.ROLES if role in found)


def _role(cls: type[Algorithm], network: Network, path: Sequence[str]) -> str:
  """The role of the parameter at a path.

  The head is the network's last stage, its bottleneck, and everything that a method trains on features beside these.
  """
  entry, *inside = path
  if dynamic.RESIDUAL in inside:
    return "residuals"
  return network.role(inside[0]) if entry == "network" else cls.roles.get(entry, "head")


def build(config: Any, *, classes: int, domains: int, steps_per_epoch: float, steps: int = 0) -> Algorithm:
  """Builds the method, its network and its optimiser from a run's config.

  Args:
    config: sections `algorithm`, `model` and `optimizer`.
    classes: number of classes.
    domains: number of source domains.
    steps_per_epoch: length of an epoch in steps, for schedules by epoch.
    steps: length of the run in steps, for schedules over all of it; 0: not known.

  Raises:
    UserError: a name or a value is not known.
  """
  cls = find(config.algorithm.name)
  settings = dict(config.algorithm)
  del settings["name"]
  for field in dataclasses.fields(cls):
    if dataclasses.is_dataclass(field.default) and not isinstance(field.default, type):
      settings[field.name] = dataclasses.replace(field.default, **settings[field.name])
  if cls.needs_domain_network:
    settings["domain_network"] = models.build(config.model, domains, dropout=cls.dropout)
  network = models.build(config.model, classes, dropout=cls.dropout)
  optimizer = optimizers.from_config(config.optimizer, steps_per_epoch, partial(_role, cls, network), roles(config))
  return cls(network=network, domains=domains, steps=steps, optimizer=optimizer, **settings)
