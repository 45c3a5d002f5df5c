"""MCD on the embedded digits, from all other domains to each, with the settings of `configs/dmg_digits.py`.

  python -m dgjax.main --config=configs/mcd_digits.py

Variants: none (three steps), `one_step` (the form and the weights of DRT's released code, on heads of one layer),
`self_training` (three steps, and a second half of the run on confident target images too).
"""

from ml_collections import ConfigDict

from dgjax import config, recipes


def get_config(variant: str | None = None) -> ConfigDict:
  """The config of a variant; see above."""
  settings = config.variant(variant, {"": {}, "one_step": recipes.DRT_MCD, "self_training": {}})
  c = recipes.digits(algorithm="mcd")
  c.algorithm.update(settings)
  c.algorithm.self_training.rounds = int(variant == "self_training")
  return c
