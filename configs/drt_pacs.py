"""DRT with MCD on PACS, each domain in turn the unlabelled target of the others, as DRT has it for DomainNet.

  python -m dgjax.main --config=configs/drt_pacs.py --config.data.dir=FOLDER \
    --config.model.weights=resnet101.safetensors
  python -m dgjax.main --config=configs/drt_pacs.py:static ...

ResNet-101 and MCD in one step; see `shared.drt_training`. The last epoch is reported. PACS is ours. From scratch, for a
machine without an accelerator, and beside other methods that adapt: `configs/wemnet_pacs.py:drt,small`.

Arguments: the residual, `subspace` (default), `channel`, `both` or `static` (MCD); `k=4`, matrices of the subspace;
`self_training`, DRT+ST: as long again, on confident target images too.
"""

from ml_collections import ConfigDict

from dgjax import config, shared

ARGUMENTS = {"residual": shared.RESIDUALS, "k": 4, "self_training": False}


def get_config(arg: str | None = None) -> ConfigDict:
  """The config of these arguments; see above."""
  arg = config.parse(arg, ARGUMENTS)
  c = config.default(algorithm="mcd", model="resnet101", data="pacs")
  c.report = "last"
  c.data.image_size = 224
  c.data.augment = "paper"
  c.model.dynamic_k = arg.k
  c.model.head_init = "normal_0.01"
  c.update_from_flattened_dict(shared.drt_mcd() | shared.DRT_HEADS | shared.RESIDUALS[arg.residual])
  shared.drt_training(c)
  if arg.self_training:
    shared.drt_self_training(c)
  return c
