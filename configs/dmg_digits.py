"""DMG on the embedded digits, leave-one-domain-out: the quickest look at the library; nothing to download.

  python -m dgjax.main --config=configs/dmg_digits.py

Four runs, one per unseen domain. The learning rate of the masks is higher than the paper's 1e-4: with that, a mask
logit that starts at 0.5 needs 5,000 updates to cross zero, and runs as short as these would show masks that are all on.
The same data with every other method: `configs/digits.py`.
"""

from ml_collections import ConfigDict

from dgjax import config


def get_config(arg: str | None = None) -> ConfigDict:
  """The config; it has no arguments."""
  config.parse(arg, {})
  c = config.default(algorithm="dmg", model="smallnet", data="digits")
  c.algorithm.masks.update({"placement": "paper", "init": "uniform", "training": "sample"})
  c.algorithm.overlap_weight = 0.1
  c.algorithm.prediction = "pred_ens"
  c.data.image_size = 16
  c.data.augment = "none"
  c.epochs = 15
  c.batch_size = 64
  c.optimizer.name = "adam"
  c.optimizer.learning_rate = 2e-3
  c.optimizer.weight_decay = 1e-5
  c.optimizer.roles.masks.update({"rate": 25.0, "decay": 0.0})
  return c
