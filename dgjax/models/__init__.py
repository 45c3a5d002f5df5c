"""Backbones as ordered, named stages: a registry, and the settings that build one."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax.numpy as jnp

from dgjax import registry
from dgjax.errors import UserError, nearest
from dgjax.models import alexnet, dynamic, layers, lenet, resnet, small, weights
from dgjax.models.network import Network

__all__ = ["NETWORKS", "Network", "build", "defaults", "dynamic", "weights"]

NETWORKS: dict[str, tuple[Callable[..., Network], str]] = {
    "alexnet": (alexnet.alexnet, "AlexNet, torchvision's layout (Krizhevsky, One weird trick, 2014)"),
    "convnet2": (lenet.convnet2, "two 3x3 convolutions for rotated digits (Motiian et al., ICCV 2017; CrossGrad)"),
    "digitnet": (small.digitnet, "three 5x5 convolutions with BatchNorm, of M3SDA and MCD (DRT's LeNet)"),
    "digitnet_small": (small.digitnet_small, "digitnet at a quarter of its widths (no paper)"),
    "kwsnet": (lenet.kwsnet, "two convolutions for spoken words (Sainath and Parada, Interspeech 2015)"),
    "lenet3": (lenet.lenet3, "LeNet with three pooled 5x5 convolutions (CrossGrad, section 4)"),
    "lenet4": (lenet.lenet4, "LeNet with four, as CrossGrad's released DAN has it"),
    "resnet2": (resnet.resnet2, "ResNet of two basic blocks for small images (our reading of CrossGrad, Table 5)"),
    "mnistnet": (lenet.mnistnet, "two convolutions, three linear layers (Duboudin et al., RCL, 2021, after JiGen)"),
    "resnet18": (resnet.resnet18, "ResNet-18, torchvision's layout (He et al., Deep residual learning, 2016)"),
    "resnet34": (resnet.resnet34, "ResNet-34, torchvision's layout (He et al., Deep residual learning, 2016)"),
    "resnet50": (resnet.resnet50, "ResNet-50, torchvision's layout (He et al., Deep residual learning, 2016)"),
    "resnet101": (resnet.resnet101, "ResNet-101, torchvision's layout (He et al., Deep residual learning, 2016)"),
    "smallnet": (small.smallnet, "three convolutions with BatchNorm for images of 16 to 32 pixels (no paper)"),
}
"""Name -> constructor and one line of description. A constructor takes the number of classes, `dtype`,
`head_init`, `dropout` if it has dropout layers, and `block_conv` if it has convolutions that can be dynamic."""

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def _known(kind: str, name: str, known: Mapping[str, Any]) -> Any:
  if name not in known:
    raise UserError(f"{kind}: unknown {name!r}{nearest(name, known)}")
  return known[name]


def _constructor(name: str) -> Callable[..., Network]:
  """The constructor of a network, by its name in `NETWORKS` or by FILE.py:NAME for one in a file of your own."""
  found = registry.resolve(name, NETWORKS, "network", "config.model.name")
  return found[0] if isinstance(found, tuple) else found


def defaults(name: str) -> dict[str, Any]:
  """The settings of `config.model` for a network.

  Args:
    name: a key of NETWORKS, or FILE.py:NAME for a constructor in a file of your own.

  Returns:
    name: the network.
    head_init: initialisation of the last layer: "uniform" (PyTorch's default), or, with a bias of 0, "normal"
      (N(0, 0.001^2)), "normal_0.01" (N(0, 0.01^2)) or "truncated" (N(0, 0.1^2) within two deviations).
    dtype: type of the computation, "float32" or "bfloat16".
    weights: a file of published weights to start from; "": random weights.
    relu_logits: whether a ReLU follows the last layer, as it does in CrossGrad's released code and not in its paper.
    bottleneck: number of units of a linear layer with BatchNorm and ReLU that is put before the last stage, as stage
      "bottleneck"; 0: none.
    dynamic: the dynamic residual of the network's convolutions: "none", "channel", "subspace" or "both".
    dynamic_k: number of matrices of a subspace residual.
    dynamic_gate: gain of a channel residual: "sigmoid", in (1, 2), or "hard", in [0, 2].
    dynamic_form: how a residual is computed: "mixing", "inputs", "outputs", "kernel", or "auto", the fastest. The
      numbers are the same up to rounding; see `dynamic`.

  Raises:
    UserError: there is no such network.
  """
  _constructor(name)
  return {"name": name, "head_init": "uniform", "dtype": "float32", "weights": "", "relu_logits": False,
          "bottleneck": 0, "dynamic": "none", "dynamic_k": 4, "dynamic_gate": "sigmoid", "dynamic_form": "auto"}


def build(config_model: Mapping[str, Any], num_classes: int, dropout: bool = True) -> Network:
  """Builds the network that `config_model` describes.

  Args:
    config_model: the keys of `defaults`; weights are loaded apart, by `weights.load`.
    num_classes: number of logits.
    dropout: whether dropout layers of the network, if it has any, are on.

  Returns:
    The network.

  Raises:
    UserError: an unknown name, dtype, head_init or kind of dynamic residual, or a network that cannot be dynamic.
  """
  make = _constructor(config_model["name"])
  _known("model.head_init", config_model["head_init"], layers.HEAD_INITS)
  dtype = _known("model.dtype", config_model["dtype"], DTYPES)
  options = {"dtype": dtype, "head_init": config_model["head_init"]}
  accepts = inspect.signature(make).parameters
  if "dropout" in accepts:
    options["dropout"] = dropout
  block_conv = dynamic.constructor(config_model["dynamic"], config_model["dynamic_k"], config_model["dynamic_gate"],
                                   config_model["dynamic_form"])
  if "block_conv" in accepts:
    options["block_conv"] = block_conv
  elif config_model["dynamic"] != "none":
    can = [name for name, (other, _) in NETWORKS.items() if "block_conv" in inspect.signature(other).parameters]
    raise UserError(f"model.dynamic is {config_model['dynamic']!r}, but {config_model['name']} has no dynamic form: "
                    f"set it to 'none', or model.name to one of {', '.join(can)}")
  network = make(num_classes, **options)
  *body, head = network.stages
  if config_model["relu_logits"]:
    head = (head[0], partial(head[1], relu=True))
    network = network.clone(stages=(*body, head))
  if not (width := config_model["bottleneck"]):
    return network
  return network.clone(stages=(*body, ("bottleneck", partial(layers.Bottleneck, width)), head), embedding=head[0],
                       head="bottleneck")
