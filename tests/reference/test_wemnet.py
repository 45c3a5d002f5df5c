import pytest

from dgjax import reference
from dgjax.algorithms import ALGORITHMS
from dgjax.reference import wemnet
from tests.helpers import settings_of

OFFICE, VISDA = "ResNet-50", "ResNet-101"


def average(table, header, network=OFFICE):
  return reference.lookup("wemnet", table=table, row=(network, header), column="Avg")


@pytest.mark.parametrize("number,rows,columns", [("1", 9, 7), ("2", 7, 13), ("3", 4, 7), ("4", 4, 7)])
def test_every_row_has_every_column(number, rows, columns):
  table = wemnet.TABLES[number]
  assert len(table.rows) == rows and len(table.columns) == columns
  assert all(len(row) == columns and all(0 <= value <= 100 for value in row) for row in table.rows.values())


@pytest.mark.parametrize("number,near", [("1", 0.1), ("2", 0.1), ("3", 0.1), ("4", 0.01)])
def test_averages_are_those_of_their_rows(number, near):
  for (_, header), (*values, mean) in wemnet.TABLES[number].rows.items():
    printed_too_low = 4.2 if number == "2" and header.startswith("WEMNet") else 0
    assert sum(values) / len(values) - printed_too_low == pytest.approx(mean, abs=near), header


def test_what_the_text_says_of_the_numbers():
  # Section 3.3: gains of WEMNet over DANN, and of the one on MSTN over MSTN.
  assert average("1", "WEMNet") - average("1", "DANN [2]") == pytest.approx(4.9)
  assert average("1", "WEMNet+") - average("1", "MSTN* [7]") == pytest.approx(2.1)
  assert average("2", "WEMNet", VISDA) - average("2", "DANN [2]", VISDA) == pytest.approx(18.0)
  assert average("2", "WEMNet+", VISDA) - average("2", "MSTN* [7]", VISDA) == pytest.approx(9.6)
  # Section 3.4: DIM alone adds 3.3; SEM's "additional" 3.4 is over neither.
  assert average("3", "DIM") - average("3", "neither") == pytest.approx(3.3)
  assert average("3", "SEM") - average("3", "neither") == pytest.approx(3.4)


def test_tables_agree_with_each_other():
  office, modules = wemnet.TABLES["1"], wemnet.TABLES["3"]
  assert office.rows[OFFICE, "DANN [2]"] == modules.rows[OFFICE, "neither"]
  assert office.rows[OFFICE, "WEMNet"] == modules.rows[OFFICE, "DIM, SEM"]


def test_the_domain_error_is_lower_without_the_domains_part():
  rows = wemnet.TABLES["4"].rows
  for domain in ("Source", "Target"):
    pairs = zip(rows[OFFICE, f"{domain} without"], rows[OFFICE, f"{domain} with"], strict=True)
    assert all(without < with_ for without, with_ in pairs)


@pytest.mark.parametrize("number, config, header", [
    ("1", "wemnet_office31:dann", "DANN [2]"), ("1", "wemnet_office31:mstn", "MSTN* [7]"),
    ("1", "wemnet_office31", "WEMNet"), ("1", "wemnet_office31:wemnet_mstn", "WEMNet+"),
    ("1", "wemnet_office31:wemnet_dim", None), ("1", "wemnet_office31:small", None),
    ("1", "wemnet_office31:source_only", "ResNet-50 [11]"), ("2", "wemnet_visda:source_only", "ResNet-101 [11]"),
    ("2", "wemnet_visda:mcd", "MCD [15]"), ("2", "wemnet_visda:wemnet_mstn", "WEMNet+"),
    ("3", "wemnet_office31:dann", "neither"), ("3", "wemnet_office31", "DIM, SEM"),
    ("3", "wemnet_office31:wemnet_dim", "DIM"),
    ("3", "wemnet_office31:wemnet_sem", "SEM"), ("3", "wemnet_office31:wemnet_mstn", None),
])
def test_configs_find_their_rows(number, config, header):
  row = wemnet.TABLES[number].find_row(settings_of(config))
  assert row == (header and (VISDA if number == "2" else OFFICE, header))


def test_every_row_is_of_a_method_of_ours_and_there():
  headers = {header for table in wemnet.TABLES.values() for _, header in table.rows}
  assert {header for ours in (*wemnet.METHODS, *wemnet.MODULES) for header in ours.headers} <= headers
  assert {ours.method for ours in wemnet.METHODS} <= ALGORITHMS.keys()
