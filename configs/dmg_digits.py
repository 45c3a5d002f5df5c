"""DMG on the embedded digits, leave-one-domain-out: the quickest look at the library; nothing to download.

  python -m dgjax.main --config=configs/dmg_digits.py

Four runs, one per unseen domain. The learning rate of the masks is higher than the paper's 1e-4: with that, a mask
logit that starts at 0.5 needs 5,000 updates to cross zero, and runs as short as these would show masks that are all on.
"""

from ml_collections import ConfigDict

from dgjax import config, recipes


def get_config(variant: str | None = None) -> ConfigDict:
  """No variants."""
  config.variant(variant, {"": None})
  return recipes.digits(algorithm="dmg")
