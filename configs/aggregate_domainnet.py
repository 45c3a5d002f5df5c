"""Aggregate on DomainNet with the paper's settings (dmg.txt, section 7.5).

  python -m dgjax.main --config=configs/aggregate_domainnet.py --config.data.dir=FOLDER \
    --config.model.weights=resnet18.safetensors

The paper's overall accuracy on unseen domains, from ImageNet weights (Table 1):
AlexNet 28.60, ResNet-18 37.71, ResNet-50 40.54; with SGD 27.97, 38.25, 44.00.
Variants: none (ResNet-18), `resnet50`, `alexnet`, `sgd` (ResNet-18, Aggregate-SGD).
"""

from ml_collections import ConfigDict

from dgjax import recipes


def get_config(variant: str | None = None) -> ConfigDict:
  """The config of a variant; see above."""
  return recipes.dmg_paper(variant, algorithm="aggregate", data="domainnet")
