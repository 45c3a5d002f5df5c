"""CrossGrad on words of speakers never seen (crossgrad.txt, section 4), and the methods beside it.

  python -m dgjax.main --config=configs/crossgrad_speech.py --config.data.dir=FOLDER --config.data.speakers=100
  python -m dgjax.main --config=configs/crossgrad_speech.py:labelgrad ...

FOLDER is the speech commands archive as it unpacks. The paper's accuracy with 100 training speakers: `aggregate` 72.6
(Table 8), `dan` 70.4, `labelgrad` 72.7, `crossgrad` 73.5 (Table 4).

The paper's: SGD, 1e-3, then a tenth of it "after 15 iterations", here every 15 epochs. 30 epochs and the batch of 100
are ours.

Arguments: a method (default `crossgrad`; `aggregate` is ERM).
"""

from ml_collections import ConfigDict

from dgjax import config, shared

ARGUMENTS = {"method": shared.CROSSGRAD_METHODS}


def get_config(arg: str | None = None) -> ConfigDict:
  """The config of these arguments; see above."""
  arg = config.parse(arg, ARGUMENTS)
  c = config.default(algorithm=arg.method, model="kwsnet", data="speech_commands")
  c.target = "unseen"
  c.data.features = "mfcc"
  c.epochs = 30
  c.batch_size = 100
  c.optimizer.name = "sgd"
  c.optimizer.learning_rate = 1e-3
  c.optimizer.momentum = 0.9
  c.optimizer.schedule.update({"name": "exponential", "clock": "epoch", "period": 15, "decay": 0.1})
  c.update_from_flattened_dict(shared.CROSSGRAD_METHODS[arg.method])
  return c
