"""`dgjax search`: trains a config with its hyperparameters drawn at random, and chooses the best of the draws."""

import pathlib
from collections.abc import Sequence

from dgjax.memory import use_huge_pages
from dgjax.preemption import PREEMPTED, Preempted, StopSignal

EPILOG = """The search follows DomainBed's protocol. Trial 0 has the config's own values, and the others draw each
hyperparameter from the distribution that is declared for it. Keys that --config.KEY=VALUE sets are not searched. Runs
lie in WORKDIR/trial=K/TARGET/seed=S. After a stop the same command goes on; with more trials or seeds it trains the new
ones; with another --rule it chooses again. The chosen settings are in WORKDIR/best.py:
`dgjax train --config=WORKDIR/best.py` trains them again."""


def main(argv: Sequence[str]) -> int:
  """Says what the search costs, trains, chooses and writes.

  Returns:
    0, or 75 if a signal stopped it: everything is saved by then.
  """
  use_huge_pages()  # starts the process anew, so before anything that takes time to import
  try:
    with StopSignal(ends_process=True):
      return _search(argv)
  except (Preempted, KeyboardInterrupt):
    return PREEMPTED


def _search(argv: Sequence[str]) -> int:
  import jax
  from absl import flags

  from dgjax import config, plan, search
  from dgjax import main as command
  from dgjax.commands import parser
  from dgjax.errors import UserError
  words = parser("search", __doc__, EPILOG)
  words.add_argument("config", help="NAME[:ARGUMENTS] or FILE.py[:ARGUMENTS]; --config.KEY=VALUE overrides")
  words.add_argument("--trials", type=int, default=20, help="number of trials; trial 0 has the config's own values")
  words.add_argument("--seeds", type=int, default=3, help="number of runs for each trial and target; default: 3")
  words.add_argument("--seed", type=int, default=0, help="seed of the draws; --config.seed is that of the runs")
  words.add_argument("--workdir", type=pathlib.Path, help="folder of the search; default: runs/NAME-search")
  words.add_argument("--rule", choices=list(search.RULES), default="source_val", help="rule that finds the best trial")
  words.add_argument("--leave_one_out", action="store_true",
                     help="also train without each source domain in turn, as --rule=leave_one_out needs")
  words.add_argument("--dry_run", action="store_true", help="print the draws and what they would cost, and stop")
  overrides, rest = config.split_arguments(argv)
  options = words.parse_args(rest)
  for name in ("trials", "seeds"):
    if getattr(options, name) < 1:
      raise UserError(f"--{name} is {getattr(options, name)}: it must be at least 1")

  flags.FLAGS(["dgjax search"])  # grain reads its flags
  settings = config.load(options.config, overrides)
  command.set_up(settings)
  folder = options.workdir or pathlib.Path("runs") / f"{config.run_name(options.config, settings)}-search"
  folder = folder.expanduser().absolute()
  trials = search.trials(options.config, overrides, folder, count=options.trials, seeds=options.seeds,
                         seed=options.seed, leave_one_out=options.leave_one_out or options.rule == "leave_one_out")
  fixed = [key for key, _ in map(search.key_and_value, overrides)]
  lines = [f"{key}: {distribution}" for key, distribution in search.distributions(settings, fixed).items()]
  lines.append(search.cost(trials))
  if jax.process_index() == 0:
    print("\n".join([*lines, *([search.drawn(trials)] if options.dry_run else [])]), flush=True)
  if options.dry_run:
    return 0

  plan.train_planned(search.plans(trials), command=plan.command_line(options.config, overrides), past_failures=True)
  if jax.process_index() == 0:
    ranked = search.rank(trials, options.rule)
    search.write_config(folder / "best.py", options.config, overrides, ranked[0], options.rule)
    best = f"written: {folder / 'best.py'} (trial {ranked[0].trial.number})"
    print(f"\n{search.report(ranked, options.rule)}\n\n{best}")
  return 0
