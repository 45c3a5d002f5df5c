"""What a machine with one GPU tells: the same numbers as a CPU's, a resume that is bit for bit, and speed.

  python benchmarks/gpu.py [--parts numbers resume steps groups input] [--small]

Each part is a process of its own, so that a failure costs that part alone; each line is printed as it comes. --small
runs everything at sizes for a CPU, to know that it works. `benchmarks/gpu.sh` runs it with a limit of time.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

PARTS = ("numbers", "resume", "groups", "steps", "input")
ROOT = pathlib.Path(__file__).resolve().parents[1]


def numbers(small: bool) -> None:
  """One update of some methods on the accelerator and on the CPU, from the same state and batch."""
  import jax
  import numpy as np

  from dgjax import config
  from dgjax.experiment import Experiment
  jax.config.update("jax_default_matmul_precision", "highest")
  cpu = jax.devices("cpu")[0]
  for name, target in (("digits:aggregate", "plain"), ("digits:dmg", "plain"), ("digits:crossgrad", "plain"),
                       ("digits:drt", "plain"), ("digits:rcl", "plain")):
    experiment = Experiment.build(config.load(name, [f"--config.target={target}", "--config.devices=1"]))
    batch = next(experiment.batches().iterator())
    update = experiment.algorithm.phase_at(1).step()
    step = jax.jit(lambda state, batch, update=update, experiment=experiment: update(
        state, experiment.normalise(batch)))
    state = experiment.first_state()
    results = []
    for device in (jax.devices()[0], cpu):
      after, metrics = step(jax.device_put(state, device), jax.device_put(batch, device))
      results.append(jax.device_get((after.params, metrics["loss"])))
    (params, loss), (params_cpu, loss_cpu) = results
    gap = max(jax.tree.leaves(jax.tree.map(lambda a, b: float(np.abs(a - b).max()), params, params_cpu)))
    print(f"numbers: {name:<18} loss {float(loss):.7f}, on the CPU {float(loss_cpu):.7f}; parameters after a step "
          f"differ by {gap:.1e} at most", flush=True)


def resume(small: bool) -> None:
  """A run that is stopped and goes on, beside one that is not, under XLA's deterministic operations."""
  flags = "--xla_gpu_exclude_nondeterministic_ops=true --xla_gpu_autotune_level=0"
  environment = os.environ | ({"XLA_FLAGS": flags} if not small else {})
  with tempfile.TemporaryDirectory() as folder:
    def run(name: str, steps: int) -> list[Any]:
      subprocess.run([sys.executable, "-m", "dgjax.main", "--config=dmg_digits", "--config.target=plain",
                      f"--config.steps={steps}", "--config.eval_every=40", "--config.data.on_device=always",
                      f"--workdir={folder}/{name}"], cwd=ROOT, env=environment, check=True, capture_output=True)
      lines = map(json.loads, pathlib.Path(folder, name, "metrics.jsonl").read_text().splitlines())
      return [line for line in lines if not any(key.startswith("time/") for key in line)]

    whole = run("whole", 200)
    run("stopped", 80)
    same = run("stopped", 200) == whole
    print(f"resume: 80 steps, then on to 200, equal 200 in one go bit for bit: {same}", flush=True)


def groups(small: bool) -> None:
  """Runs together."""
  runs = ["1", "2"] if small else ["1", "5", "10"]
  for name, target in (("digits:dmg", "plain"), ("crossgrad_rotated_mnist:digits", "M0"))[:1 if small else 2]:
    subprocess.run([sys.executable, str(ROOT / "benchmarks" / "groups.py"), f"--config={name}", f"--target={target}",
                    "--runs", *runs, "--steps", "8" if small else "160"], check=False)


def steps(small: bool) -> None:
  """Training steps in bfloat16 beside compiled channels-last PyTorch."""
  import jax
  import numpy as np
  import torch
  import torch_models

  from dgjax import config
  from dgjax.data import Dataset
  from dgjax.experiment import Experiment
  size, batch, repeats = (32, 8, 2) if small else (224, 64, 30)
  device = "cuda" if torch.cuda.is_available() else "cpu"

  def ours(name: str) -> Callable[[], Any]:
    c = config.load(name, [f"--config.batch_size={batch}", "--config.target=d", "--config.model.dtype=bfloat16",
                           f"--config.data.image_size={size}", "--config.devices=1"])
    dataset = Dataset(name="noise", domains=tuple("abcd"), classes=tuple("0123456"), source_test=True,
                      splits={name: {"train": 1000, "val": 1, "test": 1} for name in "abcd"}, mean=(0.5,) * 3,
                      std=(0.25,) * 3, channels=3, opener=None)
    experiment = Experiment.build(c, dataset)
    rng = np.random.default_rng(0)
    noise = {"image": rng.integers(0, 256, (batch, size, size, 3), np.uint8),
             "label": rng.integers(0, 7, batch, np.int32), "domain": rng.integers(0, 3, batch, np.int32)}
    noise = {"source": noise, "target": {"image": noise["image"]}} if experiment.algorithm.adapts else noise
    placed = experiment.devices.put(noise)
    update = experiment.algorithm.phase_at(1).step()
    step = experiment.devices.compile(lambda state, batch, _: update(state, experiment.normalise(batch)), updates=True)
    state = experiment.first_state()

    def call() -> None:
      nonlocal state
      state, metrics = step(state, placed, None)
      jax.block_until_ready((state, metrics))
    return call

  def torchs(name: str) -> Callable[[], Any]:
    network = torch_models.build(name, 7, dropout=False).to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4, fused=device == "cuda")
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.normal(size=(batch, 3, size, size)).astype(np.float32)).to(
        device, memory_format=torch.channels_last)
    labels = torch.from_numpy(rng.integers(0, 7, batch)).to(device)

    def train() -> Any:
      with torch.autocast(device, torch.bfloat16):
        logits = network(images)
      loss = torch.nn.functional.cross_entropy(logits.float(), labels)
      loss.backward()
      return loss

    compiled = train if small else torch.compile(train)

    def call() -> None:
      optimizer.zero_grad()
      compiled()
      optimizer.step()
      if device == "cuda":
        torch.cuda.synchronize()
    return call

  def seconds(call: Callable[[], Any]) -> float:
    call()
    call()
    times = []
    for _ in range(repeats):
      start = time.perf_counter()
      call()
      times.append(time.perf_counter() - start)
    return statistics.median(times)

  for name, call in (("ResNet-18", lambda: ours("dmg_pacs:aggregate")), ("DMG, ResNet-18", lambda: ours("dmg_pacs")),
                     ("ResNet-18, PyTorch", lambda: torchs("resnet18")),
                     ("ResNet-50", lambda: ours("dmg_pacs:aggregate,resnet50")),
                     ("ResNet-50, PyTorch", lambda: torchs("resnet50")),
                     ("DRT, ResNet-101", lambda: ours("drt_pacs")))[:3 if small else 6]:
    try:
      taken = seconds(call())
      print(f"steps: {name:<20} {size} px, batch {batch}, bfloat16: {1e3 * taken:8.2f} ms "
            f"{batch / taken:9.0f} images/s", flush=True)
    except Exception as error:
      print(f"steps: {name}: {type(error).__name__}: {' '.join(str(error).split())[:300]}", flush=True)


def input(small: bool) -> None:
  """Images a second from real files through the whole pipeline, all cores."""
  script = ROOT / "benchmarks" / "input.py"
  subprocess.run([sys.executable, str(script), *(["--batches", "2", "--repeats", "1"] if small else [])], check=False)


def main() -> None:
  """Runs parts, each in a process of its own."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS)
  parser.add_argument("--small", action="store_true")
  parser.add_argument("--one", action="store_true", help="of the one part, in this process")
  flags = parser.parse_args()
  if flags.one:
    globals()[flags.parts[0]](flags.small)
    return
  for part in flags.parts:
    start = time.perf_counter()
    ended = subprocess.run([sys.executable, __file__, "--parts", part, "--one", *(["--small"] if flags.small else [])],
                           check=False)
    print(f"{part}: {'done' if not ended.returncode else f'ended with {ended.returncode}'} after "
          f"{time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
  main()
