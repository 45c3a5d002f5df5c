import os

import pytest

from dgjax import registry
from dgjax.errors import UserError

TABLE = {"dmg": 1, "mldg": 2}


def resolve(name):
  return registry.resolve(name, TABLE, "method", "config.algorithm.name")


def test_a_name_of_the_table():
  assert resolve("dmg") == 1
  with pytest.raises(UserError, match=r"^unknown method 'dgm' in config.algorithm.name \(did you mean 'dmg'\?\)$"):
    resolve("dgm")


def test_a_file_of_ones_own(tmp_path, monkeypatch):
  text = "from dataclasses import dataclass\n\n@dataclass(frozen=True)\nclass IRM:\n  x: int = 3\n"
  (tmp_path / "irm.py").write_text(text)
  found = resolve(f"{tmp_path}/irm.py:IRM")
  assert found().x == 3
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv("HOME", str(tmp_path))
  assert resolve("irm.py:IRM") is resolve("~/irm.py:IRM") is resolve(f"..{os.sep}{tmp_path.name}/irm.py:IRM") is found
  (tmp_path / "other").mkdir()
  (tmp_path / "other" / "irm.py").write_text("IRM = 4\n")
  assert resolve("other/irm.py:IRM") == 4  # another file of that name


@pytest.mark.parametrize("name,message", [
  ("irn.py:IRM", r"there is no file .*/irn.py \(did you mean '.*/irm.py'\?\)"),
  ("nowhere/irm.py:IRM", "there is no file .*/nowhere/irm.py$"),
  ("irm.py", r"unknown method 'irm.py' in .*: say which name of that file it is, as in irm.py:NAME"),
  ("irm.py:IMR", r"irm.py has no 'IMR' \(did you mean 'IRM'\?\)"),
  ("syntax.py:IRM", r"cannot import .*/syntax.py line 2 \(SyntaxError: .*\): mend the file"),
  ("absent.py:IRM", r"cannot import .*/absent.py line 3 \(ModuleNotFoundError: No module named 'nothing_like_it'\)")])
def test_what_is_wrong_with_a_file_of_ones_own(tmp_path, monkeypatch, name, message):
  (tmp_path / "irm.py").write_text("class IRM:\n  pass\n")
  (tmp_path / "syntax.py").write_text("x = 1\ndef f(:\n")
  (tmp_path / "absent.py").write_text("\n\nimport nothing_like_it\n")
  monkeypatch.chdir(tmp_path)
  for _ in range(2):  # a file that failed once is not half-imported
    with pytest.raises(UserError, match=message) as error:
      resolve(name)
    assert "config.algorithm.name" in str(error.value) and "\n" not in str(error.value)
