"""Training settings that a paper gives to all the methods it compares, so that configs differ in the method alone."""

from typing import Any

from ml_collections import ConfigDict

from dgjax import config


def dmg_paper(variant: str | None, *, algorithm: str, data: str) -> ConfigDict:
  """The settings of dmg.txt, section 7.5, for PACS or DomainNet.

  Adam, batch 64, 50 epochs, learning rate 1e-4 for the network and for the masks; the released configs train 100 or 150
  epochs on PACS. PACS: x0.99 per epoch, weight decay 1e-5, last layer as PyTorch starts it (the released Multi-Headed
  config alone starts it from N(0, 0.001^2)). DomainNet: inverse decay by step as released (by epoch in the paper's
  footnote), no weight decay, last layer from N(0, 0.001^2).

  Args:
    variant: the network, "" (ResNet-18), "resnet50" or "alexnet"; or "small", PACS at 96 pixels from scratch; or "sgd",
      Aggregate-SGD.
    algorithm: "aggregate", "multi_headed" or "dmg".
    data: "pacs" or "domainnet".

  Raises:
    UserError: there is no such variant.
  """
  models = {"": "resnet18", "resnet50": "resnet50", "alexnet": "alexnet"}
  if data == "pacs":
    models["small"] = "resnet18"
  if algorithm == "aggregate":
    models["sgd"] = "resnet18"
  c = config.default(algorithm=algorithm, model=config.variant(variant, models), data=data)
  c.epochs = 50
  c.batch_size = 64
  c.optimizer.learning_rate = 1e-4
  c.model.head_init = "normal" if data == "domainnet" or algorithm == "multi_headed" else "uniform"
  if data == "domainnet":
    c.optimizer.schedule.name = "inverse"
    c.optimizer.schedule.clock = "step"
  else:
    c.optimizer.schedule.name = "exponential"
    c.optimizer.weight_decay = 1e-5
  if algorithm == "dmg":
    c.optimizer.groups.masks = config.group("^masks/", learning_rate=1e-4, weight_decay=c.optimizer.weight_decay)
  if variant == "small":
    _from_scratch(c)
  if variant == "sgd":  # dmg.txt, Table 1; the learning rate is not stated, 1e-3 is ours
    c.optimizer.name = "sgd"
    c.optimizer.learning_rate = 1e-3
  return c


def _from_scratch(c: ConfigDict) -> None:
  """Images of 96 pixels and no published weights, for a machine without an accelerator.

  Learning rates are ten times the paper's, which are for fine-tuning, and the masks' a hundred times: at 1e-4 a mask
  logit that starts at 0.5 needs 5,000 updates to cross zero, more than such a machine does.
  """
  c.data.image_size = 96
  c.optimizer.learning_rate = 1e-3
  for name in c.optimizer.groups:
    c.optimizer.groups[name].learning_rate = 1e-2


def held_out_domains(variant: str | None, *, algorithm: str, data: str = "pacs") -> ConfigDict:
  """The settings of dmg.txt for MetaReg and MLDG, whose episodes hold out source domains: as `dmg_paper`, by SGD.

  Batches have 64 examples of each source domain. MLDG's rate, decay and schedule are its authors' for PACS; dmg.txt
  says that MetaReg needs SGD and no more, so its rate is that of `dmg_paper`'s Aggregate-SGD.

  Args:
    variant: as of `dmg_paper`, without "sgd".
    algorithm: "metareg" or "mldg".
    data: "pacs", which leaves three source domains.
  """
  c = dmg_paper(variant, algorithm=algorithm, data=data)
  c.batch_size = 3 * 64
  c.data.mixing = "balanced"
  c.optimizer.name = "sgd"
  c.optimizer.learning_rate = 1e-3
  if algorithm == "mldg":
    c.optimizer.learning_rate, c.optimizer.weight_decay = 5e-4, 5e-5
    c.optimizer.schedule = {"name": "exponential", "clock": "step", "period": 15_000, "decay": 0.1}
  return c


def digits(*, algorithm: str) -> ConfigDict:
  """Settings for the embedded digits, the same for every method; they are of no paper."""
  c = config.default(algorithm=algorithm, model="smallnet", data="digits")
  c.epochs = 15
  c.batch_size = 64
  c.optimizer.learning_rate = 2e-3
  c.optimizer.weight_decay = 1e-5
  if algorithm == "dmg":
    c.optimizer.groups.masks = config.group("^masks/", learning_rate=5e-2)
  return c


def digits_adaptation(*, algorithm: str) -> ConfigDict:
  """Settings for adaptation on the embedded digits, those of `digits` for all methods; they are of no paper.

  Every schedule is over the whole run, as runs are far shorter than the papers'.
  """
  c = digits(algorithm=algorithm)
  _ramps_over_the_run(c)
  return c


def _ramps_over_the_run(c: ConfigDict) -> None:
  """Ganin's schedule for every term that has one: the papers' lengths in steps are of longer runs."""
  for name in ("ramp", "semantic_ramp"):
    if name in c.algorithm:
      c.algorithm[name].slope, c.algorithm[name].length = 10.0, 0.0


def pacs_adaptation(variant: str | None, *, algorithm: str) -> ConfigDict:
  """The settings of wemnet.txt, and of TLL's DANN where it is silent, for PACS: three domains adapt to the fourth.

  wemnet.txt, section 3.2: SGD, momentum 0.9, learning rate 0.01, weight decay 1e-3. TLL's: Nesterov, the rate x
  (1 + 0.001 step)^-0.75, a tenth of it below the bottleneck of 256 units, a normalised discriminator, 32 source and
  32 target images a step, 20 epochs of 1,000 steps, evaluated after each. The paper's data are Office-31 and
  VisDA-2017; PACS is ours, where all of the target's images are used without labels.

  Args:
    variant: the network, "" (ResNet-18) or "resnet50"; or "small", 96 pixels from scratch: one learning rate for all
      parameters, 3,000 steps, and schedules over the whole run.
    algorithm: a method that adapts, or "aggregate", source only.

  Raises:
    UserError: there is no such variant.
  """
  model = config.variant(variant, {"": "resnet18", "resnet50": "resnet50", "small": "resnet18"})
  c = config.default(algorithm=algorithm, model=model, data="pacs")
  c.report = "last"  # of source only as of the methods that adapt
  _tll(c, epochs=20, small=variant == "small")
  return c


def _tll(c: ConfigDict, *, epochs: int, small: bool) -> None:
  """What `pacs_adaptation` says of training, for so many epochs; or of its "small"."""
  c.model.bottleneck = 256
  if "norm" in c.algorithm:
    c.algorithm.norm = True
  c.batch_size, c.steps, c.eval_every = 32, epochs * 1_000, 1_000
  c.optimizer.name, c.optimizer.learning_rate, c.optimizer.weight_decay = "sgd", 0.01, 1e-3
  c.optimizer.nesterov = True
  c.optimizer.schedule = {"name": "inverse", "clock": "step", "gamma": 1e-3, "power": 0.75}
  if small:
    c.data.image_size = 96
    c.steps, c.eval_every = 3_000, 250
    _ramps_over_the_run(c)
  else:
    c.optimizer.groups.backbone = config.group("^network/(?!bottleneck/|fc/)", learning_rate=1e-3, weight_decay=1e-3)


WEMNET_PAPER = {"office31": ("resnet50", 20), "visda2017": ("resnet101", 30)}
WEMNET_VARIANTS = {"mstn": {"base": "mstn"}, "dim": {"sem": False}, "sem": {"dim": False}}


def wemnet_paper(variant: str | None, *, algorithm: str, data: str,
                 settings: dict[str, dict[str, object]] | None = None) -> ConfigDict:
  """The settings of wemnet.txt, section 3.2, and of TLL's DANN where it is silent, for Office-31 or VisDA-2017.

  Training is as `pacs_adaptation` says, of ResNet-50 for 20 epochs or ResNet-101 for 30. All of the sources' images are
  trained on, so validation is of images that were; the last step is reported.

  Args:
    variant: "", "small" (ResNet-18 at 96 pixels, as of `pacs_adaptation`) or a key of `settings`.
    algorithm: a method that adapts.
    data: a key of WEMNET_PAPER.
    settings: variant -> settings of the method.

  Raises:
    UserError: there is no such variant.
  """
  chosen = config.variant(variant, {"": {}, "small": {}} | (settings or {}))
  model, epochs = WEMNET_PAPER[data]
  c = config.default(algorithm=algorithm, model="resnet18" if variant == "small" else model, data=data)
  c.algorithm.update(chosen)
  c.data.held_out = False
  if data == "visda2017":
    c.target = "real"
  _tll(c, epochs=epochs, small=variant == "small")
  return c


# MCD as in the released code of drt.txt.
DRT_MCD: dict[str, Any] = {"form": "one_step", "discrepancy_weight": 50.0, "reversal": 4.0, "balance_weight": 0.01,
           "label_smoothing": 0.01, "prediction": "max_logit"}
DRT_CLASSES = 345  # of DomainNet, which the released code is for


def drt_small(classes: int) -> dict[str, Any]:
  """DRT_MCD for short runs from scratch on few classes.

  The discrepancy is a mean over classes and at most 2 / classes, so that on ten a weight weighs 35 times what it does
  on 345. The paper states 50 for both; in runs of some hundred steps 50 keeps the heads from learning ten classes well
  (docs/results.md), and 50 * 10 / 345 does not.
  """
  return DRT_MCD | {"discrepancy_weight": DRT_MCD["discrepancy_weight"] * classes / DRT_CLASSES}


CROSSGRAD_DATA = {"fonts": "lenet3", "handwriting": "lenet3", "rotated_mnist": "convnet2", "speech_commands": "kwsnet"}


def crossgrad_paper(variant: str | None, *, algorithm: str, data: str) -> ConfigDict:
  """The settings of crossgrad.txt, section 4, and of its released code where the paper is silent.

  RMSProp, learning rate 0.02, x0.94 every second epoch, momentum 0.9, epsilon 1, gradients within +-0.1, L2 of 4e-5 on
  kernels; batch 32, 50,000 steps; the last step is evaluated in the code, here the one that `source_val` selects.
  Speech: SGD, 1e-3, then a tenth of it every 15 epochs (the paper: "after 15 iterations"), batch 100. Ours are: 5,000
  steps for rotated digits (30 passes over 5,400 images) and 30 epochs for speech.

  Args:
    variant: "" or the name of another network; "digits", with rotated_mnist only, for the embedded digits.
    algorithm: a method.
    data: a key of CROSSGRAD_DATA.

  Raises:
    UserError: there is no such variant.
  """
  models = {"": CROSSGRAD_DATA[data]}
  if data in ("fonts", "handwriting"):
    models |= {"lenet4": "lenet4", "resnet": "resnet2"}
  if data == "rotated_mnist":
    models["digits"] = models[""]
  model = config.variant(variant, models)
  c = config.default(algorithm=algorithm, model=model, data="rotated_digits" if variant == "digits" else data)
  c.steps, c.eval_every = 50_000, 1_000
  if data == "rotated_mnist":
    c.steps, c.eval_every = (1_000, 200) if variant == "digits" else (5_000, 500)
  elif data == "speech_commands":
    c.steps, c.epochs, c.eval_every = 0, 30, 0
    c.target = "unseen"
    c.batch_size = 100
    c.optimizer.name, c.optimizer.learning_rate = "sgd", 1e-3
    c.optimizer.schedule.name, c.optimizer.schedule.decay, c.optimizer.schedule.period = "exponential", 0.1, 15
    return c
  else:
    c.target = "unseen"
  c.batch_size = 32
  if "lenet" in model:
    c.model.head_init = "truncated"
  c.optimizer.name, c.optimizer.learning_rate = "rmsprop", 0.02
  c.optimizer.epsilon, c.optimizer.clip = 1.0, 0.1
  c.optimizer.groups.kernels = config.group("kernel$", learning_rate=0.02, weight_decay=4e-5)
  c.optimizer.schedule.name, c.optimizer.schedule.decay, c.optimizer.schedule.period = "exponential", 0.94, 2
  return c


def rcl_paper(variant: str | None, *, algorithm: str,
              settings: dict[str, dict[str, float]] | None = None) -> ConfigDict:
  """The settings of rcl.txt, section 5.1, for MNIST with missing patterns.

  SGD, learning rate 1e-3, Nesterov momentum 0.9, weight decay 1e-5, batch 128, 10 epochs, the step of the best
  validation accuracy; `--config.early_stop=0.95` for the rows "@95".

  Args:
    variant: "", a key of `settings`, or "digits" for the embedded digits (100 epochs, as they are few).
    algorithm: a method.
    settings: variant -> settings of the method.

  Raises:
    UserError: there is no such variant.
  """
  chosen = config.variant(variant, {"": {}, "digits": {}} | (settings or {}))
  c = config.default(algorithm=algorithm, model="mnistnet", data="digits_mp" if variant == "digits" else "mnist_mp")
  c.algorithm.update(chosen)
  c.target = "grey"
  c.epochs = 100 if variant == "digits" else 10
  c.batch_size = 128
  c.optimizer.name, c.optimizer.learning_rate, c.optimizer.weight_decay = "sgd", 1e-3, 1e-5
  c.optimizer.momentum, c.optimizer.nesterov = 0.9, True
  return c


DRT_VARIANTS = {"": {"dynamic": "subspace"}, "static": {"dynamic": "none"}, "channel": {"dynamic": "channel"},
                "both": {"dynamic": "both"},
                **{f"k{k}": {"dynamic": "subspace", "dynamic_k": k} for k in (2, 6, 8)}}
DRT_SMALL = {"small": DRT_VARIANTS[""], "small_static": DRT_VARIANTS["static"]}


def drt_paper(variant: str | None, *, data: str) -> ConfigDict:
  """The settings of drt.txt, section 4, and of its released code where the paper is silent: dynamic MCD in one step.

  ResNet-101, subspace of 4 matrices; SGD, momentum 0.9, weight decay 5e-4, learning rate 1e-3, ten times that for heads
  and residuals, a tenth after 5 and after 10 of 15 epochs; 64 source and 64 target images; heads with two hidden layers
  of 1,000 units. The last epoch is reported.

  Args:
    variant: "" (subspace, K = 4), "k2", "k6", "k8", "channel", "both" or "static", the paper's ablations; for PACS also
      "small" and "small_static", ResNet-18 at 96 pixels from scratch with the settings of `pacs_adaptation`'s "small".
    data: "pacs" or "domainnet".

  Raises:
    UserError: there is no such variant.
  """
  chosen = config.variant(variant, DRT_VARIANTS | (DRT_SMALL if data == "pacs" else {}))
  if variant in DRT_SMALL:
    c = pacs_adaptation("small", algorithm="mcd")
    c.algorithm.update(drt_small(classes=7))
  else:
    c = config.default(algorithm="mcd", model="resnet101", data=data)
    c.epochs, c.batch_size = 15, 64
    c.optimizer.name, c.optimizer.learning_rate, c.optimizer.weight_decay = "sgd", 1e-3, 5e-4
    c.optimizer.schedule = {"name": "exponential", "clock": "epoch", "period": 5, "decay": 0.1}
    c.optimizer.groups.fresh = config.group("^heads/|/dynamic/", learning_rate=1e-2, weight_decay=5e-4)
    c.algorithm.hidden = (1000, 1000)
    c.algorithm.update(DRT_MCD)
  c.model.update(chosen)
  return c


def digit_five(variant: str | None, *, algorithm: str,
               variants: dict[str, dict[str, object]] | None = None) -> ConfigDict:
  """The settings of drt.txt, section 4.1, for Digit-Five, each domain in turn the target of all others.

  SGD, learning rate 2e-3, a tenth after every 100 of 300 epochs. What the paper leaves open is taken from released
  code: network, batch of 128 and weight decay 5e-4 from M3SDA's and MCD's, momentum 0.9 from DRT's for DomainNet. MCD's
  heads have a hidden layer each, as in its code. Schedules of the losses are over the whole run.

  Args:
    variant: "", "drt" (every convolution dynamic, K = 4), or a key of `variants`; or "small" (ours, for a CPU), alone
      or as in "small_drt": a quarter of the widths, 2,000 images a domain, Adam at 1e-3, 10 epochs.
    algorithm: a method.
    variants: further ones -> settings of the network; small if so named.

  Raises:
    UserError: there is no such variant.
  """
  known = {"": {}, "drt": DRT_VARIANTS[""], "small": {}, "small_drt": DRT_VARIANTS[""]}
  chosen = config.variant(variant, known | (variants or {}))
  small = (variant or "").startswith("small")
  c = config.default(algorithm=algorithm, model="digitnet_small" if small else "digitnet", data="digit_five")
  c.model.update(chosen)
  c.report = "last"  # of source only as of the methods that adapt
  c.epochs, c.batch_size = 300, 128
  c.optimizer.name, c.optimizer.learning_rate, c.optimizer.weight_decay = "sgd", 2e-3, 5e-4
  c.optimizer.schedule = {"name": "exponential", "clock": "epoch", "period": 100, "decay": 0.1}
  if algorithm == "mcd":
    c.algorithm.head = "fc2"
  _ramps_over_the_run(c)
  if small:
    c.data.per_domain, c.data.rendered = 2_000, (2_000, 2_000)
    c.epochs, c.batch_size = 10, 64
    c.optimizer.name, c.optimizer.learning_rate, c.optimizer.weight_decay = "adam", 1e-3, 1e-5
    c.optimizer.schedule.name = "constant"
  return c
