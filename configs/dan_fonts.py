"""DAN on characters in fonts never seen (crossgrad.txt, section 4).

  python -m dgjax.main --config=configs/dan_fonts.py [--config.data.dir=FOLDER]

Without a folder of TTF or OTF files, the fonts that come with matplotlib are rendered. The paper's accuracy on its own
109 fonts (Table 4): 68.9.
Variants: none (LeNet), `lenet4` (the released DAN's), `resnet` (two blocks).
"""

from ml_collections import ConfigDict

from dgjax import recipes


def get_config(variant: str | None = None) -> ConfigDict:
  """The config of a variant; see above."""
  return recipes.crossgrad_paper(variant, algorithm="dan", data="fonts")
