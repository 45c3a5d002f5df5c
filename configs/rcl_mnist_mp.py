"""RCL on MNIST with missing patterns: trained on coloured digits, tested on grey (RCL, section 5.1).

  python -m dgjax.main --config=configs/rcl_mnist_mp.py --config.data.dir=FOLDER   # MNIST's IDX files
  python -m dgjax.main --config=configs/rcl_mnist_mp.py:jigsaw ...
  python -m dgjax.main --config=configs/rcl_mnist_mp.py:m=inf,digits               # embedded digits, no data needed

The paper's accuracy on grey digits (Table 2): `aggregate` 26.0, `rcl` with `m=0.2` 12.5, `m=0.4` 19.9, `m=0.6` 36.8,
`m=0.8` 55.7, `m=0.9` 68.2, `m=inf` 89.9; `channel_dropout` 31.9, with orthogonality 42.7, with covariance 42.6;
`jigsaw` 43.0; `reconstruction` 28.5; `spectral_decoupling` 47.7; `rsc` 43.5.

SGD, learning rate 1e-3, Nesterov momentum 0.9, weight decay 1e-5, batch 128, 10 epochs, the step of the best validation
accuracy; `--config.early_stop=0.95` for the rows "@95".

Arguments: a method (default `rcl`); `m=0.9`, RCL's margin; `digits`, the embedded digits (100 epochs, as they are few).
"""

from ml_collections import ConfigDict

from dgjax import config
from dgjax.errors import UserError

METHODS = {
    "rcl": {"algorithm.contrastive_weight": 1.0, "algorithm.rescale": "batch", "algorithm.reduction": "sum"},
    "aggregate": {},
    "channel_dropout": {},
    "channel_dropout_orthogonality": {"algorithm.name": "channel_dropout", "algorithm.orthogonality_weight": 1.0},
    "channel_dropout_covariance": {"algorithm.name": "channel_dropout", "algorithm.covariance_weight": 0.01},
    "jigsaw": {"algorithm.jigsaw_weight": 10.0},
    "reconstruction": {"algorithm.reconstruction_weight": 1.0},
    "spectral_decoupling": {"algorithm.logit_weight": 5.0, "algorithm.form": "mean"},
    "rsc": {"algorithm.form": "channel"},
}
ARGUMENTS = {"method": METHODS, "m": 0.9, "digits": False}


def get_config(arg: str | None = None) -> ConfigDict:
  """The config of these arguments; see above."""
  arg = config.parse(arg, ARGUMENTS)
  method = METHODS[arg.method]
  c = config.default(algorithm=method.get("algorithm.name", arg.method), model="mnistnet",
                     data="digits_mp" if arg.digits else "mnist_mp")
  c.target = "grey"
  c.data.image_size = 16 if arg.digits else 32
  c.data.augment = "none"
  c.data.input_range = "unit"
  c.epochs = 100 if arg.digits else 10
  c.batch_size = 128
  c.optimizer.name = "sgd"
  c.optimizer.learning_rate = 1e-3
  c.optimizer.momentum = 0.9
  c.optimizer.nesterov = True
  c.optimizer.weight_decay = 1e-5
  c.update_from_flattened_dict(method)
  if arg.method == "rcl":
    c.algorithm.margin = arg.m
  elif arg.m != ARGUMENTS["m"]:
    raise UserError(f"m={arg.m:g} is RCL's margin, and {arg.method} has none: leave it out")
  return c
