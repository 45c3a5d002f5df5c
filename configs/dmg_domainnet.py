"""DMG on DomainNet, leave-one-domain-out, with the settings of DMG, section 7.5, and the methods beside it.

  python -m dgjax.main --config=configs/dmg_domainnet.py --config.data.dir=FOLDER \
    --config.model.weights=resnet18.safetensors
  python -m dgjax.main --config=configs/dmg_domainnet.py:aggregate,sgd ...

The paper's overall accuracy on unseen domains, from ImageNet weights (Table 1):

                     AlexNet  ResNet-18  ResNet-50
    dmg                31.15      39.00      43.63
    aggregate          28.60      37.71      40.54
    aggregate,sgd      27.97      38.25      44.00
    multi_headed       28.19      36.10      41.27

The paper's: Adam, batch 64, 50 epochs, learning rate 1e-4 for the network and for the masks, inverse decay, by step as
released (by epoch in the paper's footnote), no weight decay. The last layer starts from N(0, 0.001^2).

Arguments: a method (default `dmg`); a network, `resnet18`, `resnet50` or `alexnet`; `sgd`, by SGD at 1e-3, a rate that
the paper does not state.
"""

from ml_collections import ConfigDict

from dgjax import config

METHODS = {
    "dmg": {
        "algorithm.masks.placement": "paper",
        "algorithm.masks.init": "uniform",
        "algorithm.masks.training": "sample",
        "algorithm.overlap_weight": 0.1,
        "algorithm.overlap_reduction": "mean",
        "algorithm.sparsity_weight": 0.0,
        "algorithm.prediction": "pred_ens",
    },
    "aggregate": {},
    "multi_headed": {},
    # By SGD, which is all that the paper says, on batches with 64 examples of each source domain.
    "metareg": {"batch_size": 5 * 64, "data.mixing": "balanced", "optimizer.name": "sgd",
                "optimizer.learning_rate": 1e-3},
}
ARGUMENTS = {"method": METHODS, "network": ("resnet18", "resnet50", "alexnet"), "sgd": False}


def get_config(arg: str | None = None) -> ConfigDict:
  """The config of these arguments; see above."""
  arg = config.parse(arg, ARGUMENTS)
  c = config.default(algorithm=arg.method, model=arg.network, data="domainnet")
  c.data.image_size = 224
  c.data.augment = "domainnet"
  c.model.head_init = "normal"
  c.epochs = 50
  c.batch_size = 64
  c.optimizer.name = "adam"
  c.optimizer.learning_rate = 1e-4
  c.optimizer.weight_decay = 0.0
  c.optimizer.schedule.update({"name": "inverse", "clock": "step", "gamma": 1e-4, "power": 0.75})
  if arg.sgd:
    c.optimizer.name = "sgd"
    c.optimizer.learning_rate = 1e-3
  c.update_from_flattened_dict(METHODS[arg.method])
  return c
