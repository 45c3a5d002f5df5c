"""WEMNet on VisDA-2017, from renderings to real images, with the settings of WEMNet, and the methods beside it.

  python -m dgjax.main --config=configs/wemnet_visda.py --config.data.dir=FOLDER \
    --config.model.weights=resnet101.safetensors
  python -m dgjax.main --config=configs/wemnet_visda.py:dann ...

The paper's mean over classes, `class_accuracy` in results.json: `source_only` 49.4, `dann` 57.4, `mstn` 65.0, `mcd`
71.9, `wemnet` 75.4, `wemnet_mstn` 74.6.

ResNet-101, 30 epochs; see `shared.wemnet_training`. All of the sources' images are trained on, so validation is of
images that were; the last step is reported. MCD is as in its released code for VisDA: source and target in one batch,
the trunk's SGD without momentum, class balance with weight 0.01.

Arguments: a method (default `wemnet`, both modules on DANN; `wemnet_mstn` is on MSTN; `source_only` is Aggregate);
`small`, ResNet-18 from scratch at 96 pixels.
"""

from ml_collections import ConfigDict

from dgjax import config, shared

METHODS = {
    **shared.WEMNET_METHODS,
    "mcd": {"algorithm.passes": "joint", "algorithm.generator_momentum": False, "algorithm.balance_weight": 0.01},
}
ARGUMENTS = {"method": METHODS, "small": False}


def get_config(arg: str | None = None) -> ConfigDict:
  """The config of these arguments; see above."""
  arg = config.parse(arg, ARGUMENTS)
  method = METHODS[arg.method]
  network = "resnet18" if arg.small else "resnet101"
  c = config.default(algorithm=method.get("algorithm.name", arg.method), model=network, data="visda2017")
  c.target = "real"
  c.report = "last"
  c.data.held_out = False
  c.data.image_size = 224
  c.data.augment = "visda"
  shared.wemnet_training(c, epochs=30, small=arg.small)
  c.update_from_flattened_dict(method)
  return c
