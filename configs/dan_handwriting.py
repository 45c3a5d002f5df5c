"""DAN on characters of writers never seen (crossgrad.txt, section 4).

  python -m dgjax.main --config=configs/dan_handwriting.py --config.data.dir=FOLDER   # WRITER/CHARACTER/*

The paper's accuracy (Table 4): 83.8.
Variants: none (LeNet), `lenet4` (the released DAN's), `resnet` (two blocks).
"""

from ml_collections import ConfigDict

from dgjax import recipes


def get_config(variant: str | None = None) -> ConfigDict:
  """The config of a variant; see above."""
  return recipes.crossgrad_paper(variant, algorithm="dan", data="handwriting")
