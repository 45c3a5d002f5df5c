"""WEMNet on PACS, each domain in turn the unlabelled target of the three others, and other methods that adapt.

  python -m dgjax.main --config=configs/wemnet_pacs.py --config.data.dir=FOLDER \
    --config.model.weights=resnet18.safetensors
  python -m dgjax.main --config=configs/wemnet_pacs.py:mcd ...

All methods train alike, with WEMNet's settings (`shared.wemnet_training`), so that a table tells the methods apart.
The paper's data are Office-31 and VisDA-2017; PACS is ours, where all of the target's images are used without labels.
MCD passes source and target one after the other, as by default; `configs/wemnet_visda.py` has them in one batch.

Arguments: a method (default `wemnet`; `source_only` is Aggregate under the same settings, `drt` is MCD in one step with
dynamic residuals); a network, `resnet18` or `resnet50`; a dynamic residual of its convolutions, `subspace`, `channel`
or `both` (of `drt` also `static`), of a subspace with `k=4` matrices; `small`, from scratch at 96 pixels.
"""

from ml_collections import ConfigDict

from dgjax import config, shared

METHODS = {
    "wemnet": {"algorithm.norm": True},
    "source_only": {"algorithm.name": "aggregate"},
    "dann": {"algorithm.norm": True},
    "mstn": {"algorithm.norm": True},
    "adda": {"algorithm.norm": True},
    "mcd": {},
    "m3sda": {},
    "drt": shared.drt_mcd(classes=7) | {"model.dynamic": "subspace"},
}
ARGUMENTS = {"method": METHODS, "network": ("resnet18", "resnet50"), "residual": {"": {}} | shared.RESIDUALS, "k": 4,
             "small": False}


def get_config(arg: str | None = None) -> ConfigDict:
  """The config of these arguments; see above."""
  arg = config.parse(arg, ARGUMENTS)
  method = METHODS[arg.method]
  c = config.default(algorithm=method.get("algorithm.name", arg.method), model=arg.network, data="pacs")
  c.report = "last"  # of source only as of the methods that adapt
  c.data.image_size = 224
  c.data.augment = "paper"
  c.model.dynamic_k = arg.k
  shared.wemnet_training(c, epochs=20, small=arg.small)
  c.update_from_flattened_dict(method | ARGUMENTS["residual"][arg.residual])
  return c
