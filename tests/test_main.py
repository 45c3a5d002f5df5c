import os
import pathlib
import subprocess
import sys

import pytest

from dgjax import config, main
from dgjax.errors import UserError

ROOT = pathlib.Path(__file__).parents[1]


def run(*arguments):
  return subprocess.run([sys.executable, "-m", "dgjax.main", *arguments], cwd=ROOT, text=True, capture_output=True,
                        check=False, env={**os.environ, "XLA_FLAGS": ""})


def test_leave_one_domain_out(tmp_path):
  """The whole command: every target in turn, a table, figures; what is finished is not run again."""
  arguments = [f"--workdir={tmp_path}", "--config=configs/dmg_digits.py", "--config.steps=4",
               "--config.batch_size", "16"]
  first = run(*arguments)
  assert first.returncode == 0, first.stderr
  for target in ("plain", "inverted", "colour", "turned"):
    assert (tmp_path / target / "results.json").exists()
    assert (tmp_path / target / "figures" / "masks.png").read_bytes().startswith(b"\x89PNG")
    assert f"{target} unseen" in first.stdout
  assert "source_val" in first.stdout and "IoU" in first.stdout
  again = run(*arguments)
  assert again.stdout == first.stdout and "is finished" in again.stderr


@pytest.mark.parametrize("name,found", [
    ("digits_mp", ("coloured", "grey")), ("fonts", ("unseen",))])
def test_all_targets_are_those_that_can_be_one(name, found):
  settings = config.load(str(ROOT / "configs" / "dmg_digits.py"), [f"--config.data.name={name}"])
  if name == "fonts":
    settings.data.characters = "AB"
  assert main.targets(settings) == found
  settings.target = "one"
  assert main.targets(settings) == ("one",)


def test_an_error_is_one_line_and_status_1(tmp_path):
  result = run("--config=configs/dmg_pacs.py", f"--config.data.dir={tmp_path}/absent", f"--workdir={tmp_path}/run")
  assert result.returncode == 1 and result.stdout == ""
  assert result.stderr.count("\n") == 1 and f"{tmp_path}/absent" in result.stderr
  result = run("--config=configs/dmg_pacs.py", f"--config.data.dir={tmp_path}/absent", "--verbosity=1")
  assert result.returncode == 1 and "Traceback" in result.stderr


def test_listing_names_everything_with_its_paper():
  lines = main.listing().splitlines()
  assert any(line.split()[:2] == ["algorithm", "dmg"] and "ECCV 2020" in line for line in lines)
  assert any(line.split()[:2] == ["network", "resnet50"] for line in lines)
  assert any(line.split()[:2] == ["dataset", "pacs"] for line in lines)


def test_arguments_that_are_not_known(monkeypatch):
  with pytest.raises(UserError, match="workdri"):
    main.parse(["main", "--workdri=x"])
  with pytest.raises(UserError, match="no argument 'configs/dmg_pacs.py'"):
    main.parse(["main", "configs/dmg_pacs.py"])


def test_the_command_of_a_run_can_be_pasted():
  line = main.command_line("configs/dmg_pacs.py:small", ["--config.target=all", "--config.data.dir=my images"],
                           pathlib.Path("runs/a"), "photo")
  assert line == ("python -m dgjax.main --config=configs/dmg_pacs.py:small '--config.data.dir=my images' "
                  "--config.target=photo --workdir=runs/a")
