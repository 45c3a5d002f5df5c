"""CrossGrad on words of speakers never seen (CrossGrad, section 4), and the methods beside it.

  python -m dgjax.main --config=configs/crossgrad_speech.py --config.data.dir=FOLDER
  python -m dgjax.main --config=configs/crossgrad_speech.py:labelgrad,speakers=40 ...

FOLDER is the speech commands archive as it unpacks. The paper's accuracy with 100 training speakers: `aggregate` 72.6
(Table 8), `dan` 70.4, `labelgrad` 72.7, `crossgrad` 73.5 (Table 4).

The paper's: SGD, 1e-3, then a tenth of it "after 15 iterations". It takes its network from TensorFlow's speech-commands
tutorial, whose recipe this is: gradient descent without momentum, 15,000 steps at 1e-3 and 3,000 at 1e-4, batch 100.

MFCCs come unscaled, as in the tutorial: the first coefficient is about -144, the others below 1. A perturbation is at
most epsilon * clip = 1 in the units of the input: for the first coefficient next to nothing, for the others more than
their range. With `scaled` every coefficient has mean 0 and deviation 1 over the training examples, and a perturbation
is at most a deviation.

Arguments: a method (default `crossgrad`; `aggregate` is ERM); `speakers=100`, how many to train on (Table 8: 40, 100,
200 and 1000); `scaled`.
"""

from ml_collections import ConfigDict

from dgjax import config, shared

ARGUMENTS = {"method": shared.CROSSGRAD_METHODS, "speakers": 100, "scaled": False}


def get_config(arg: str | None = None) -> ConfigDict:
  """The config of these arguments; see above."""
  arg = config.parse(arg, ARGUMENTS)
  c = config.default(algorithm=arg.method, model="kwsnet", data="speech_commands")
  c.target = "unseen"
  c.data.features = "mfcc"
  c.data.speakers = arg.speakers
  if arg.scaled:
    c.data.scaling = "standard"
  c.steps = 18_000
  c.eval_every = 1_000
  c.batch_size = 100
  c.optimizer.name = "sgd"
  c.optimizer.learning_rate = 1e-3
  c.optimizer.momentum = 0.0
  c.optimizer.schedule.update({"name": "exponential", "clock": "step", "period": 15_000, "decay": 0.1})
  c.update_from_flattened_dict(shared.CROSSGRAD_METHODS[arg.method])
  return c
