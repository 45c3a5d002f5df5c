"""DRT with MCD on Digit-Five, from all other domains to each: one step, weight 50, as in drt.txt and its released code.

  python -m dgjax.main --config=configs/drt_digit_five.py --config.data.dir=FOLDER

FOLDER holds MNIST's IDX files at least. Variants: none or `drt` (subspace, K = 4), `k2`, `k6`, `k8`, `channel`, `both`,
`static` (MCD in one step), `small` and `small_static` (for a CPU; the weight is another: `recipes.drt_small`).
"""

from ml_collections import ConfigDict

from dgjax import recipes


def get_config(variant: str | None = None) -> ConfigDict:
  """The config of a variant; see above."""
  c = recipes.digit_five(variant, algorithm="mcd", variants=recipes.DRT_VARIANTS | recipes.DRT_SMALL)
  c.algorithm.update(recipes.drt_small(classes=10) if variant in recipes.DRT_SMALL else recipes.DRT_MCD)
  return c
