import pytest

from dgjax import reference
from dgjax.algorithms import ALGORITHMS
from dgjax.reference import rcl
from tests.helpers import settings_of

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


@pytest.mark.parametrize("config, header", [
    ("aggregate", "Standard Training Procedure"), ("channel_dropout", "Dropout"),
    ("channel_dropout_orthogonality", "Dropout & Orthogonality [3]"),
    ("channel_dropout_covariance", "Dropout & Covariance [8]"), ("jigsaw", "Jigsaw Puzzle [5]"),
    ("reconstruction", "Reconstruction"), ("spectral_decoupling", "Spectral Decoupling [38]"), ("rsc", "RSC [24]"),
    ("rcl", "RCL-SDG m = 0.9"), *((f"m={m}", f"RCL-SDG m = {m}") for m in ("0.2", "0.4", "0.6", "0.8", "inf")),
])
def test_every_config_finds_its_row(config, header):
  assert TABLE.find_row(settings_of(f"rcl_mnist_mp:{config}")) == ("mnistnet", header)


@pytest.mark.parametrize("method", ["jigsaw", "spectral_decoupling", "rcl"])
def test_runs_that_stop_early_have_rows_of_their_own(method):
  _, full = TABLE.find_row(settings_of(f"rcl_mnist_mp:{method}"))
  _, stopped = TABLE.find_row(settings_of(f"rcl_mnist_mp:{method}", "early_stop=0.95"))
  assert stopped == f"{full} @95"


@pytest.mark.parametrize("config, override", [
    ("rcl", "algorithm.margin=0.5"), ("m=inf", "early_stop=0.95"), ("jigsaw", "early_stop=0.9"),
    ("channel_dropout_covariance", "algorithm.orthogonality_weight=1.0"), ("rsc", "early_stop=0.95"),
    ("rcl", "model.name=lenet3"), ("rcl", "data.name=digits_mp"),
])
def test_what_the_paper_did_not_measure_has_no_row(config, override):
  assert TABLE.find_row(settings_of(f"rcl_mnist_mp:{config}", override)) is None


def test_the_column_is_grey_alone():
  # A run tested on coloured digits was trained on grey ones: not what the column "Validation" is of.
  assert TABLE.column_of("grey") == "Test" and TABLE.column_of("coloured") is None


def test_every_row_is_of_a_method_of_ours_and_there():
  headers = {header for _, header in TABLE.rows}
  assert {header for ours in rcl.METHODS for header in ours.headers} <= headers
  assert {ours.method for ours in rcl.METHODS} <= ALGORITHMS.keys()
