"""A whole training step of a network: XLA, oneDNN inside jit, and PyTorch channels-last, in turns.

  python benchmarks/ops_step.py [--model=resnet18] [--image_size=96] [--batch_size=64] [--dtype=bfloat16] [--dmg]

The step is the forward pass in training mode, cross-entropy, its gradient, and SGD with momentum; the state is donated.
Under --dmg it is DMG's, as configs/dmg_pacs.py has it, of the training loop: from bytes to Adam's update. PyTorch runs
eagerly, channels-last, in bfloat16 under autocast; all three have huge pages (GLIBC_TUNABLES=glibc.malloc.hugetlb=0
shows the steps without).
"""

import argparse
import contextlib
import os
import resource
import statistics
import time

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # whichever library loads OpenMP first, all wait alike

import alternating
import jax
import jax.numpy as jnp
import numpy as np
import optax

from dgjax import config, models, ops
from dgjax.memory import keep_freed_memory, use_huge_pages
from dgjax.ops import native

CLASSES, DOMAINS = 7, 3  # of PACS, one domain being left out


def arrays(options):
  random = np.random.default_rng(0)
  size = options.image_size
  return (random.standard_normal((options.batch_size, size, size, 3)).astype(np.float32),
          random.integers(0, CLASSES, options.batch_size).astype(np.int32))


def jax_step(options, backend):
  """A function that makes one step and waits for it, compiled with `backend`; its text in HLO is `call.program()`."""
  ops.use(backend)
  network = models.build({**models.defaults(options.model), "dtype": options.dtype}, CLASSES, dropout=False)
  images, labels = map(jnp.asarray, arrays(options))
  optimizer = optax.sgd(1e-3, momentum=0.9)

  def init():
    variables = network.init(jax.random.key(0), images[:2])
    params = variables["params"]
    return params, variables.get("batch_stats", {}), optimizer.init(params)

  def step(state, images, labels):
    params, stats, opt_state = state

    def loss(params):
      logits, new = network.apply({"params": params, "batch_stats": stats}, images, train=True, mutable=["batch_stats"])
      return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), new.get("batch_stats", {})
    (value, stats), gradient = jax.value_and_grad(loss, has_aux=True)(params)
    updates, opt_state = optimizer.update(gradient, opt_state, params)
    return (optax.apply_updates(params, updates), stats, opt_state), value

  state = jax.jit(init)()
  run = jax.jit(step, donate_argnums=0).lower(state, images, labels).compile()

  def call():
    nonlocal state
    state, value = run(state, images, labels)
    jax.block_until_ready((state, value))
  call.program = run.as_text
  return call


def jax_dmg_step(options, backend):
  """The same of DMG."""
  ops.use(backend)
  c = config.load("dmg_pacs")
  c.batch_size, c.data.image_size, c.model.dtype = options.batch_size, options.image_size, options.dtype
  return alternating.calls(c, CLASSES, DOMAINS)[0]


def torch_step(options):
  """The same in PyTorch."""
  import torch
  import torch_models
  network = torch_models.build(options.model, CLASSES, dropout=False).to(memory_format=torch.channels_last).train()
  optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)
  images, labels = map(torch.from_numpy, arrays(options))
  images, labels = images.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last), labels.long()

  def call():
    optimizer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=options.dtype == "bfloat16"):
      logits = network(images)
    torch.nn.functional.cross_entropy(logits.float(), labels).backward()
    optimizer.step()
  return call


def torch_dmg_step(options):
  """DMG's in PyTorch."""
  import torch
  import torch_models
  model = torch_models.DMG(CLASSES, DOMAINS).to(memory_format=torch.channels_last).train()
  optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, weight_decay=1e-5)
  batch = alternating.images(options.batch_size, options.image_size, CLASSES, DOMAINS)
  images, labels, domains = (torch.from_numpy(batch[key]) for key in ("image", "label", "domain"))
  labels, domains = labels.long(), domains.long()

  def call():
    optimizer.zero_grad()
    scaled = ((images / 255 - 0.5) / 0.25).permute(0, 3, 1, 2)  # lies channels-last
    with torch.autocast("cpu", torch.bfloat16, enabled=options.dtype == "bfloat16"):
      logits, overlap = model(scaled, domains)
    (torch.nn.functional.cross_entropy(logits.float(), labels) + 0.1 * overlap).backward()
    optimizer.step()
  return call


def costs():
  """Seconds by the clock, of all cores' time and of the system's part of it, and page faults, so far."""
  used = resource.getrusage(resource.RUSAGE_SELF)
  return time.perf_counter(), used.ru_utime + used.ru_stime, used.ru_stime, used.ru_minflt


def steps(options):
  """The step of each implementation that is installed."""
  ours, pytorchs = (jax_dmg_step, torch_dmg_step) if options.dmg else (jax_step, torch_step)
  made = {"xla": ours(options, "xla")}
  if native.available():
    made["native"] = ours(options, "native")
  with contextlib.suppress(ImportError, KeyError):  # no PyTorch, or a network that is ours alone
    made["torch"] = pytorchs(options)
  return made


def in_turns(steps, repeats):
  """What each step costs in each turn, as `costs` counts it."""
  found = {name: [] for name in steps}
  for turn in range(repeats + 2):
    for name, call in steps.items():
      before = costs()
      call()
      if turn >= 2:  # the first turns warm up
        found[name].append([after - start for start, after in zip(before, costs(), strict=True)])
  return found


def medians(values):
  """Of each cost over the turns."""
  return [statistics.median(each) for each in zip(*values, strict=True)]


def main():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--model", default="resnet18", choices=sorted(models.NETWORKS))
  parser.add_argument("--image_size", type=int, default=96)
  parser.add_argument("--batch_size", type=int, default=64)
  parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
  parser.add_argument("--repeats", type=int, default=9)
  parser.add_argument("--dmg", action="store_true", help="DMG's step, of a ResNet-18")
  options = parser.parse_args()
  if options.dmg and options.model != "resnet18":
    parser.error(f"--dmg is of a resnet18, not of {options.model}")
  times = in_turns(steps(options), options.repeats)
  print(f"{'DMG, ' * options.dmg}{options.model}, {options.image_size} px, batch {options.batch_size}, "
        f"{options.dtype}, {native.reason() or native.describe()}; medians of {options.repeats} turns")
  for name, values in times.items():
    wall, cpu, system, faults = medians(values)
    line = (f"{name:8}{1e3 * wall:10.1f} ms{options.batch_size / wall:10.1f} examples/s   CPU {1e3 * cpu:8.1f} ms "
            f"(system {1e3 * system:.0f}), {faults:.0f} page faults")
    if "torch" in times and name != "torch":
      ratios = [(t[0] / v[0], t[1] / v[1]) for t, v in zip(times["torch"], values, strict=True)]
      line += "   PyTorch's time over it {:.2f} (CPU {:.2f})".format(*medians(ratios))
    print(line)


if __name__ == "__main__":
  use_huge_pages(__file__)
  keep_freed_memory()  # PyTorch's, too
  main()
