"""RCL on MNIST with missing patterns: trained on coloured digits, tested on grey (rcl.txt, 5.1).

  python -m dgjax.main --config=configs/rcl_mnist_mp.py --config.data.dir=FOLDER   # MNIST's IDX files
  python -m dgjax.main --config=configs/rcl_mnist_mp.py:digits   # embedded, no data needed

The paper's accuracy on grey digits (Table 2): 68.2 (m = 0.9), 89.9 (m = inf).
Variants: none (MNIST, m = 0.9), `m0.2` to `m0.9` and `minf`, `digits`.
"""

from ml_collections import ConfigDict

from dgjax import recipes

MARGINS = ("0.2", "0.4", "0.6", "0.8", "0.9", "inf")


def get_config(variant: str | None = None) -> ConfigDict:
  """The config of a variant; see above."""
  return recipes.rcl_paper(variant, algorithm="rcl",
                           settings={f"m{margin}": {"margin": float(margin)} for margin in MARGINS})
