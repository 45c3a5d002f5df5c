"""DRT with MCD on DomainNet, each domain in turn the unlabelled target of the others (drt.txt, section 4).

  python -m dgjax.main --config=configs/drt_domainnet.py --config.data.dir=FOLDER \
    --config.model.weights=resnet101.safetensors
  python -m dgjax.main --config=configs/drt_domainnet.py:k=8 ...

The paper's mean accuracy (its ablations): `k=4` 49.7, `k=2` 48.8, `k=6` 49.5, `k=8` 49.3, `static` 38.5.

ResNet-101 and MCD in one step; see `shared.drt_training`. The last epoch is reported.

Arguments: the residual, `subspace` (default), `channel`, `both` or `static` (MCD); `k=4`, matrices of the subspace.
"""

from ml_collections import ConfigDict

from dgjax import config, shared

ARGUMENTS = {"residual": shared.RESIDUALS, "k": 4}


def get_config(arg: str | None = None) -> ConfigDict:
  """The config of these arguments; see above."""
  arg = config.parse(arg, ARGUMENTS)
  c = config.default(algorithm="mcd", model="resnet101", data="domainnet")
  c.report = "last"
  c.data.image_size = 224
  c.data.augment = "domainnet"
  c.model.dynamic_k = arg.k
  c.update_from_flattened_dict(shared.drt_mcd() | shared.RESIDUALS[arg.residual])
  shared.drt_training(c)
  return c
