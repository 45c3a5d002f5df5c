"""MSTN on the embedded digits, each domain in turn the unlabelled target.

  python -m dgjax.main --config=configs/mstn_digits.py
"""

from ml_collections import ConfigDict

from dgjax import config, recipes


def get_config(variant: str | None = None) -> ConfigDict:
  """No variants."""
  config.variant(variant, {"": None})
  return recipes.digits_adaptation(algorithm="mstn")
