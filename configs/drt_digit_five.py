"""DRT on Digit-Five, from all other domains to each, with the settings of DRT, section 4.1, and other methods.

  python -m dgjax.main --config=configs/drt_digit_five.py --config.data.dir=FOLDER
  python -m dgjax.main --config=configs/drt_digit_five.py:m3sda,subspace ...

FOLDER holds MNIST's IDX files at least. The paper's mean accuracy (Table 3): `drt` 91.86; without residuals
`aggregate` 77.71, `mcd` 86.10, `m3sda` 87.65.

SGD, learning rate 2e-3, a tenth after every 100 of 300 epochs. What the paper leaves open is taken from released code:
network, batch of 128 and weight decay 5e-4 from M3SDA's and MCD's, momentum 0.9 from DRT's for DomainNet. Schedules of
the losses are over the whole run. All of the 25,000 images of a domain are trained on, so that there is no validation;
the last step is reported.

Arguments: a method (default `drt`, MCD in one step with weight 50, as in DRT and its released code; `mcd` has three
steps and its own weights, and its heads a hidden layer each, as in its code); a dynamic residual in every convolution,
`subspace`, `channel` or `both` (of `drt` also `static`), of a subspace with `k=4` matrices; `small` (ours, for a CPU):
a quarter of the widths, 2,000 images a domain, a tenth of them for validation, Adam at 1e-3, 10 epochs, and of `drt`
another weight (`shared.drt_mcd`).
"""

from ml_collections import ConfigDict

from dgjax import config, shared

METHODS = {
    "drt": shared.drt_mcd() | {"algorithm.head": "fc2", "model.dynamic": "subspace"},
    "aggregate": {},
    "dann": {},
    "mstn": {},
    "adda": {},
    "mcd": {"algorithm.head": "fc2"},
    "m3sda": {},
    "wemnet": {},
    "wemnet_mstn": {"algorithm.name": "wemnet", "algorithm.base": "mstn"},
}
ARGUMENTS = {"method": METHODS, "residual": {"": {}} | shared.RESIDUALS, "k": 4, "small": False}


def get_config(arg: str | None = None) -> ConfigDict:
  """The config of these arguments; see above."""
  arg = config.parse(arg, ARGUMENTS)
  method = METHODS[arg.method]
  network = "digitnet_small" if arg.small else "digitnet"
  c = config.default(algorithm=method.get("algorithm.name", arg.method), model=network, data="digit_five")
  c.report = "last"  # of source only as of the methods that adapt
  c.data.image_size = 32
  c.data.augment = "none"
  c.data.val_fraction = 0.0
  c.model.dynamic_k = arg.k
  c.epochs = 300
  c.batch_size = 128
  c.optimizer.name = "sgd"
  c.optimizer.learning_rate = 2e-3
  c.optimizer.momentum = 0.9
  c.optimizer.weight_decay = 5e-4
  c.optimizer.schedule.update({"name": "exponential", "clock": "epoch", "period": 100, "decay": 0.1})
  shared.ramps_over_the_run(c)
  c.update_from_flattened_dict(method | ARGUMENTS["residual"][arg.residual])
  if arg.small:
    c.data.per_domain, c.data.rendered, c.data.val_fraction = 2_000, (2_000, 2_000), 0.1
    c.epochs, c.batch_size = 10, 64
    c.optimizer.name, c.optimizer.learning_rate, c.optimizer.weight_decay = "adam", 1e-3, 1e-5
    c.optimizer.schedule.name = "constant"
    if arg.method == "drt":
      c.update_from_flattened_dict(shared.drt_mcd(classes=10))
  return c
