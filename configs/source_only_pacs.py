"""Source only (Aggregate) on PACS with the settings of the methods that adapt, from three domains to the fourth.

  python -m dgjax.main --config=configs/source_only_pacs.py --config.data.dir=FOLDER \
    --config.model.weights=resnet18.safetensors

Variants: none (ResNet-18), `resnet50`, `small` (96 pixels).
"""

from ml_collections import ConfigDict

from dgjax import recipes


def get_config(variant: str | None = None) -> ConfigDict:
  """The config of a variant; see above."""
  return recipes.pacs_adaptation(variant, algorithm="aggregate")
