import pytest

from dgjax import reference
from dgjax.algorithms import ALGORITHMS
from dgjax.reference import rcl

TABLE = rcl.TABLES["2"]


def cell(header, column="Test"):
  return reference.lookup("rcl", table="2", row=("mnistnet", header), column=column)


def test_every_row_has_every_column():
  assert len(TABLE.rows) == 18
  for val, val_std, test, test_std in TABLE.rows.values():
    assert 90 < val < 100 and val_std < 1 and 10 < test < 98 and 0.1 < test_std < 10


def test_what_the_text_says_of_the_numbers():
  # Section 1: a drop of up to 56 points for methods that mean to find hidden patterns (RSC).
  assert cell("RSC [24]", "Validation") - cell("RSC [24]") == pytest.approx(55.7)
  # Section 5.2: early stopping helps; dropout does far better with a penalty on redundancy; RSC is marginally above.
  for header in ("Jigsaw Puzzle [5]", "Spectral Decoupling [38]", "RCL-SDG m = 0.9"):
    assert cell(f"{header} @95") > cell(header) and cell(f"{header} @95", "Validation") >= 95
  penalised = [cell(f"Dropout & {penalty}") for penalty in ("Covariance [8]", "Orthogonality [3]")]
  assert cell("Dropout") + 10 < min(penalised) < max(penalised) < cell("RSC [24]") < min(penalised) + 1


def test_a_larger_margin_finds_more_and_costs_validation():
  margins = [f"RCL-SDG m = {m}" for m in ("0.2", "0.4", "0.6", "0.8", "0.9", "inf")]
  test, val = ([cell(row, column) for row in margins] for column in ("Test", "Validation"))
  assert test == sorted(test) and val == sorted(val, reverse=True)
  others = [row[1] for row in TABLE.rows if not row[1].startswith("RCL") and "MNIST" not in row[1]]
  assert test[-1] > max(cell(row) for row in others) > test[2]


def test_rows_are_found_by_our_names():
  assert TABLE.find_row("mnistnet", "rcl") == ("mnistnet", "RCL-SDG m = 0.9")
  assert TABLE.find_row("mnistnet", "rcl", "inf") == ("mnistnet", "RCL-SDG m = inf")
  assert TABLE.find_row("mnistnet", "rcl", "0.2") == ("mnistnet", "RCL-SDG m = 0.2")
  assert TABLE.find_row("mnistnet", "jigsaw", "@95") == ("mnistnet", "Jigsaw Puzzle [5] @95")
  assert TABLE.find_row("mnistnet", "aggregate") == ("mnistnet", "Standard Training Procedure")
  assert TABLE.find_row("resnet18", "rcl") is None and TABLE.find_row("mnistnet", "dmg") is None
  assert TABLE.column_of("grey") == "Test" and TABLE.column_of("coloured") == "Validation"


def test_every_method_name_is_one_of_ours_and_has_its_row():
  headers = {header for _, header in TABLE.rows}
  for method, (header,) in rcl.METHODS.items():
    assert header in headers and method.partition("/")[0] in ALGORITHMS
