"""MetaReg on PACS, leave-one-domain-out, with SGD, as dmg.txt, section 4.1, has it.

  python -m dgjax.main --config=configs/metareg_pacs.py --config.data.dir=FOLDER \
    --config.model.weights=resnet18.safetensors

Variants: none (ResNet-18), `resnet50`, `alexnet`, `small` (96 pixels).
"""

from ml_collections import ConfigDict

from dgjax import recipes


def get_config(variant: str | None = None) -> ConfigDict:
  """The config of a variant; see above."""
  return recipes.held_out_domains(variant, algorithm="metareg")
