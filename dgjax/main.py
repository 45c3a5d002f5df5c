"""The command: one run, or one per target domain, or one per pair of a source and a target.

  python -m dgjax.main --config=configs/NAME.py[:ARGUMENTS] [--workdir=DIR] [--config.KEY=VALUE ...]
  python -m dgjax.main --list
  python -m dgjax.main --help, or --config=NAME --help for the settings of a config

`dgjax train` takes the same arguments.
"""

import logging
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from dgjax import console
from dgjax.memory import keep_freed_memory, use_huge_pages
from dgjax.preemption import PREEMPTED, Preempted, StopSignal

if __name__ == "__main__":
  console.tell_early()
  use_huge_pages()  # starts the process anew, so before anything that takes time to import
  StopSignal(ends_process=True).__enter__()

import jax
from absl import app, flags
from ml_collections import ConfigDict

from dgjax import algorithms, config, config_files, config_help, data, models, parallel
from dgjax.data import preparation
from dgjax.errors import UserError, nearest

_CONFIG = flags.DEFINE_string("config", None, "NAME[:ARGUMENTS] or FILE.py[:ARGUMENTS]; --config.KEY=VALUE overrides")
_WORKDIR = flags.DEFINE_string("workdir", None, "folder of the run; default: runs/NAME")
_FROM_STEP = flags.DEFINE_integer("from_step", None, "go on from the checkpoint of this step, with other numbers of "
                                  "config.optimizer and config.algorithm than before")
_LIST = flags.DEFINE_bool("list", False, "print every algorithm, data set and network known, and exit")

HELP = ("--help", "-help", "-h")


def parse(argv: list[str]) -> list[str]:
  """Parses the command line for absl. Overrides of the config are left for `dgjax.config`.

  Returns:
    The program's name, then the overrides.

  Raises:
    UserError: an argument is not known.
    SystemExit: help was asked for, and is printed.
  """
  overrides, others = config.split_arguments(argv[1:])
  asked = [argument for argument in others if argument not in HELP]
  try:
    unknown = flags.FLAGS([argv[0], *asked])[1:]
  except flags.Error as error:
    raise UserError(f"{error}: see --help") from error
  if unknown:
    raise UserError(f"no argument {unknown[0]!r}: settings are --config.KEY=VALUE")
  if len(asked) < len(others):
    print(usage(_CONFIG.value, overrides))
    raise SystemExit(0)
  return [argv[0], *overrides]


def listing() -> str:
  """Every algorithm, data set and network, one per line with its paper."""
  tables: dict[str, Any] = {"algorithm": algorithms.ALGORITHMS, "dataset": data.DATASETS, "network": models.NETWORKS}
  return "\n".join(f"{kind}  {name:<20}  {about}" for kind, table in tables.items()
                   for name, (_, about) in sorted(table.items()))


def usage(path: str | None, overrides: Sequence[str]) -> str:
  """What `--help` prints: the flags, and the settings there are.

  Args:
    path: the config whose settings are listed. None: that of the quick start, `dmg_digits`.
    overrides: `--config.KEY=VALUE` arguments. Another method, network or data set has other settings.
  """
  shown = path or "dmg_digits"
  lines = [f"  --{name:<10} {flags.FLAGS[name].help}" for name in ("config", "workdir", "from_step", "list")]
  return "\n".join([
      "Train a config: one run, or one for each target domain.", "",
      "  dgjax train --config=NAME[:ARGUMENTS] [--workdir=DIR] [--config.KEY=VALUE ...]", "", *lines,
      "  --verbosity  1 shows what other libraries log, and where an error came from",
      "  --help       print this and the settings of --config, and exit", "",
      f"NAME is one of {', '.join(config_files.names())}; `dgjax list` tells their arguments.", "",
      f"Settings with their values in {shown} (--config=NAME --help: those of NAME):", "",
      config_help.settings(config.load(shown, overrides))])


def set_up(settings: ConfigDict) -> None:
  """Sets up a command that trains: its processes and memory, the log, and where compiled programs are kept."""
  parallel.start_processes()
  keep_freed_memory()
  console.show(logging.INFO if jax.process_index() == 0 else logging.WARNING)
  cache = os.environ.get("JAX_COMPILATION_CACHE_DIR") or str(preparation.cache_dir(settings.data) / "xla")
  jax.config.update("jax_compilation_cache_dir", cache)


def main(argv: list[str]) -> None:
  """Runs what the flags say."""
  path, overrides = _CONFIG.value, argv[1:]
  if _LIST.value:
    print(listing())
    return
  if not path:
    raise UserError(f"--config=NAME is missing{nearest('', config_files.names())}")
  if not console.is_verbose():
    console.quiet()
  settings = config.load(path, overrides)
  set_up(settings)
  from dgjax import plan  # imported here, because it takes time and a wrong argument should be reported at once
  from dgjax.analysis.summary import summary
  workdir = pathlib.Path(_WORKDIR.value or pathlib.Path("runs") / config.run_name(path, settings)).expanduser()
  failed: plan.RunsFailed | None = None
  try:
    finished = plan.train(settings, workdir, command=plan.command_line(path, overrides), from_step=_FROM_STEP.value)
  except plan.RunsFailed as error:
    failed, finished = error, error.finished
  if finished and jax.process_index() == 0:
    print(summary(finished, workdir.absolute()), flush=True)
  if failed:
    raise failed


def run() -> None:
  """Entry point. It turns errors into one line and an exit status."""
  try:
    app.run(main, flags_parser=parse)
  except (Preempted, KeyboardInterrupt):
    sys.exit(PREEMPTED)
  except Exception as error:
    if console.is_verbose():
      raise
    sys.exit(console.fail(error))


if __name__ == "__main__":
  run()
