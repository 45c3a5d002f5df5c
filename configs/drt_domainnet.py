"""DRT on DomainNet, each domain in turn the unlabelled target of the others (DRT, section 4), and other methods.

  python -m dgjax.main --config=configs/drt_domainnet.py --config.data.dir=FOLDER \
    --config.model.weights=resnet101.safetensors
  python -m dgjax.main --config=configs/drt_domainnet.py:m3sda,static ...

The paper's mean accuracy (Table 2, and its ablations of `mcd`):

                 static  subspace
    aggregate      40.6      42.8
    adda           32.2      44.9
    mcd            38.5      49.7    k=2 48.8, k=6 49.5, k=8 49.3; with self_training 51.3
    m3sda          42.6      48.8

As released: ResNet-101 and MCD in one step (`shared.drt_mcd`, `shared.drt_training`), label smoothing 0.1 where
infograph or quickdraw is the target; the shorter side resized to 256, crops of 224, random in training and central in
evaluation; all of the training lists are trained on, so that there is no validation. The last epoch is reported.

Arguments: a method (default `mcd`; `aggregate` is source only); the residual, `subspace` (default), `channel`, `both`
or `static`; `k=4`, matrices of the subspace; `self_training`, DRT+ST: as long again, on confident target images too.
"""

from ml_collections import ConfigDict

from dgjax import config, shared
from dgjax.errors import UserError

METHODS = {
    "mcd": shared.drt_mcd() | shared.DRT_HEADS | {
        "by_target": "infograph,quickdraw:algorithm.label_smoothing=0.1"},
    "aggregate": {},
    "adda": {},
    "m3sda": shared.DRT_HEADS,
}
ARGUMENTS = {"method": METHODS, "residual": shared.RESIDUALS, "k": 4, "self_training": False}


def get_config(arg: str | None = None) -> ConfigDict:
  """The config of these arguments; see above."""
  arg = config.parse(arg, ARGUMENTS)
  c = config.default(algorithm=arg.method, model="resnet101", data="domainnet")
  c.report = "last"  # of source only as of the methods that adapt
  c.data.image_size = 224
  c.data.augment = "shorter"
  c.data.centre_crop = True
  c.data.val_fraction = 0.0
  c.model.dynamic_k = arg.k
  c.model.head_init = "normal_0.01"
  c.update_from_flattened_dict(METHODS[arg.method] | shared.RESIDUALS[arg.residual])
  shared.drt_training(c)
  if arg.self_training:
    if "self_training" not in c.algorithm:
      raise UserError(f"self_training needs target images that {arg.method} does not classify in training: use mcd or "
                      "m3sda")
    shared.drt_self_training(c)
  return c
