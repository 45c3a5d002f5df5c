"""CrossGrad on the embedded digits, leave-one-domain-out, with the settings of `configs/dmg_digits.py`.

  python -m dgjax.main --config=configs/crossgrad_digits.py
"""

from ml_collections import ConfigDict

from dgjax import config, recipes


def get_config(variant: str | None = None) -> ConfigDict:
  """No variants."""
  config.variant(variant, {"": None})
  return recipes.digits(algorithm="crossgrad")
