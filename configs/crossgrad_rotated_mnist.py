"""CrossGrad on digits turned by six angles, leave-one-angle-out (crossgrad.txt, section 4).

  python -m dgjax.main --config=configs/crossgrad_rotated_mnist.py --config.data.dir=FOLDER   # MNIST's IDX files
  python -m dgjax.main --config=configs/crossgrad_rotated_mnist.py:digits                     # embedded, no data needed

The paper's accuracies with M0 to M75 unseen (Table 9): 88.3 98.6 98.0 97.7 97.7 91.4.
Variants: none (MNIST), `digits`.
"""

from ml_collections import ConfigDict

from dgjax import recipes


def get_config(variant: str | None = None) -> ConfigDict:
  """The config of a variant; see above."""
  return recipes.crossgrad_paper(variant, algorithm="crossgrad", data="rotated_mnist")
