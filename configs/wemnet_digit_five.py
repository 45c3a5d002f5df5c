"""WEMNet on Digit-Five, from all other domains to each; the paper has no digits.

  python -m dgjax.main --config=configs/wemnet_digit_five.py --config.data.dir=FOLDER

FOLDER holds MNIST's IDX files at least. Variants: none (on DANN), `mstn` (on MSTN), `drt` (dynamic residuals),
`small`, `small_mstn` and `small_drt` (for a CPU).
"""

from ml_collections import ConfigDict

from dgjax import recipes


def get_config(variant: str | None = None) -> ConfigDict:
  """The config of a variant; see above."""
  c = recipes.digit_five(variant, algorithm="wemnet", variants={"mstn": {}, "small_mstn": {}})
  if variant and variant.endswith("mstn"):
    c.algorithm.base = "mstn"
  return c
