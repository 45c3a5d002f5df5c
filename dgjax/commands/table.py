"""`dgjax table`: trains a whole table in one command, or prints the table of finished runs.

  dgjax table digits:aggregate digits:dmg --seeds=3 --workdir=runs/digits [--jobs=2] [--format=markdown ...] \\
    -- [--config.KEY=VALUE ...]
  dgjax table RUNS... [--selection=target_val] [--modes=all] [--paper=dmg:2] ...

With --workdir the arguments are configs. Every config is trained under every seed. One process trains all seeds and
targets of a config together. A config may have arguments, as in `configs/rcl_mnist_mp.py:m=inf`. Rows are in the order
of the configs, and configs of one method have a row each. Arguments after `--` go to every run; swept keys
(--config.sweep.KEY=V1,V2) have a row for each value. Runs lie in WORKDIR/CONFIG/TARGET/seed=K, without `seed=K` if
there is one seed. The output of a process goes to WORKDIR/CONFIG/output.txt; the terminal gets a line for each run that
ends.

--jobs processes run at once, each on its share of the cores, or on a GPU of its own. On a CPU the number of cores
decides the last digits of a run, and training amplifies them. To get the same numbers again, give the same --jobs on
the same cores, or set NPROC to the cores of a run. --print prints a command for each config and seed, for a cluster's
queue, and stops.

After a stop the same command goes on: finished runs are not trained again, and the others resume. On SIGTERM or Ctrl-C
running processes save, and the status is 75. A second Ctrl-C ends them at once. When a process fails, the others go on;
it is named at the end, and the status is 1.

Without --workdir the arguments are folders of runs, at any depth, and nothing is trained. Any rule (--selection) and
way of predicting (--modes) is applied to the records of the runs.
"""

import argparse
import pathlib
import shlex
import sys
from collections.abc import Sequence

from dgjax import config, config_files
from dgjax.analysis import tables
from dgjax.analysis.command import Parser
from dgjax.analysis.recorded import FILE, file_name
from dgjax.errors import UserError, printable
from dgjax.jobs import OUTPUT, Job, Queue, shares
from dgjax.preemption import PREEMPTED

SWEEP = "--config.sweep."


def plan(configs: Sequence[str], seeds: int, workdir: pathlib.Path, rest: Sequence[str],
         each: bool = False) -> list[Job]:
  """The commands of a table.

  Args:
    configs: as `config_files.find` takes them.
    seeds: number of seeds: 0, 1, ...
    workdir: folder of the table.
    rest: arguments of every command.
    each: whether to make a command for every config and seed, seed by seed, so that a table of few seeds is complete
      first; default: one command for every config.

  Raises:
    UserError: a config is not there, two would have the same folder, or a config's folder holds runs that these
      commands would make again in other places.
  """
  jobs = []
  for seed in range(seeds if each else 1):
    for name in configs:
      config_files.find(name)
      stem = config_files.run_name(name)
      folder, title = workdir / stem, stem
      chosen = [] if seeds == 1 else [f"--config.seeds={seeds}"]
      if each and seeds > 1:
        folder, title, chosen = folder / f"seed={seed}", f"{stem}, seed {seed}", [f"--config.seed={seed}"]
      else:
        check_places(folder, seeds)
      jobs.append(Job(title, folder, [sys.executable, "-m", "dgjax.main", f"--config={name}", *chosen, *rest,
                                      f"--workdir={folder}"]))
  if len({job.folder for job in jobs}) < len(jobs):
    raise UserError("two configs of the same name: they would share their folders")
  return jobs


def check_places(folder: pathlib.Path, seeds: int) -> None:
  """Refuses to repeat runs that lie in other places: seed K of several lies in TARGET/seed=K, a lone seed in TARGET.

  Raises:
    UserError: such a run is there.
  """
  for path in sorted(folder.rglob("config.json")):
    parts = path.parent.relative_to(folder).parts
    of_seeds = [part.startswith("seed=") for part in parts]
    if any(of_seeds[:-1]) or any(of_seeds) != (seeds > 1):
      place = "TARGET/seed=K" if seeds > 1 else "TARGET"
      raise UserError(f"{path.parent} holds a run that --seeds={seeds} would make again in {folder / place}: move it, "
                      "or use another --workdir; without --workdir the table of what is there is printed")


def train(options: argparse.Namespace, rest: Sequence[str]) -> int:
  """Trains a table's runs and prints it.

  Returns:
    The exit status.

  Raises:
    UserError: a setting is wrong.
  """
  for name in ("seeds", "jobs"):
    if getattr(options, name) < 1:
      raise UserError(f"--{name} must be at least 1, got {getattr(options, name)}")
  tables.check(options)
  jobs = plan(options.places, options.seeds, options.workdir, rest, options.print)
  if options.print:
    print("\n".join(shlex.join(job.command) for job in jobs))
    return 0
  methods = [config.load(name).algorithm.name for name in options.places]
  if not options.group_by:
    rows = [FILE] if len(set(methods)) < len(methods) else []
    rows += [word.removeprefix(SWEEP).partition("=")[0] for word in rest if word.startswith(SWEEP)]
    options.group_by = ",".join(rows)
  statuses = Queue(jobs, shares(options.jobs)).work()
  if PREEMPTED in statuses:
    print("stopped; the same command goes on from there", file=sys.stderr)
    return PREEMPTED
  failed = [job for job, status in zip(jobs, statuses, strict=True) if status]
  if any(options.workdir.rglob("results.json")):
    tables.show([options.workdir], options, [file_name(name) for name in options.places])
  for job in failed:
    print(printable(f"error: {job.name} failed: see {job.folder / OUTPUT}"), file=sys.stderr)
  return int(bool(failed))


def main(argv: Sequence[str], prog: str = "dgjax table") -> int:
  """Runs the command; see the top of this file.

  Args:
    argv: the arguments.
    prog: the command, for its help.
  """
  parser = Parser(prog=prog, description=__doc__, allow_abbrev=False,
                  formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("places", nargs="+", metavar="CONFIG | RUNS",
                      help="with --workdir configs, FILE.py[:ARGUMENTS] or NAME[:ARGUMENTS]; without, folders of runs")
  parser.add_argument("--workdir", type=pathlib.Path, help="folder of all the runs that are trained")
  parser.add_argument("--seeds", type=int, default=1, help="how many: 0, 1, ...")
  parser.add_argument("--jobs", type=int, default=1, help="processes at once")
  parser.add_argument("--print", action="store_true", help="print the commands and stop")
  tables.add_arguments(parser)
  cut = argv.index("--") if "--" in argv else len(argv)
  options, rest = parser.parse_args(argv[:cut]), argv[cut + 1:]
  if options.workdir:
    return train(options, rest)
  if options.seeds != 1 or options.jobs != 1 or options.print or rest:
    raise UserError("--workdir is missing: it says where to train; without it, folders of runs are printed")
  folders = [pathlib.Path(place).expanduser() for place in options.places]
  if absent := [folder for folder in folders if not folder.is_dir()]:
    raise UserError(f"no folder {absent[0]}: --workdir=DIR trains configs, without it folders of runs are printed")
  tables.show(folders, options)
  return 0
