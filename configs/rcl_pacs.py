"""RCL on PACS, leave-one-domain-out, with the settings that dmg.txt, section 7.5, gives to all methods.

  python -m dgjax.main --config=configs/rcl_pacs.py --config.data.dir=FOLDER \
    --config.model.weights=resnet18.safetensors

Variants: none (ResNet-18), `resnet50`, `alexnet`, `small` (96 pixels).
"""

from ml_collections import ConfigDict

from dgjax import recipes


def get_config(variant: str | None = None) -> ConfigDict:
  """The config of a variant; see above."""
  return recipes.dmg_paper(variant, algorithm="rcl", data="pacs")
