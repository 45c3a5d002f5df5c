"""WEMNet on the embedded digits, each domain in turn the unlabelled target.

  python -m dgjax.main --config=configs/wemnet_digits.py

Variants: none (both modules, on DANN), `mstn` (both, on MSTN), `dim` and `sem` (one module, on DANN).
"""

from ml_collections import ConfigDict

from dgjax import config, recipes


def get_config(variant: str | None = None) -> ConfigDict:
  """The config of a variant; see above."""
  settings = config.variant(variant, {"": {}, "mstn": {"base": "mstn"}, "dim": {"sem": False}, "sem": {"dim": False}})
  c = recipes.digits_adaptation(algorithm="wemnet")
  c.algorithm.update(settings)
  return c
