"""ADDA on Digit-Five, from all other domains to each.

  python -m dgjax.main --config=configs/adda_digit_five.py --config.data.dir=FOLDER

FOLDER holds MNIST's IDX files at least. Variants: none, `drt` (dynamic residuals), `small` and `small_drt` (for a CPU).
"""

from ml_collections import ConfigDict

from dgjax import recipes


def get_config(variant: str | None = None) -> ConfigDict:
  """The config of a variant; see above."""
  return recipes.digit_five(variant, algorithm="adda")
