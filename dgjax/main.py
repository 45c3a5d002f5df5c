"""The command: one run, or one per target domain, or one per pair of a source and a target.

  python -m dgjax.main --config=configs/NAME.py[:ARGUMENTS] [--workdir=DIR] [--config.KEY=VALUE ...]
  python -m dgjax.main --list
"""

import logging
import os
import pathlib
import sys
from typing import Any

from dgjax.memory import use_huge_pages
from dgjax.preemption import PREEMPTED, Preempted, StopSignal

if __name__ == "__main__":
  use_huge_pages()  # starts the process anew, so before anything that takes time to import
  StopSignal(ends_process=True).__enter__()

import jax
from absl import app, flags
from absl import logging as absl_logging

from dgjax import algorithms, config, config_files, data, models, parallel, plan
from dgjax.analysis.summary import summary
from dgjax.data import preparation
from dgjax.errors import UserError, nearest, printable
from dgjax.runlog import Formatter

_CONFIG = flags.DEFINE_string("config", None, "NAME[:ARGUMENTS] or FILE.py[:ARGUMENTS]; --config.KEY=VALUE overrides")
_WORKDIR = flags.DEFINE_string("workdir", None, "folder of the run; default: runs/NAME")
_LIST = flags.DEFINE_bool("list", False, "print every algorithm, data set and network known, and exit")


def parse(argv: list[str]) -> list[str]:
  """Parses the command line for absl; overrides of the config are left for `dgjax.config`.

  Returns:
    The program's name, then the overrides.
  """
  overrides, rest, arguments = [], argv[:1], iter(argv[1:])
  for argument in arguments:
    key = argument.lstrip("-")
    if argument.startswith("-") and key.startswith(("config.", "noconfig.")):
      overrides.append(f"--{key}")
      if "=" not in key and not key.startswith("noconfig."):
        overrides[-1] += f"={next(arguments, '')}"
    else:
      rest.append(argument)
  try:
    unknown = flags.FLAGS(rest)[1:]
  except flags.Error as error:
    raise UserError(f"{error}: see --help") from error
  if unknown:
    raise UserError(f"no argument {unknown[0]!r}: settings are --config.KEY=VALUE")
  return [argv[0], *overrides]


def listing() -> str:
  """Every algorithm, data set and network, one per line with its paper."""
  tables: dict[str, Any] = {"algorithm": algorithms.ALGORITHMS, "dataset": data.DATASETS, "network": models.NETWORKS}
  return "\n".join(f"{kind}  {name:<20}  {about}" for kind, table in tables.items()
                   for name, (_, about) in sorted(table.items()))


def log_to_stderr() -> None:
  """Shows what a run says of itself on process 0; other libraries speak under --verbosity=1."""
  if absl_logging.get_verbosity() < absl_logging.DEBUG:
    absl_logging.set_verbosity(absl_logging.ERROR)
  handler = logging.StreamHandler()
  handler.setFormatter(Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
  logger = logging.getLogger("dgjax")
  logger.handlers, logger.propagate = [handler], False
  logger.setLevel(logging.INFO if jax.process_index() == 0 else logging.WARNING)


def main(argv: list[str]) -> None:
  """Runs what the flags say."""
  if _LIST.value:
    print(listing())
    return
  path, overrides = _CONFIG.value, argv[1:]
  if not path:
    raise UserError(f"--config=NAME is missing{nearest('', config_files.names())}")
  settings = config.load(path, overrides)
  parallel.start_processes()
  log_to_stderr()
  cache = os.environ.get("JAX_COMPILATION_CACHE_DIR") or str(preparation.cache_dir(settings.data) / "xla")
  jax.config.update("jax_compilation_cache_dir", cache)

  workdir = pathlib.Path(_WORKDIR.value or pathlib.Path("runs") / config.run_name(path, settings))
  finished = plan.train(settings, workdir, command=plan.command_line(path, overrides))
  if jax.process_index() == 0:
    print(summary(finished))


def console() -> None:
  """Entry point: turns what can go wrong into one line and an exit status."""
  try:
    app.run(main, flags_parser=parse)
  except (Preempted, KeyboardInterrupt):
    sys.exit(PREEMPTED)
  except Exception as error:
    if flags.FLAGS.is_parsed() and absl_logging.get_verbosity() >= 1:
      raise
    if isinstance(error, UserError):
      message = str(error)
    else:
      message = f"{type(error).__name__}: {error} (--verbosity=1 shows where)"
    print("error: " + printable(" ".join(message.split())), file=sys.stderr)
    parallel.leave_others(1)
    sys.exit(1)


if __name__ == "__main__":
  console()
