"""CrossGrad on words of speakers never seen (crossgrad.txt, section 4).

  python -m dgjax.main --config=configs/crossgrad_speech.py --config.data.dir=FOLDER --config.data.speakers=100

FOLDER is the speech commands archive as it unpacks. The paper's accuracy with 100 training speakers (Table 4): 73.5.
No variants.
"""

from ml_collections import ConfigDict

from dgjax import recipes


def get_config(variant: str | None = None) -> ConfigDict:
  """The config; see above."""
  return recipes.crossgrad_paper(variant, algorithm="crossgrad", data="speech_commands")
