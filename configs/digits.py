"""Any method on the embedded digits, leave-one-domain-out or from all other domains to each; nothing to download.

  python -m dgjax.main --config=configs/digits.py:METHOD

The settings are the same for every method and of no paper. Methods that adapt have schedules over the whole run, as
runs are far shorter than the papers'.

Arguments: a method (default `dmg`, which is `configs/dmg_digits.py`); a dynamic residual in every convolution,
`subspace`, `channel` or `both` (of `drt` also `static`), of a subspace with `k=4` matrices.
`mcd_one_step` is MCD as DRT's released code has it, on heads of one layer; `mcd_self_training` trains in the second
half of the run on confident target images too. `wemnet_mstn` is WEMNet on MSTN, `wemnet_dim` and `wemnet_sem` have one
of its modules.
"""

from ml_collections import ConfigDict

from dgjax import config, shared

METHODS = {
    "dmg": {"optimizer.roles.masks.rate": 25.0, "optimizer.roles.masks.decay": 0.0},
    "aggregate": {},
    "multi_headed": {},
    "mldg": {},
    "metareg": {},
    "crossgrad": {},
    "labelgrad": {},
    "dan": {},
    "rcl": {},
    "channel_dropout": {},
    "jigsaw": {},
    "reconstruction": {},
    "spectral_decoupling": {},
    "rsc": {},
    "dann": {},
    "mstn": {},
    "adda": {},
    "mcd": {},
    "mcd_one_step": shared.drt_mcd(),
    "mcd_self_training": {"algorithm.name": "mcd", "algorithm.self_training.rounds": 1},
    "m3sda": {},
    "drt": {"algorithm.name": "mcd", "model.dynamic": "subspace"},
    "wemnet": {},
    "wemnet_mstn": {"algorithm.name": "wemnet", "algorithm.base": "mstn"},
    "wemnet_dim": {"algorithm.name": "wemnet", "algorithm.sem": False},
    "wemnet_sem": {"algorithm.name": "wemnet", "algorithm.dim": False},
}
ARGUMENTS = {"method": METHODS, "residual": {"": {}} | shared.RESIDUALS, "k": 4}


def get_config(arg: str | None = None) -> ConfigDict:
  """The config of these arguments; see above."""
  arg = config.parse(arg, ARGUMENTS)
  method = METHODS[arg.method]
  c = config.default(algorithm=method.get("algorithm.name", arg.method), model="smallnet", data="digits")
  c.data.image_size = 16
  c.data.augment = "none"
  c.model.dynamic_k = arg.k
  c.epochs = 15
  c.batch_size = 64
  c.optimizer.name = "adam"
  c.optimizer.learning_rate = 2e-3
  c.optimizer.weight_decay = 1e-5
  if arg.method != "dan":  # CrossGrad's, which generalises; its ramp stays that of the released code
    shared.ramps_over_the_run(c)
  c.update_from_flattened_dict(method | ARGUMENTS["residual"][arg.residual])
  return c
