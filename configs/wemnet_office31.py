"""WEMNet on Office-31, from each domain to each, with the settings of WEMNet, and the methods beside it.

  python -m dgjax.main --config=configs/wemnet_office31.py --config.sources=each --config.data.dir=FOLDER \
    --config.model.weights=resnet50.safetensors
  python -m dgjax.main --config=configs/wemnet_office31.py:dann ...

`--config.sources=each` is the paper's, one source at a time; without it, all others are the sources. The paper's mean
accuracy: `source_only` 76.1, `dann` 82.2, `mstn` 86.5, `wemnet_dim` 85.5, `wemnet_sem` 85.6, `wemnet` 87.1,
`wemnet_mstn` 88.6.

ResNet-50, 20 epochs; see `shared.wemnet_training`. All of the sources' images are trained on, so validation is of
images that were; the last step is reported.

Arguments: a method (default `wemnet`, both modules on DANN; `wemnet_mstn` is on MSTN; `source_only` is Aggregate);
`small`, ResNet-18 from scratch at 96 pixels.
"""

from ml_collections import ConfigDict

from dgjax import config, shared

METHODS = shared.WEMNET_METHODS
ARGUMENTS = {"method": METHODS, "small": False}


def get_config(arg: str | None = None) -> ConfigDict:
  """The config of these arguments; see above."""
  arg = config.parse(arg, ARGUMENTS)
  method = METHODS[arg.method]
  network = "resnet18" if arg.small else "resnet50"
  c = config.default(algorithm=method.get("algorithm.name", arg.method), model=network, data="office31")
  c.report = "last"
  c.data.held_out = False
  c.data.image_size = 224
  c.data.augment = "office"
  shared.wemnet_training(c, epochs=20, small=arg.small)
  c.update_from_flattened_dict(method)
  return c
