"""CrossGrad on characters of writers never seen (CrossGrad, section 4), and the methods beside it.

  python -m dgjax.main --config=configs/crossgrad_handwriting.py --config.data.dir=FOLDER   # WRITER/CHARACTER/*
  python -m dgjax.main --config=configs/crossgrad_handwriting.py:dan,lenet4 ...

The paper's accuracy (Table 4): `dan` 83.8, `labelgrad` 86.3, `crossgrad` 88.6.

Training is as `shared.crossgrad_training` says, for 50,000 steps, the last of which is evaluated in the released code,
here the one that `source_val` selects.

Arguments: a method (default `crossgrad`; `aggregate` is ERM); a network, `lenet3`, `lenet4` (the released DAN's) or
`resnet2`.
"""

from ml_collections import ConfigDict

from dgjax import config, shared

ARGUMENTS = {"method": shared.CROSSGRAD_METHODS, "network": ("lenet3", "lenet4", "resnet2")}


def get_config(arg: str | None = None) -> ConfigDict:
  """The config of these arguments; see above."""
  arg = config.parse(arg, ARGUMENTS)
  c = config.default(algorithm=arg.method, model=arg.network, data="handwriting")
  c.target = "unseen"
  c.data.image_size = 32
  c.data.augment = "none"
  if arg.network != "resnet2":
    c.model.head_init = "truncated"
  c.steps = 50_000
  c.eval_every = 1_000
  shared.crossgrad_training(c)
  c.update_from_flattened_dict(shared.CROSSGRAD_METHODS[arg.method])
  return c
