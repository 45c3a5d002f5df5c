"""The command `dgjax` itself: its words, help, errors and statuses."""

import importlib
import pathlib
import pkgutil
import subprocess
import sys

import pytest

import dgjax
from dgjax import commands, config_files
from dgjax.errors import UserError

WORDS = [module.name for module in pkgutil.iter_modules(commands.__path__)]
HEAVY = ("matplotlib", "sklearn", "tensorflow_datasets", "orbax", "grain", "torch", "tensorboardX", "scipy")


def test_every_word_is_listed(capsys):
  assert commands.main(["--help"]) == 0
  shown = capsys.readouterr().out
  assert set(WORDS) <= set(commands.COMMANDS) and all(f"dgjax {word} " in shown for word in commands.COMMANDS)
  assert commands.main(["--version"]) == 0 and capsys.readouterr().out == f"{dgjax.__version__}\n"


@pytest.mark.parametrize("word", [word for word in WORDS if word != "train"])
def test_each_word_has_help(word, capsys):
  with pytest.raises(SystemExit) as ended:
    commands.main([word, "--help"])
  assert ended.value.code == 0 and capsys.readouterr().out.startswith("usage: ")


@pytest.mark.parametrize(("arguments", "message"), [
    (["prdict"], "no command 'prdict' (did you mean 'predict'?)"),
    (["predict", "run"], "the following arguments are required: images, --out: see --help"),
    (["list", "--all"], "unrecognized arguments: --all: see --help"),
    (["export", "/nowhere", "--out=x"], "/nowhere/results.json is not there: give the folder of one run")])
def test_an_error_is_one_line_and_status_1(arguments, message, capsys):
  assert commands.main(arguments) == 1
  out, err = capsys.readouterr()
  assert out == "" and err.startswith(f"error: {message}") and err.count("\n") == 1


def test_an_unexpected_error_is_one_line_too(monkeypatch, capsys):
  module = importlib.import_module("dgjax.commands.cache")
  monkeypatch.setattr(module, "main", _raise(ZeroDivisionError("nought")))
  assert commands.main(["cache"]) == 1
  assert capsys.readouterr().err == (
    "error: ZeroDivisionError: nought (--verbosity=1 shows where)\n")
  with pytest.raises(ZeroDivisionError):
    commands.main(["cache", "--verbosity=1"])
  monkeypatch.setattr(module, "main", _raise(UserError("a \x1b[31m folder")))
  assert commands.main(["cache"]) == 1 and capsys.readouterr().err == "error: a \\x1b[31m folder\n"


def test_train_gets_all_of_its_arguments(monkeypatch):
  module, got = importlib.import_module("dgjax.commands.train"), []
  monkeypatch.setattr(module, "main", lambda arguments: got.extend(arguments) or 75)
  assert commands.main(["train", commands.console.VERBOSE, "--config=x"]) == 75
  assert got == [commands.console.VERBOSE, "--config=x"]


def _raise(error):
  def main(arguments):
    raise error
  return main


def test_the_list_has_every_config_with_its_arguments(capsys):
  assert commands.main(["list"]) == 0
  lines = [line.split() for line in capsys.readouterr().out.splitlines()]
  for name in config_files.names():
    assert ["config", name] in [line[:2] for line in lines]
  assert ["config", "dmg_pacs:", "network:", "resnet18", "|", "resnet50", "|", "alexnet"] in lines
  assert ["algorithm", "dmg"] in [line[:2] for line in lines]


def test_heavy_packages_load_when_they_are_used():
  """`dgjax --help` needs no numpy; a list and the errors of a config need nothing that trains or draws."""
  script = (f"import sys; import dgjax.commands; early = set(sys.modules) & {{'numpy', 'jax', 'absl'}}; "
            f"import dgjax.main; dgjax.main.listing(); print(sorted(early | set(sys.modules) & set({HEAVY})))")
  done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True,
                        cwd=pathlib.Path(__file__).parents[2])
  assert done.stdout == "[]\n"
