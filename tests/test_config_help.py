"""`--help` explains every setting that there is."""

import pytest

from dgjax import algorithms, config, config_help, data


@pytest.mark.parametrize("name", algorithms.ALGORITHMS)
def test_every_setting_of_a_method_is_explained(name):
  settings = config.default(algorithm=name, model="smallnet", data="digits")
  assert not [key for key in config.flatten(settings) if not config_help.explanations(settings).get(key)]


@pytest.mark.parametrize("name", data.DATASETS)
def test_every_setting_of_a_data_set_is_explained(name):
  settings = config.default(algorithm="aggregate", model="smallnet", data=name)
  assert not [key for key in config.flatten(settings) if not config_help.explanations(settings).get(key)]


def test_a_line_has_the_value_and_what_it_means():
  settings = config.load("digits:dmg", {"steps": 7, "algorithm.overlap_weight": 0.5})
  lines = config_help.settings(settings).splitlines()
  assert f"{'--config.steps=7':<48}length in updates; 0: as epochs says" in lines
  assert f"{'--config.algorithm.overlap_weight=0.5':<48}weight of the overlap of masks, lambda_O of Eq. 2." in lines
  assert all(len(line) <= 120 for line in lines)
