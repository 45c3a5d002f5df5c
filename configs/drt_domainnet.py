"""DRT with MCD on DomainNet, each domain in turn the unlabelled target of the others (drt.txt, section 4).

  python -m dgjax.main --config=configs/drt_domainnet.py --config.data.dir=FOLDER \
    --config.model.weights=resnet101.safetensors

The paper's mean accuracy (its ablations): K = 4 49.7, K = 2 48.8, K = 6 49.5, K = 8 49.3, static 38.5.

Variants: none (subspace, K = 4), `k2`, `k6`, `k8`, `channel`, `both`, `static`.
"""

from ml_collections import ConfigDict

from dgjax import recipes


def get_config(variant: str | None = None) -> ConfigDict:
  """The config of a variant; see above."""
  return recipes.drt_paper(variant, data="domainnet")
