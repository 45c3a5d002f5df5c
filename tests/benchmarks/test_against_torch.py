"""What the comparisons with PyTorch rest on: both sides are the same network, the same method."""
import re
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dgjax import models, ops
from dgjax.losses.overlap import overlap
from dgjax.ops import native

torch = pytest.importorskip("torch", reason="compares with PyTorch: pip install dgjax[torch]")


def test_the_mnist_network_is_the_same(script):
  theirs = script("torch_models").build("mnistnet", 10).eval()
  ours = models.build({**models.defaults("mnistnet")}, 10)
  images = np.random.default_rng(0).standard_normal((2, 32, 32, 3), np.float32)
  params = jax.jit(ours.init)(jax.random.key(0), images)["params"]
  layers = {"conv1": theirs.features[0], "conv2": theirs.features[3], "fc1": theirs.classifier[0],
            "fc2": theirs.classifier[2], "fc3": theirs.classifier[4]}
  assert set(layers) == set(params)
  for name, layer in layers.items():
    kernel = np.asarray(params[name]["kernel"])
    if name == "fc1":  # flattened with channels last here, first there
      kernel = kernel.reshape(5, 5, 128, -1).transpose(2, 0, 1, 3).reshape(3200, -1)
    layer.weight.data = torch.from_numpy((kernel.T if kernel.ndim == 2 else kernel.transpose(3, 2, 0, 1)).copy())
    layer.bias.data = torch.from_numpy(np.array(params[name]["bias"]))
  with torch.no_grad():
    want = theirs(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()
  np.testing.assert_allclose(jax.jit(ours.apply)({"params": params}, images), want, rtol=1e-4, atol=1e-5)


def test_dmg_is_the_same(script):
  """The overlap; that a gate of zeros takes away all but the bias; that everything gets a gradient."""
  model = script("torch_models").DMG(7, 3).train()
  images, domain = torch.randn(6, 3, 32, 32), torch.arange(6) % 3
  logits, penalty = model(images, domain)
  probs = {stage: jax.nn.sigmoid(jnp.asarray(value.detach().numpy())) for stage, value in model.masks.items()}
  np.testing.assert_allclose(penalty.item(), overlap(probs), rtol=1e-5)
  (logits.square().sum() + penalty).backward()
  assert all(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in model.parameters())
  for value in model.masks.values():
    value.data.fill_(-1e3)
  logits, _ = model(images, domain)
  np.testing.assert_allclose(logits.detach(), np.tile(model.network.fc.bias.detach(), (6, 1)), atol=1e-6)


def test_dmgs_steps_are_compared(script, monkeypatch, capsys):
  benchmark, before = script("ops_step"), ops.backend()
  monkeypatch.setattr("sys.argv", ["ops_step.py", "--dmg", "--image_size=32", "--batch_size=4", "--repeats=1"])
  try:
    benchmark.main()
  finally:
    ops.use(before)
  header, *lines = capsys.readouterr().out.splitlines()
  assert header.startswith("DMG, resnet18, 32 px, batch 4, float32, ")
  assert [line.split()[0] for line in lines] == ["xla", *["native"] * native.available(), "torch"]
  assert all(re.search(r"PyTorch's time over it \d+\.\d\d", line) for line in lines[:-1])


@pytest.mark.skipif(not native.available(), reason="needs dgjax-native")
def test_breakdown_names_what_takes_time(script):
  benchmark = script("breakdown")
  options = types.SimpleNamespace(model="resnet18", image_size=32, batch_size=4, dtype="float32")
  before = ops.backend()
  try:
    ours, theirs = benchmark.jax_times(options), benchmark.torch_times(options)
  finally:
    ops.use(before)
  for times in (ours, theirs):
    assert set(times) <= set(benchmark.KINDS)
    assert all(times[kind] > 0 for kind in ("convolution", "BatchNorm", "ReLU, sum", "pooling", "optimiser"))
    assert times["convolution"] > times["pooling"] and times["rest"] < sum(times.values()) / 2


def test_the_steps_that_a_gpu_is_measured_beside(script, capsys):
  gpu = script("gpu")
  times = r": 32 px, batch 4, bfloat16: +[\d.]+ ms a step \([\d.]+-[\d.]+\), +\d+ images/s; the first took \d+ s"
  assert gpu.measure("torch", gpu.SMALL._replace(torch=(("ResNet-18", "resnet18"), ("DMG", "dmg"))))
  version, *lines = capsys.readouterr().out.splitlines()
  assert version.startswith(f"torch: version: PyTorch {torch.__version__}, ")
  for line, name in zip(lines, ("ResNet-18", "DMG"), strict=True):
    assert re.fullmatch(rf"torch: {name}{times}; not compiled", line)
