"""Networks, and DMG's training step, in plain PyTorch (ResNets and AlexNet under torchvision's names), to compare with.

Tests compare numbers, benchmarks time.
"""

import itertools

import torch
from torch import nn


class Residual(nn.Module):
  """A block of a ResNet: the convolutions given as (kernel, channels, stride), and a shortcut."""

  def __init__(self, inputs, convolutions):
    super().__init__()
    channels, stride = inputs, 1
    self.depth = len(convolutions)
    for i, (kernel, outputs, step) in enumerate(convolutions, 1):
      self.add_module(f"conv{i}", nn.Conv2d(channels, outputs, kernel, step, kernel // 2, bias=False))
      self.add_module(f"bn{i}", nn.BatchNorm2d(outputs))
      channels, stride = outputs, stride * step
    self.downsample = None
    if stride != 1 or channels != inputs:
      self.downsample = nn.Sequential(
          nn.Conv2d(inputs, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))

  def forward(self, x):
    shortcut = x if self.downsample is None else self.downsample(x)
    for i in range(1, self.depth + 1):
      x = self.get_submodule(f"bn{i}")(self.get_submodule(f"conv{i}")(x))
      x = (x if i < self.depth else x + shortcut).relu()
    return x


class ResNet(nn.Module):
  """A residual network; `bottleneck` says which kind of block."""

  def __init__(self, bottleneck, blocks, num_classes):
    super().__init__()
    self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
    self.bn1 = nn.BatchNorm2d(64)
    inputs = 64
    for i, count in enumerate(blocks):
      width, layer = 64 * 2**i, nn.Sequential()
      for j in range(count):
        stride = 2 if i and not j else 1
        if bottleneck:
          convolutions = [(1, width, 1), (3, width, stride), (1, 4 * width, 1)]
        else:
          convolutions = [(3, width, stride), (3, width, 1)]
        layer.append(Residual(inputs, convolutions))
        inputs = convolutions[-1][1]
      self.add_module(f"layer{i + 1}", layer)
    self.fc = nn.Linear(inputs, num_classes)
    for module in self.modules():
      if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

  def forward(self, x, gates=None):
    """Logits; gates: multiply the inputs of the stages they are named after, (batch, channels) each."""
    def gated(x, stage):
      return x if gates is None else x * gates[stage].reshape(*gates[stage].shape, *(1,) * (x.ndim - 2))

    x = nn.functional.max_pool2d(self.bn1(self.conv1(x)).relu(), 3, 2, 1)
    x = self.layer4(gated(self.layer3(self.layer2(self.layer1(x))), "layer4"))
    return self.fc(gated(x.mean((2, 3)), "fc"))


class AlexNet(nn.Module):
  """AlexNet; `dropout` is the share of inputs its first two linear layers drop in training."""

  def __init__(self, num_classes, dropout=0.5):
    super().__init__()
    self.features = nn.Sequential(
        nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, 1, 2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, 1, 1), nn.ReLU(), nn.Conv2d(384, 256, 3, 1, 1), nn.ReLU(),
        nn.Conv2d(256, 256, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(3, 2))
    self.classifier = nn.Sequential(
        nn.Dropout(dropout), nn.Linear(9216, 4096), nn.ReLU(),
        nn.Dropout(dropout), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, num_classes))

  def forward(self, x):
    x = nn.functional.adaptive_avg_pool2d(self.features(x), 6)
    return self.classifier(x.flatten(1))


class MnistNet(nn.Module):
  """The network of RCL's MNIST experiments, for images of 32 pixels."""

  def __init__(self, num_classes):
    super().__init__()
    self.features = nn.Sequential(nn.Conv2d(3, 64, 5), nn.ReLU(), nn.MaxPool2d(2),
                                  nn.Conv2d(64, 128, 5), nn.ReLU(), nn.MaxPool2d(2))
    self.classifier = nn.Sequential(nn.Linear(3200, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(),
                                    nn.Linear(1024, num_classes))

  def forward(self, x):
    return self.classifier(self.features(x).flatten(1))


class DMG(nn.Module):
  """A ResNet-18 under domain-specific masks on the inputs of layer4 and fc, each example drawing its own."""

  def __init__(self, num_classes, domains):
    super().__init__()
    self.network = build("resnet18", num_classes)
    self.masks = nn.ParameterDict({"layer4": torch.rand(domains, 256), "fc": torch.rand(domains, 512)})

  def forward(self, x, domain):
    """Logits under sampled masks with the straight-through gradient, and the overlap: mean soft IoU of the pairs."""
    overlap, gates = 0.0, {}
    for stage, logits in self.masks.items():
      probs = logits.sigmoid()
      own = probs[domain]
      gates[stage] = torch.bernoulli(own.detach()) + own - own.detach()
      pairs = [(a * b).sum() / (a + b - a * b).sum() for a, b in itertools.combinations(probs, 2)]
      overlap = overlap + torch.stack(pairs).mean()
    return self.network(x, gates), overlap


RESNETS = {"resnet18": (False, (2, 2, 2, 2)), "resnet34": (False, (3, 4, 6, 3)),
           "resnet50": (True, (3, 4, 6, 3)), "resnet101": (True, (3, 4, 23, 3))}


def build(name, num_classes, dropout=True):
  """Builds the network `name`, as `dgjax.models.build` does; KeyError: it is none of these."""
  if name == "mnistnet":
    return MnistNet(num_classes)
  if name == "alexnet":
    return AlexNet(num_classes, 0.5 if dropout else 0.0)
  return ResNet(*RESNETS[name], num_classes)


def randomise_statistics(network, seed):
  """Gives every BatchNorm a scale, bias and running statistics as a trained network might have them.

  Residual branches end in a small scale: with scales around one a random ResNet-50's gradients grow so much from
  layer to layer that one step of PyTorch in float32 and the same in float64 differ by 0.08.
  """
  generator = torch.Generator().manual_seed(seed)
  last = {block.get_submodule(f"bn{block.depth}") for block in network.modules() if isinstance(block, Residual)}
  for module in network.modules():
    if isinstance(module, nn.BatchNorm2d):
      size = module.num_features
      module.weight.data = (0.1 if module in last else 1.0) * (0.5 + torch.rand(size, generator=generator))
      module.bias.data = 0.2 * torch.randn(size, generator=generator)
      module.running_mean = 0.2 * torch.randn(size, generator=generator)
      module.running_var = 0.5 + torch.rand(size, generator=generator)
