import pytest

from dgjax import reference
from dgjax.errors import UserError
from dgjax.reference import dmg
from tests.helpers import settings_of

OVERALL = [(number, row) for number, table in dmg.TABLES.items() if table.overall for row in table.rows]


def printed_precision(numbers):
  """Half a unit of the last digit: rows taken from other papers have one decimal, padded with a zero."""
  return 0.05 if all(round(10 * x, 6) == round(10 * x) for x in numbers) else 0.005


@pytest.mark.parametrize("number, row", OVERALL)
def test_overall_is_the_mean_of_the_row(number, row):
  *domains, overall = dmg.TABLES[number].rows[row]
  mean = sum(domains) / len(domains)
  exception = dmg.OVERALL_IS_NOT_THE_MEAN.get((number, row))
  if exception:
    assert exception == (overall, pytest.approx(mean, abs=0.005))
  assert (abs(mean - overall) <= printed_precision(domains) + 1e-9) == (exception is None)


def test_every_row_has_every_column():
  sizes = {number: len(table.rows) for number, table in dmg.TABLES.items()}
  assert sizes == {"1": 15, "2": 24, "3": 18, "4-top": 6, "4-bottom": 6, "5-top": 6, "5-bottom": 7, "6": 30}
  for table in dmg.TABLES.values():
    assert all(len(numbers) == len(table.columns) and 0 < min(numbers) < max(numbers) < 100
               for numbers in table.rows.values())


def test_cells_that_the_text_quotes():
  def cell(table, network, column, method="DMG (Ours)"):
    return reference.lookup("dmg", table=table, row=(network, method), column=column)

  # Section 4.2 gives these differences in words.
  for table, network, column, other, difference in (
      ("1", "AlexNet", "C", "Aggregate", 2.89), ("1", "AlexNet", "R", "Aggregate", 2.63),
      ("1", "ResNet-18", "Overall", "MetaReg [3]", 0.43), ("2", "AlexNet", "S", "MASF [11]", 4.09),
      ("2", "ResNet-18", "S", "Aggregate [29]", 0.91), ("2", "ResNet-18", "C", "Aggregate*", 1.92),
      ("2", "ResNet-50", "S", "Multi-Headed", 3.06)):
    assert cell(table, network, column) - cell(table, network, column, other) == pytest.approx(difference)


def test_tables_that_repeat_each_other_agree():
  for row, numbers in dmg.TABLES["2"].rows.items():
    assert dmg.TABLES["6"].rows[row] == numbers
  for half, whole in (("5-top", "1"), ("5-bottom", "3")):
    same = {"DMG (Pred-Ens)": "DMG (Ours)", "DMG-KnownDomain": "DMG-KD (Ours)"}
    for (network, method), numbers in dmg.TABLES[half].rows.items():
      if method != "DMG (Mask-Ens)":
        assert dmg.TABLES[whole].rows[network, same.get(method, method)] == numbers
  # Combined masks of Table 4 on the target are DMG's cell of Table 1.
  for half, target in (("4-top", "C"), ("4-bottom", "Q")):
    combined = reference.lookup("dmg", half, ("AlexNet", "Combined"), target)
    assert combined == reference.lookup("dmg", "1", ("AlexNet", "DMG (Ours)"), target)


def test_own_mask_is_the_best_mask_of_its_domain():
  for half in ("4-top", "4-bottom"):
    table = dmg.TABLES[half]
    for column in table.columns[:-1]:
      best = max(table.rows, key=lambda row: table.cell(row, column))
      assert best[1] == f"m^{table.domains[column].capitalize()}"


@pytest.mark.parametrize("config, row", [
    ("dmg_pacs", ("ResNet-18", "DMG (Ours)")), ("dmg_pacs:aggregate", ("ResNet-18", "Aggregate*")),
    ("dmg_pacs:multi_headed,resnet50", ("ResNet-50", "Multi-Headed")), ("wemnet_pacs:dann", None),
    ("dmg_pacs:dan", ("ResNet-18", "DANN [14]")),
    ("dmg_pacs:mldg,alexnet", ("AlexNet", "MLDG [28]")), ("dmg_pacs:metareg,alexnet", ("AlexNet", "MetaReg [3]")),
    ("dmg_pacs:crossgrad,resnet50", None), ("dmg_pacs:aggregate,sgd", None), ("dmg_digits", None),
])
def test_configs_find_their_rows(config, row):
  found = settings_of(config)
  assert reference.find_table("dmg", "6").find_row(found, found["algorithm.prediction"]) == row


def test_sgd_and_ways_of_predicting_have_rows_of_their_own():
  one, inside = reference.find_table("dmg", "1"), reference.find_table("dmg", "5-bottom")
  assert one.find_row(settings_of("dmg_domainnet:aggregate")) == ("ResNet-18", "Aggregate")
  assert one.find_row(settings_of("dmg_domainnet:aggregate", "optimizer.name=sgd")) == ("ResNet-18", "Aggregate-SGD")
  dmg_alexnet = settings_of("dmg_domainnet:alexnet")
  assert inside.find_row(dmg_alexnet, "pred_ens") == ("AlexNet", "DMG (Pred-Ens)")
  assert inside.find_row(dmg_alexnet, "known") == ("AlexNet", "DMG-KnownDomain")
  assert inside.find_row(dmg_alexnet, "mask_ens") == ("AlexNet", "DMG (Mask-Ens)")
  assert inside.find_row(dmg_alexnet, "prob_ens") is None
  assert inside.find_row(settings_of("dmg_domainnet:aggregate,alexnet"), "known") is None


def test_columns_are_found_in_any_spelling():
  table = reference.find_table("dmg", "table2")
  assert table.column_of("art_painting") == table.column_of("Art painting") == "A"
  assert table.column_of("clipart") is None


def test_every_header_is_found_in_some_table():
  for ours in dmg.METHODS:
    assert any(row[1] in ours.headers for table in dmg.TABLES.values() for row in table.rows), ours


@pytest.mark.parametrize("arguments, message", [
    (("dgm", "2", ("ResNet-18", "DMG (Ours)"), "S"), r"numbers of 'dgm' \(did you mean 'dmg'\?\)"),
    (("dmg", "7", ("ResNet-18", "DMG (Ours)"), "S"), "no table '7' .known: 1, 2, 3, 4-top"),
    (("dmg", "2", ("ResNet-18", "DMG"), "S"), r"no row .* \(did you mean 'ResNet-18, DMG \(Ours\)'"),
    (("dmg", "2", ("ResNet-18", "DMG (Ours)"), "Q"), r"no column 'Q' \(known: A, C, Overall, P, S\)"),
])
def test_wrong_names_are_answered_with_the_nearest(arguments, message):
  with pytest.raises(UserError, match=message):
    reference.lookup(*arguments)
