"""DRT with MCD on PACS, each domain in turn the unlabelled target of the others (drt.txt, section 4).

  python -m dgjax.main --config=configs/drt_pacs.py --config.data.dir=FOLDER \
    --config.model.weights=resnet101.safetensors

Variants: none (subspace, K = 4), `k2`, `k6`, `k8`, `channel`, `both`, `static`; `small` and `small_static`
(ResNet-18 at 96 pixels, from scratch; the weight is another: `recipes.drt_small`).
"""

from ml_collections import ConfigDict

from dgjax import recipes


def get_config(variant: str | None = None) -> ConfigDict:
  """The config of a variant; see above."""
  return recipes.drt_paper(variant, data="pacs")
