"""DANN on Office-31, each domain in turn the unlabelled target of the two others, with wemnet.txt's settings.

  python -m dgjax.main --config=configs/dann_office31.py --config.data.dir=FOLDER \
    --config.model.weights=resnet50.safetensors

One source at a time, as in the paper's tables: `--config.sources=each`.
Variants: none (ResNet-50), `small` (ResNet-18 at 96 pixels).
"""

from ml_collections import ConfigDict

from dgjax import recipes


def get_config(variant: str | None = None) -> ConfigDict:
  """The config of a variant; see above."""
  return recipes.wemnet_paper(variant, algorithm="dann", data="office31")
