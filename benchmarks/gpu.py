"""What a machine with one GPU tells: that the numbers are a CPU's, that a resume is bit for bit, and how fast it is.

  python benchmarks/gpu.py [PART ...] [--limit=540] [--images=DIR] [--small]

The parts, in the order in which they are worth knowing:
  device   what JAX sees, and versions
  numbers  an update of some methods on the GPU and on the CPU, from the same state and batch
  resume   a run that is stopped and goes on, beside one that is not, under XLA's deterministic operations
  steps    training steps in bfloat16, and the gradient of max-pooling
  torch    the same steps in PyTorch, channels-last and compiled
  input    images a second from JPEG files through the pipeline: files made here, then those of DIR/DOMAIN/CLASS/*.jpg
  groups   a training step of 1, 5 and 10 runs together

Each part is a process of its own, and each line is printed as it comes. So a failure or the limit costs no other
part's lines. A part may take its share of the limit (seconds), and what the parts before it left of theirs. The status
is 1 if anything failed, was wrong or was cut off. --small has sizes for one core of a CPU, to know that it all works.
"""

import argparse
import functools
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

ROOT = pathlib.Path(__file__).resolve().parents[1]
DETERMINISTIC = "--xla_gpu_exclude_nondeterministic_ops=true --xla_gpu_autotune_level=0"
CLASSES, DOMAINS = 7, 3  # of PACS, one domain being left out
LOSS, PARAMETERS = 1e-5, 1e-3  # how far the GPU may be from the CPU: relatively, absolutely
# What a measurement is called, and the function that makes it: it returns a line, or prints its own.
Rows = Iterator[tuple[str, Callable[[], str | None]]]


class Sizes(NamedTuple):
  """How much is computed.

  Attributes:
    gpu: whether there is one. Each start of a run is then a process of its own, and PyTorch's networks are compiled.
    methods: of `configs/digits.py`, whose updates are compared.
    resumed: what is stopped and goes on -> overrides of `configs/dmg_digits.py`.
    lengths: steps at which a run is evaluated, is stopped, and ends.
    networks: training steps -> the config's name.
    torch: PyTorch's -> the network's name, of `torch_models.py`, or "dmg".
    overrides: of the training steps' configs, as on a command line.
    side, batch: pixels and images of a training step.
    turns, calls: how often steps are timed, and how many follow each other without waiting.
    groups: configs and targets of runs that train together.
    grouping: arguments of `groups.py`.
    input: arguments of `input.py`.
  """

  gpu: bool = True
  methods: tuple[str, ...] = ("aggregate", "dmg", "drt", "rcl", "crossgrad")
  resumed: tuple[tuple[str, tuple[str, ...]], ...] = (
      ("DMG, smallnet", ()), ("DMG, ResNet-18", ("--config.model.name=resnet18", "--config.data.image_size=32")))
  lengths: tuple[int, int, int] = (40, 80, 200)
  networks: tuple[tuple[str, str], ...] = (
      ("ResNet-18", "dmg_pacs:aggregate"), ("ResNet-50", "dmg_pacs:aggregate,resnet50"), ("DMG, ResNet-18", "dmg_pacs"),
      ("DRT, ResNet-101", "drt_pacs"))
  torch: tuple[tuple[str, str], ...] = (("ResNet-18", "resnet18"), ("ResNet-50", "resnet50"), ("DMG, ResNet-18", "dmg"))
  overrides: tuple[str, ...] = ()
  side: int = 224
  batch: int = 64
  turns: int = 9
  calls: int = 10
  groups: tuple[tuple[str, str], ...] = (("digits:dmg", "plain"), ("crossgrad_rotated_mnist:digits", "M0"))
  grouping: tuple[str, ...] = ("--runs", "1", "5", "10", "--steps", "160", "--repeats", "3")
  input: tuple[str, ...] = ("--repeats", "2", "--batches", "4")


SMALL = Sizes(gpu=False, resumed=(("DMG, smallnet", ("--config.batch_size=16",)),), lengths=(2, 4, 8),
              overrides=("--config.model.name=smallnet",), side=32, batch=4, turns=1, calls=2,
              groups=(("digits:dmg", "plain"),), grouping=("--runs", "1", "2", "--steps", "2", "--repeats", "1"),
              input=("--repeats", "1", "--batches", "1", "--images", "64"))


class Wrong(Exception):
  """What was computed is not what it should be."""


def device(sizes: Sizes, images: pathlib.Path | None) -> Rows:
  """The devices and versions. It fails where JAX sees no GPU."""
  def line() -> str:
    import jax

    from dgjax import plan  # noqa: F401 (whether all packages are there)
    from dgjax.data.threads import thread_count
    from dgjax.experiment import versions
    if sizes.gpu and jax.default_backend() != "gpu":
      raise Wrong(f"JAX {jax.__version__} sees {jax.devices()[0].device_kind}: --small is for a CPU")
    used = ", ".join(f"{name} {version}" for name, version in versions().items())
    return f"{jax.devices()[0].device_kind}, {thread_count(0)} cores; {used}"
  yield "JAX", line


def numbers(sizes: Sizes, images: pathlib.Path | None) -> Rows:
  """One update of some methods on the accelerator and on the CPU, in float32."""
  def compare(method: str) -> str:
    import jax
    import numpy as np

    from dgjax import config
    from dgjax.experiment import Experiment
    experiment = Experiment.build(config.load(f"digits:{method}", {"target": "plain", "devices": 1}))
    batch, state = next(experiment.batches().iterator()), experiment.first_state()
    update = experiment.algorithm.phase_at(1).step()
    results = []
    with jax.default_matmul_precision("highest"):
      step = jax.jit(lambda state, batch: update(state, experiment.normalise(batch)))
      for place in (jax.devices()[0], jax.devices("cpu")[0]):
        after, metrics = step(jax.device_put(state, place), jax.device_put(batch, place))
        results.append(jax.device_get((after.params, metrics["loss"])))
    (params, loss), (params_cpu, loss_cpu) = results
    gap = max(jax.tree.leaves(jax.tree.map(lambda a, b: float(np.abs(a - b).max()), params, params_cpu)))
    line = (f"loss {float(loss):.7f}, on the CPU {float(loss_cpu):.7f}; parameters after a step differ by {gap:.1e} at "
            "most")
    if not (abs(loss - loss_cpu) <= LOSS * abs(loss_cpu) and gap <= PARAMETERS):
      raise Wrong(line)
    return line
  for method in sizes.methods:
    yield method, functools.partial(compare, method)


def resume(sizes: Sizes, images: pathlib.Path | None) -> Rows:
  """A run that is stopped and goes on, beside one that is not."""
  every, stop, end = sizes.lengths

  def train(folder: pathlib.Path, steps: int, overrides: tuple[str, ...]) -> list[Any]:
    overrides = ("--config.target=plain", f"--config.steps={steps}", f"--config.eval_every={every}",
                 "--config.data.on_device=always", *overrides)
    if sizes.gpu:
      done = subprocess.run([sys.executable, "-m", "dgjax.main", "--config=dmg_digits", *overrides,
                             f"--workdir={folder}"], cwd=ROOT, capture_output=True, text=True, check=False)
      if done.returncode:
        raise Wrong(f"status {done.returncode} of a run: {done.stderr.strip()[-300:]}")
    else:
      from dgjax import config, plan
      plan.train(config.load("dmg_digits", overrides), folder)
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if not any(key.startswith("time/") for key in line)]

  def compare(overrides: tuple[str, ...]) -> str:
    with tempfile.TemporaryDirectory() as name:
      whole = train(pathlib.Path(name, "whole"), end, overrides)
      train(pathlib.Path(name, "stopped"), stop, overrides)
      resumed = train(pathlib.Path(name, "stopped"), end, overrides)
    if resumed != whole:
      differing = next(a["step"] for a, b in zip(whole, resumed, strict=False) if a != b)
      raise Wrong(f"{stop} steps, then on to {end}, are not {end} in one go: step {differing} is the first to differ")
    return f"{stop} steps, then on to {end}, are {end} in one go, bit for bit"
  for name, overrides in sizes.resumed:
    yield name, functools.partial(compare, overrides)


def timed(step: Callable[[], Any], wait: Callable[[], Any], sizes: Sizes) -> str:
  """How long steps take that follow each other without waiting, after three that warm up."""
  start = time.perf_counter()
  step(), wait()
  first = time.perf_counter() - start
  step(), step(), wait()
  times = []
  for _ in range(sizes.turns):
    start = time.perf_counter()
    for _ in range(sizes.calls):
      step()
    wait()
    times.append((time.perf_counter() - start) / sizes.calls)
  seconds = statistics.median(times)
  return (f"{sizes.side} px, batch {sizes.batch}, bfloat16: {1e3 * seconds:8.2f} ms a step "
          f"({1e3 * min(times):.2f}-{1e3 * max(times):.2f}), {sizes.batch / seconds:7.0f} images/s; the first took "
          f"{first:.0f} s")


def steps(sizes: Sizes, images: pathlib.Path | None) -> Rows:
  """Training steps in bfloat16, from images in bytes; and max-pooling in the form of `dgjax.ops` beside lax's."""
  import alternating
  import jax
  import jax.numpy as jnp
  from flax import linen

  from dgjax import config, ops

  def train(name: str) -> str:
    experiment = alternating.on_noise(config.load(name, [
        f"--config.batch_size={sizes.batch}", f"--config.data.image_size={sizes.side}",
        "--config.model.dtype=bfloat16", *sizes.overrides]), CLASSES, DOMAINS)
    placed = experiment.devices.put(alternating.training_batch(experiment))
    update, state, metrics = experiment.algorithm.phase_at(1).step(), experiment.first_state(), None
    compiled = experiment.devices.compile(lambda state, batch, _: update(state, experiment.normalise(batch)),
                                          updates=True)

    def step() -> None:
      nonlocal state, metrics
      state, metrics = compiled(state, placed, None)
    return timed(step, lambda: jax.block_until_ready((state, metrics)), sizes)

  def pool() -> str:
    x = jnp.ones((sizes.batch, sizes.side // 2, sizes.side // 2, 64), jnp.bfloat16)

    def passes(op: Callable[..., jax.Array]) -> Callable[[], Any]:
      both = jax.jit(jax.value_and_grad(lambda x: op(x, (3, 3), (2, 2), ((1, 1), (1, 1))).astype(jnp.float32).sum()))
      return lambda: jax.block_until_ready([both(x) for _ in range(sizes.calls)])
    ours, theirs, _ = alternating.compare(passes(ops.max_pool), passes(linen.max_pool), sizes.turns, 1)
    return (f"forward and gradient {1e3 * ours / sizes.calls:.3f} ms in our form, {1e3 * theirs / sizes.calls:.3f} ms "
            "in lax's")

  *rows, last = sizes.networks
  for name, spec in rows:
    yield name, functools.partial(train, spec)
  yield "max-pooling 3x3 by 2, 64 channels", pool
  yield last[0], functools.partial(train, last[1])


def torch_steps(sizes: Sizes, images: pathlib.Path | None) -> Rows:
  """Training steps of PyTorch by autocast, in a process without JAX: each has its own cuDNN."""
  try:
    import torch
  except ImportError as error:
    reason = str(error)
    yield "not measured", lambda: f"PyTorch cannot be imported ({reason})"
    return
  place = "cuda" if torch.cuda.is_available() else "cpu"
  if sizes.gpu and place == "cpu":
    yield "not measured", lambda: f"PyTorch {torch.__version__} sees no GPU"
    return
  import torch_models
  torch.backends.cudnn.benchmark = True
  channels_last = {"memory_format": torch.channels_last}

  def train(name: str) -> str:
    dmg = name == "dmg"
    network = torch_models.DMG(CLASSES, DOMAINS) if dmg else torch_models.build(name, CLASSES)
    network = network.to(place, **channels_last).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4, weight_decay=1e-5, fused=place == "cuda")
    inputs = torch.randn(sizes.batch, 3, sizes.side, sizes.side, device=place).contiguous(**channels_last)
    labels, domains = (torch.arange(sizes.batch, device=place) % count for count in (CLASSES, DOMAINS))

    def measure(forward: Callable[..., Any]) -> str:
      def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(place, torch.bfloat16):
          logits, overlap = forward(inputs, domains) if dmg else (forward(inputs), 0.0)
        (torch.nn.functional.cross_entropy(logits.float(), labels) + 0.1 * overlap).backward()
        optimizer.step()
      return timed(step, torch.cuda.synchronize if place == "cuda" else lambda: None, sizes)

    if not sizes.gpu:
      return f"{measure(network)}; not compiled"
    try:
      return measure(torch.compile(network))
    except Exception as error:  # it needs a C compiler, for one
      return f"{measure(network)}; not compiled ({said(error)})"

  yield "version", lambda: f"PyTorch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}, {place}"
  for name, network in sizes.torch:
    yield name, functools.partial(train, network)


def read(sizes: Sizes, images: pathlib.Path | None) -> Rows:
  """Images a second from JPEG files."""
  import input as script
  yield "JPEG files of 227 px", functools.partial(script.main, list(sizes.input))
  if images:
    yield str(images), functools.partial(script.main, [*sizes.input, f"--folder={images}"])


def groups(sizes: Sizes, images: pathlib.Path | None) -> Rows:
  """Runs together."""
  import groups as script
  for name, target in sizes.groups:
    yield name, functools.partial(script.main, [f"--config={name}", f"--target={target}", *sizes.grouping])


class Part(NamedTuple):
  """A part: its measurements, its share of the time, and XLA's flags for it."""

  rows: Callable[[Sizes, pathlib.Path | None], Rows]
  share: int
  flags: str = ""


PARTS = {"device": Part(device, 20), "numbers": Part(numbers, 90), "resume": Part(resume, 100, DETERMINISTIC),
         "steps": Part(steps, 160), "torch": Part(torch_steps, 85), "input": Part(read, 25), "groups": Part(groups, 60)}


def said(error: Exception) -> str:
  """An error in a line."""
  return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def measure(part: str, sizes: Sizes, images: pathlib.Path | None = None) -> bool:
  """Makes a part's measurements, prints a line for each, and returns whether all went well."""
  well, name = True, "start"
  try:
    for name, call in PARTS[part].rows(sizes, images):
      try:
        line = call()
      except Exception as error:
        well, line = False, f"WRONG: {error}" if isinstance(error, Wrong) else f"FAILED: {said(error)}"
      print(f"{part}: {name}: {line or 'see above'}", flush=True)
  except Exception as error:  # of what all measurements need
    well = False
    print(f"{part}: FAILED: {said(error)}", flush=True)
  return well


def run(part: str, arguments: list[str], seconds: float) -> str:
  """Runs a part in a process of its own, and returns what became of it; "done" if all went well."""
  flags = f"{os.environ.get('XLA_FLAGS', '')} {PARTS[part].flags}".strip()
  process = subprocess.Popen([sys.executable, __file__, part, "--here", *arguments], start_new_session=True,
                             env=os.environ | ({"XLA_FLAGS": flags} if flags else {}))
  try:
    status = process.wait(max(seconds, 0))
    return f"ended with {status}" if status else "done"
  except subprocess.TimeoutExpired:
    return "cut off"
  finally:
    if process.poll() is None:
      os.killpg(process.pid, signal.SIGKILL)  # with the processes it started
      process.wait()


def main(argv: list[str] | None = None) -> int:
  """Runs parts one after the other."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; default: all")
  parser.add_argument("--limit", type=float, default=540, help="seconds")
  parser.add_argument("--images", type=pathlib.Path, help="folder of images, as DIR/DOMAIN/CLASS/*.jpg")
  parser.add_argument("--small", action="store_true", help="sizes for a CPU")
  parser.add_argument("--here", action="store_true", help="in this process, without a limit")
  options = parser.parse_args(argv)
  if unknown := set(options.parts) - set(PARTS):
    parser.error(f"no part {', '.join(sorted(unknown))}: choose from {', '.join(PARTS)}")
  chosen = options.parts or list(PARTS)
  if options.here:
    return 0 if all([measure(part, SMALL if options.small else Sizes(), options.images) for part in chosen]) else 1
  signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that a part ends with this process
  arguments = ["--small"] * options.small + ([f"--images={options.images}"] if options.images else [])
  began, shares, well = time.monotonic(), 0, True
  for part in chosen:
    start = time.monotonic()
    shares += PARTS[part].share
    until = began + options.limit * shares / sum(PARTS[name].share for name in chosen)
    outcome = run(part, arguments, until - start)
    print(f"{part}: {outcome} after {time.monotonic() - start:.0f} s", flush=True)
    well &= outcome == "done"
    if part == "device" and not well:
      break
  return 0 if well else 1


if __name__ == "__main__":
  sys.exit(main())
