"""CrossGrad on digits turned by six angles, leave-one-angle-out (CrossGrad, section 4), and the methods beside it.

  python -m dgjax.main --config=configs/crossgrad_rotated_mnist.py --config.data.dir=FOLDER   # MNIST's IDX files
  python -m dgjax.main --config=configs/crossgrad_rotated_mnist.py:dan,digits                 # embedded, no data needed

The paper's accuracies with M0 to M75 unseen (Table 9); it has no row of ERM:

    crossgrad   88.3 98.6 98.0 97.7 97.7 91.4
    labelgrad   89.7 97.8 98.0 97.1 96.6 92.1
    dan         86.7 98.0 97.8 97.4 96.9 89.1

Training is as `shared.crossgrad_training` says; 5,000 steps are ours (30 passes over 5,400 images).

Arguments: a method (default `crossgrad`; `aggregate` is ERM); `digits`, the embedded digits for 1,000 steps.
"""

from ml_collections import ConfigDict

from dgjax import config, shared

ARGUMENTS = {"method": shared.CROSSGRAD_METHODS, "digits": False}


def get_config(arg: str | None = None) -> ConfigDict:
  """The config of these arguments; see above."""
  arg = config.parse(arg, ARGUMENTS)
  c = config.default(algorithm=arg.method, model="convnet2", data="rotated_digits" if arg.digits else "rotated_mnist")
  c.data.image_size = 16
  c.data.augment = "none"
  c.steps, c.eval_every = (1_000, 200) if arg.digits else (5_000, 500)
  shared.crossgrad_training(c)
  c.update_from_flattened_dict(shared.CROSSGRAD_METHODS[arg.method])
  return c
