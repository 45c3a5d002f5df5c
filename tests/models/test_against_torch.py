"""Networks against the same networks in PyTorch: evaluation, and one step of SGD."""

import importlib.util
import pathlib

import jax
import numpy as np
import pytest

from dgjax import models
from dgjax.errors import UserError
from dgjax.models import small, weights

torch = pytest.importorskip("torch", reason="compares with PyTorch: pip install dgjax[torch]")

RATE = 0.02


@pytest.fixture(scope="module")
def reference():
  """The module benchmarks/torch_models.py."""
  path = pathlib.Path(__file__).parents[2] / "benchmarks" / "torch_models.py"
  spec = importlib.util.spec_from_file_location("torch_models", path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def torch_step(network, images, labels):
  """Logits in evaluation, then the state_dict after a step."""
  x = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
  network.eval()
  with torch.no_grad():
    logits = network(x).numpy()
  network.train()
  torch.nn.functional.cross_entropy(network(x), torch.from_numpy(labels)).backward()
  torch.optim.SGD(network.parameters(), RATE).step()
  return logits, {name: value.numpy().copy() for name, value in network.state_dict().items()}


def our_step(network, variables, images, labels):
  """The same of ours, as variables."""
  @jax.jit
  def step(variables):
    def loss(params):
      logits, new = network.apply({**variables, "params": params}, images, train=True, mutable=["batch_stats"])
      return -jax.nn.log_softmax(logits)[np.arange(len(labels)), labels].mean(), new
    grads, new = jax.grad(loss, has_aux=True)(variables["params"])
    params = jax.tree.map(lambda p, g: p - RATE * g, variables["params"], grads)
    return network.apply(variables, images), {"params": params, **new}

  return step(variables)


@pytest.mark.parametrize(("name", "side", "batch"), [("resnet18", 64, 8), ("resnet50", 64, 8), ("alexnet", 96, 4)])
def test_logits_and_one_step(reference, tmp_path, name, side, batch):
  torch.manual_seed(0)
  theirs = reference.build(name, 7, dropout=False)
  reference.randomise_statistics(theirs, seed=0)
  torch.save(theirs.state_dict(), tmp_path / "weights.pth")
  before = {key: value.numpy().copy() for key, value in theirs.state_dict().items()}

  rng = np.random.default_rng(0)
  images, labels = rng.normal(size=(batch, side, side, 3)).astype(np.float32), np.arange(batch) % 7
  network = models.build(models.defaults(name), 7, dropout=False)
  variables = weights.load(str(tmp_path / "weights.pth"),
                           jax.eval_shape(lambda: network.init(jax.random.key(0), images)))
  want_logits, want = torch_step(theirs, images, labels)
  logits, new = our_step(network, variables, images, labels)
  np.testing.assert_allclose(logits, want_logits, atol=1e-4)
  assert want_logits.std() > 1e-2

  weights.save(str(tmp_path / "stepped.safetensors"), new)
  got = weights.read(str(tmp_path / "stepped.safetensors"))
  for key, value in got.items():
    np.testing.assert_allclose(value, want[key], atol=1e-4, err_msg=key)
    # Also against the length of the step, which for some tensors is itself below 1e-4.
    assert np.linalg.norm(value - want[key]) <= 0.02 * np.linalg.norm(want[key] - before[key]), key
  # What we export, PyTorch loads.
  theirs.load_state_dict({key: torch.from_numpy(value) for key, value in got.items()})


def test_checkpoints_of_training_and_of_dataparallel_are_read(tmp_path):
  variables = jax.tree.map(lambda x: np.full(x.shape, 2, x.dtype), jax.eval_shape(
      lambda: small.smallnet(3).init(jax.random.key(0), np.zeros((1, 16, 16, 3), np.float32))))
  state = {f"module.{name}": torch.from_numpy(value) for name, value in weights.to_torchvision(variables).items()}
  path = str(tmp_path / "model_best.pth.tar")
  torch.save({"epoch": 3, "state_dict": state, "optimizer": {"state": {0: {"momentum": torch.ones(2)}}, "groups": [1]},
              "best": 0.5}, path)
  loaded = weights.load(path, jax.tree.map(np.zeros_like, variables))
  jax.tree.map(np.testing.assert_array_equal, loaded, variables)
  torch.save({"module.fc.weight": torch.ones(2).to(torch.float8_e4m3fn)}, path)
  with pytest.raises(UserError, match=r"8 bits are not read: module\.fc\.weight \(torch\.float8_e4m3fn\)"):
    weights.load(path, variables)


def test_pth_files_that_are_no_state_dict(tmp_path):
  variables = jax.eval_shape(
      lambda: small.smallnet(3).init(jax.random.key(0), np.zeros((1, 16, 16, 3), np.float32)))
  path = str(tmp_path / "x.pth")
  for content, message in (({"state_dict": {}, "epoch": 3}, "no tensors, but state_dict, epoch; save module"),
                           ([1], "no tensors, but list"), (pathlib.Path("x"), "does not read it"),
                           ({"fc.weight": torch.ones(2)}, "missing .*misshapen fc.weight")):
    torch.save(content, path)
    with pytest.raises(UserError, match=message) as error:
      weights.load(path, variables)
    assert path in str(error.value) and "\n" not in str(error.value)
  with open(path, "wb") as file:
    file.write(b"nothing")
  with pytest.raises(UserError, match="does not read it"):
    weights.load(path, variables)
