"""MSTN on VisDA-2017, from renderings to real images, with wemnet.txt's settings.

  python -m dgjax.main --config=configs/mstn_visda.py --config.data.dir=FOLDER \
    --config.model.weights=resnet101.safetensors

The paper's measure is `class_accuracy` in results.json.
Variants: none (ResNet-101), `small` (ResNet-18 at 96 pixels).
"""

from ml_collections import ConfigDict

from dgjax import recipes


def get_config(variant: str | None = None) -> ConfigDict:
  """The config of a variant; see above."""
  return recipes.wemnet_paper(variant, algorithm="mstn", data="visda2017")
