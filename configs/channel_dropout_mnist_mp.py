"""Channel dropout on MNIST with missing patterns: trained on coloured digits, tested on grey (rcl.txt, 5.1).

  python -m dgjax.main --config=configs/channel_dropout_mnist_mp.py --config.data.dir=FOLDER   # MNIST's IDX files
  python -m dgjax.main --config=configs/channel_dropout_mnist_mp.py:digits   # embedded, no data needed

The paper's accuracy on grey digits (Table 2): 31.9, with orthogonality 42.7, with covariance 42.6.
Variants: none (MNIST), `orthogonality`, `covariance`, `digits`.
"""

from ml_collections import ConfigDict

from dgjax import recipes


def get_config(variant: str | None = None) -> ConfigDict:
  """The config of a variant; see above."""
  return recipes.rcl_paper(variant, algorithm="channel_dropout",
                           settings={"orthogonality": {"orthogonality_weight": 1.0},
                                     "covariance": {"covariance_weight": 0.01}})
