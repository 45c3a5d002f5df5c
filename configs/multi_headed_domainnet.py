"""Multi-Headed on DomainNet with the paper's settings (dmg.txt, section 7.5).

  python -m dgjax.main --config=configs/multi_headed_domainnet.py --config.data.dir=FOLDER \
    --config.model.weights=resnet18.safetensors

The paper's overall accuracy on unseen domains, from ImageNet weights (Table 1):
AlexNet 28.19, ResNet-18 36.10, ResNet-50 41.27.
Variants: none (ResNet-18), `resnet50`, `alexnet`.
"""

from ml_collections import ConfigDict

from dgjax import recipes


def get_config(variant: str | None = None) -> ConfigDict:
  """The config of a variant; see above."""
  return recipes.dmg_paper(variant, algorithm="multi_headed", data="domainnet")
