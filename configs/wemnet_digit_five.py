"""WEMNet on Digit-Five, from all other domains to each; the paper has no digits.

  python -m dgjax.main --config=configs/wemnet_digit_five.py --config.data.dir=FOLDER

FOLDER holds MNIST's IDX files at least. Variants: none, `drt` (dynamic residuals), `small` (for a CPU); on MSTN with
`--config.algorithm.base=mstn`.
"""

from ml_collections import ConfigDict

from dgjax import recipes


def get_config(variant: str | None = None) -> ConfigDict:
  """The config of a variant; see above."""
  return recipes.digit_five(variant, algorithm="wemnet")
