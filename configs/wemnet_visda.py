"""WEMNet on VisDA-2017, from renderings to real images, with wemnet.txt's settings.

  python -m dgjax.main --config=configs/wemnet_visda.py --config.data.dir=FOLDER \
    --config.model.weights=resnet101.safetensors

The paper's measure is `class_accuracy` in results.json.
Variants: none (ResNet-101), `mstn` (on MSTN), `small` (ResNet-18 at 96 pixels).
"""

from ml_collections import ConfigDict

from dgjax import recipes


def get_config(variant: str | None = None) -> ConfigDict:
  """The config of a variant; see above."""
  return recipes.wemnet_paper(variant, algorithm="wemnet", data="visda2017",
                              settings={"mstn": recipes.WEMNET_VARIANTS["mstn"]})
