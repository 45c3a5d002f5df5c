"""DRT with MCD on the embedded digits, from all other domains to each, with the settings of `configs/mcd_digits.py`.

  python -m dgjax.main --config=configs/drt_digits.py

Every convolution is dynamic. Variants: none (subspace, K = 4), `k2`, `k6`, `k8`, `channel`, `both`, `static` (MCD).
"""

from ml_collections import ConfigDict

from dgjax import config, recipes


def get_config(variant: str | None = None) -> ConfigDict:
  """The config of a variant; see above."""
  c = recipes.digits(algorithm="mcd")
  c.model.update(config.variant(variant, recipes.DRT_VARIANTS))
  return c
