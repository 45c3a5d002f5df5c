"""DMG on PACS with the paper's settings (dmg.txt, section 7.5).

  python -m dgjax.main --config=configs/dmg_pacs.py --config.data.dir=FOLDER \
    --config.model.weights=resnet18.safetensors

The paper's overall accuracy on unseen domains, from ImageNet weights (Table 2):
AlexNet 73.32, ResNet-18 81.46, ResNet-50 83.37.
Variants: none (ResNet-18), `resnet50`, `alexnet`, `small` (96 pixels).
"""

from ml_collections import ConfigDict

from dgjax import recipes


def get_config(variant: str | None = None) -> ConfigDict:
  """The config of a variant; see above."""
  return recipes.dmg_paper(variant, algorithm="dmg", data="pacs")
