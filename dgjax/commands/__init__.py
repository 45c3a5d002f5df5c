"""The command `dgjax`: one module for each of its words, imported when that word is used."""

import argparse
import importlib
import sys
from collections.abc import Sequence

import dgjax
from dgjax import console
from dgjax.analysis.command import Parser
from dgjax.errors import UserError, nearest

# word -> what it does; the module of that name has `main(arguments) -> exit status`
COMMANDS = {
    "train": "train a config: one run, one for each target domain, several seeds together",
    "predict": "classify images by a finished run, into a CSV file",
    "evaluate": "score a finished run on other data: accuracy by class, confusion matrix, every image",
    "export": "write a finished run's parameters as safetensors, and its prediction as StableHLO",
    "embed": "draw what a finished run's stages see in the plane: t-SNE or PCA",
    "table": "train a whole table, or print that of finished runs, with standard errors",
    "search": "search hyperparameters by DomainBed's protocol",
    "report": "write finished runs as one HTML page",
    "cite": "print BibTeX of a run's method, data set and of dgjax",
    "list": "list methods, data sets, networks and configs",
    "cache": "show, or prune, the data sets that were prepared",
}


def usage() -> str:
  """What `dgjax --help` prints."""
  width = max(map(len, COMMANDS))
  lines = [f"  dgjax {word:<{width}}  {about}" for word, about in COMMANDS.items()]
  return "\n".join([
      "Domain generalisation and adaptation in JAX.", "", *lines, "",
      "`dgjax WORD --help` says more. Settings of a training run are --config.KEY=VALUE:",
      "`dgjax train --config=NAME --help` lists them with their values."])


def parser(word: str, description: str | None, epilog: str = "") -> Parser:
  """The parser of a word's arguments."""
  return Parser(prog=f"dgjax {word}", description=description, epilog=epilog, allow_abbrev=False,
                formatter_class=argparse.RawDescriptionHelpFormatter)


def main(argv: Sequence[str] | None = None) -> int:
  """Runs a word of the command line.

  Args:
    argv: the arguments after `dgjax`; default: those of the process.

  Returns:
    The exit status: 0 done, 1 an error, told in one line, with a traceback under --verbosity=1. `train` ends the
    process with a status, as `dgjax.main` documents: 75 is stopped after saving.
  """
  given = sys.argv[1:] if argv is None else argv
  if [*given[:1]] == ["train"]:  # which takes absl's flags, and has the same frame by itself
    return _run(given)
  return console.run(_run, argv)


def _run(argv: Sequence[str]) -> int:
  """Runs one word with its arguments; returns the exit status."""
  word, *rest = argv or ["--help"]
  if word in ("--help", "-h", "help"):
    print(usage())
    return 0
  if word == "--version":
    print(dgjax.__version__)
    return 0
  if word not in COMMANDS:
    raise UserError(f"no command {word!r}{nearest(word, COMMANDS)}")
  return importlib.import_module(f"dgjax.commands.{word}").main(rest)
