"""Jigsaw puzzles on MNIST with missing patterns: trained on coloured digits, tested on grey (rcl.txt, 5.1).

  python -m dgjax.main --config=configs/jigsaw_mnist_mp.py --config.data.dir=FOLDER   # MNIST's IDX files
  python -m dgjax.main --config=configs/jigsaw_mnist_mp.py:digits   # embedded, no data needed

The paper's accuracy on grey digits (Table 2): 43.0.
Variants: none (MNIST), `digits`.
"""

from ml_collections import ConfigDict

from dgjax import recipes


def get_config(variant: str | None = None) -> ConfigDict:
  """The config of a variant; see above."""
  return recipes.rcl_paper(variant, algorithm="jigsaw")
