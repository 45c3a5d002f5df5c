"""Aggregate on PACS with the paper's settings (dmg.txt, section 7.5).

  python -m dgjax.main --config=configs/aggregate_pacs.py --config.data.dir=FOLDER \
    --config.model.weights=resnet18.safetensors

The paper's overall accuracy on unseen domains, from ImageNet weights (Table 2):
AlexNet 68.38, ResNet-18 77.36, ResNet-50 78.38.
Variants: none (ResNet-18), `resnet50`, `alexnet`, `sgd` (ResNet-18, Aggregate-SGD), `small` (96 pixels).
"""

from ml_collections import ConfigDict

from dgjax import recipes


def get_config(variant: str | None = None) -> ConfigDict:
  """The config of a variant; see above."""
  return recipes.dmg_paper(variant, algorithm="aggregate", data="pacs")
