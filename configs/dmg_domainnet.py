"""DMG on DomainNet with the paper's settings (dmg.txt, section 7.5).

  python -m dgjax.main --config=configs/dmg_domainnet.py --config.data.dir=FOLDER \
    --config.model.weights=resnet18.safetensors

The paper's overall accuracy on unseen domains, from ImageNet weights (Table 1):
AlexNet 31.15, ResNet-18 39.00, ResNet-50 43.63.
Variants: none (ResNet-18), `resnet50`, `alexnet`.
"""

from ml_collections import ConfigDict

from dgjax import recipes


def get_config(variant: str | None = None) -> ConfigDict:
  """The config of a variant; see above."""
  return recipes.dmg_paper(variant, algorithm="dmg", data="domainnet")
