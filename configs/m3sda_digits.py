"""M3SDA-beta on the embedded digits, from all other domains to each, with the settings of `configs/dmg_digits.py`.

  python -m dgjax.main --config=configs/m3sda_digits.py
"""

from ml_collections import ConfigDict

from dgjax import config, recipes


def get_config(variant: str | None = None) -> ConfigDict:
  """No variants."""
  config.variant(variant, {"": None})
  return recipes.digits(algorithm="m3sda")
