import pytest

from dgjax import models, reference
from dgjax.algorithms import ALGORITHMS
from dgjax.reference import drt
from tests.helpers import settings_of


def cell(table, header, column="Avg", network="resnet101"):
  return reference.lookup("drt", table=table, row=(network, header), column=column)


@pytest.mark.parametrize("number", drt.TABLES)
def test_averages_are_means_or_noted(number):
  table = drt.TABLES[number]
  sizes = {"1": 4, "2": 8, "3": 8, "4": 12, "5": 3, "k": 5}
  assert len(table.rows) == sizes[number]
  for row, values in table.rows.items():
    assert len(values) == len(table.columns) and row[0] in models.NETWORKS
    if not table.domains:
      continue
    cells = [table.cell(row, column) for column in table.domains]
    printed, mean = table.cell(row, "Avg"), sum(cells) / len(cells)
    exact = number == "3" and not row[1].startswith("CMSS")
    if abs(printed - mean) > (0.00501 if exact else 0.0501):
      assert drt.AVERAGE_IS_NOT_THE_MEAN[number, row] == pytest.approx((printed, mean), abs=1e-6)
    else:
      assert (number, row) not in drt.AVERAGE_IS_NOT_THE_MEAN


def test_tables_repeat_each_other():
  for header, other in (("MCD [25]", "static"), ("MCD+DRT", "Subspace Routing")):
    assert drt.TABLES["2"].rows["resnet101", header] == drt.TABLES["1"].rows["resnet101", other]
  for header in ("Source Only", "ADDA [27]", "MCD [25]", "M3SDA-beta [22]"):
    assert drt.TABLES["2"].rows["resnet101", header] == drt.TABLES["4"].rows["resnet101", header]
  assert cell("k", "K = 4") == cell("4", "DRT") and cell("k", "static") == cell("1", "static")


def test_what_the_text_says_of_the_numbers():
  # Abstract and section 4.2: gains of 11.2, 9.3 for channel attention, and by alignment loss.
  assert cell("1", "Subspace Routing") - cell("1", "static") == pytest.approx(11.2)
  assert cell("1", "Channel Attention") - cell("1", "static") == pytest.approx(9.3)
  for method, gain in (("ADDA", 12.7), ("MCD", 11.2), ("M3SDA-beta", 6.2)):
    static = next(row[1] for row in drt.TABLES["2"].rows if row[1].startswith(f"{method} ["))
    assert cell("2", f"{method}+DRT") - cell("2", static) == pytest.approx(gain)
  # Section 4.4: 10.5 above MCD on clipart; several sources are worth 8.2.
  assert cell("5", "DRT", "clp") - cell("5", "MCD [25]", "clp") == pytest.approx(10.5)
  assert cell("4", "DRT") - cell("5", "DRT", "Avg best") == pytest.approx(8.2)


def test_swapped_columns_are_found_by_the_domain_that_they_fit():
  table = drt.TABLES["3"]
  assert (table.column_of("mnist_m"), table.column_of("mnist")) == ("mt", "mm")
  # The text: MNIST-M is the hardest and gains most, 5.7 over the best other method; MNIST gains least.
  best = {domain: max(cell("3", row[1], table.column_of(domain), "digitnet") for row in table.rows if row[1] != "DRT")
          for domain in ("mnist", "mnist_m")}
  assert cell("3", "DRT", table.column_of("mnist_m"), "digitnet") - best["mnist_m"] == pytest.approx(5.73)
  assert cell("3", "DRT", table.column_of("mnist"), "digitnet") - best["mnist"] == pytest.approx(0.31)


@pytest.mark.parametrize("number, config, header", [
    ("4", "drt_domainnet", "DRT"), ("2", "drt_domainnet", "MCD+DRT"), ("1", "drt_domainnet", "Subspace Routing"),
    ("2", "drt_domainnet:static", "MCD [25]"), ("1", "drt_domainnet:static", "static"),
    ("2", "drt_domainnet:aggregate,static", "Source Only"), ("2", "drt_domainnet:aggregate", "Source Only + DRT"),
    ("2", "drt_domainnet:adda,static", "ADDA [27]"), ("2", "drt_domainnet:adda", "ADDA+DRT"),
    ("2", "drt_domainnet:m3sda,static", "M3SDA-beta [22]"), ("2", "drt_domainnet:m3sda", "M3SDA-beta+DRT"),
    ("4", "drt_domainnet:self_training", "DRT+ST"),
    ("1", "drt_domainnet:channel", "Channel Attention"), ("1", "drt_domainnet:both", "Combination"),
    ("3", "drt_digit_five:aggregate", "Source Only"), ("3", "drt_digit_five:dann", "DANN [8]"),
    ("3", "drt_digit_five:adda", "ADDA [27]"), ("3", "drt_digit_five:mcd", "MCD [25]"),
    ("3", "drt_digit_five:m3sda", "M3SDA-beta [22]"),
    ("3", "drt_digit_five", "DRT"), ("3", "drt_digit_five:mcd,subspace", "DRT"),
])
def test_configs_find_their_rows(number, config, header):
  found = settings_of(config)
  assert drt.TABLES[number].find_row(found, found["algorithm.prediction"]) == (found["model.name"], header)


def test_what_makes_another_row_is_told_apart():
  four, two = drt.TABLES["4"], drt.TABLES["2"]
  trained_again = settings_of("drt_domainnet", "algorithm.self_training.rounds=2")
  assert four.find_row(trained_again, "max_logit") == ("resnet101", "DRT+ST")
  assert two.find_row(trained_again, "max_logit") is None
  assert four.find_row(settings_of("drt_domainnet"), "pred_ens") == ("resnet101", "DRT")
  assert two.find_row(settings_of("drt_domainnet:channel"), "max_logit") is None
  for fewer in (settings_of("drt_domainnet:k=2"), settings_of("drt_domainnet", "model.dynamic_k=8")):
    assert two.find_row(fewer, "max_logit") is None


def test_every_row_is_of_a_method_of_ours_and_there():
  headers = {header for table in drt.TABLES.values() for _, header in table.rows}
  assert {header for ours in drt.METHODS for header in ours.headers} <= headers
  assert {ours.method for ours in drt.METHODS} <= ALGORITHMS.keys()
