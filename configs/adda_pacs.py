"""ADDA on PACS, each domain in turn the unlabelled target of the three others.

  python -m dgjax.main --config=configs/adda_pacs.py --config.data.dir=FOLDER \
    --config.model.weights=resnet18.safetensors

Variants: none (ResNet-18), `resnet50`, `small` (96 pixels).
"""

from ml_collections import ConfigDict

from dgjax import recipes


def get_config(variant: str | None = None) -> ConfigDict:
  """The config of a variant; see above."""
  return recipes.pacs_adaptation(variant, algorithm="adda")
