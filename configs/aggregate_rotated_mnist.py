"""ERM on digits turned by six angles, leave-one-angle-out (crossgrad.txt, section 4).

  python -m dgjax.main --config=configs/aggregate_rotated_mnist.py --config.data.dir=FOLDER   # MNIST's IDX files
  python -m dgjax.main --config=configs/aggregate_rotated_mnist.py:digits                     # embedded, no data needed

The paper has no such row.
Variants: none (MNIST), `digits`.
"""

from ml_collections import ConfigDict

from dgjax import recipes


def get_config(variant: str | None = None) -> ConfigDict:
  """The config of a variant; see above."""
  return recipes.crossgrad_paper(variant, algorithm="aggregate", data="rotated_mnist")
