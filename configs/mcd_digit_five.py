"""MCD on Digit-Five, from all other domains to each: three steps, its own weights, a hidden layer in each head.

  python -m dgjax.main --config=configs/mcd_digit_five.py --config.data.dir=FOLDER

FOLDER holds MNIST's IDX files at least. Variants: none, `drt` (dynamic residuals), `small` and `small_drt` (for a CPU);
for the step in one of DRT's released code see `configs/drt_digit_five.py:static`.
"""

from ml_collections import ConfigDict

from dgjax import recipes


def get_config(variant: str | None = None) -> ConfigDict:
  """The config of a variant; see above."""
  return recipes.digit_five(variant, algorithm="mcd")
