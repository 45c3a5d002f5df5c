"""Opens finished runs from their folder alone: the experiment and the selected state."""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from dgjax import checkpoint, data
from dgjax.algorithms import Algorithm, TrainState
from dgjax.config import exchange, override
from dgjax.data import Dataset, decoding, files, transforms
from dgjax.data.dataset import array, picture
from dgjax.errors import UserError, nearest
from dgjax.evaluation.selection import RULES
from dgjax.experiment import Experiment, kept
from dgjax.files import read_json
from dgjax.folder import RESULTS

KEPT = {"source_val": "best", "last": "state"}  # rule -> the name under which a checkpoint has the state it selected


@dataclasses.dataclass(frozen=True)
class Run:
  """A finished run and one of its states. It predicts without the data that it was trained on.

  Attributes:
    folder: the run's folder.
    experiment: the parts of the run, on one device.
    results: the contents of its `results.json`.
    state: the selected state, without the optimiser's moments.
    rule: the rule that selected it.
    step: the number of updates after which it was selected.
  """

  folder: pathlib.Path
  experiment: Experiment
  results: Mapping[str, Any]
  state: TrainState
  rule: str
  step: int

  @property
  def config(self) -> ConfigDict:
    """The run's config, resolved."""
    return self.experiment.config

  @property
  def algorithm(self) -> Algorithm:
    """The method, with its network."""
    return self.experiment.algorithm

  @property
  def classes(self) -> tuple[str, ...]:
    """Names of the classes, in the order of `predict`'s columns."""
    return self.experiment.dataset.classes

  @property
  def sources(self) -> tuple[str, ...]:
    """The source domains.

    A batch's `domain` and the rows of masks count in this order (or in that of `dataset.groups`).
    """
    return self.experiment.sources

  @property
  def target(self) -> str:
    """The unseen domain, whose labels training did not see."""
    return self.experiment.target

  @functools.cached_property
  def dataset(self) -> Dataset:
    """The data set with its examples. It is prepared anew if this machine does not have it.

    Raises:
      UserError: the data are not where the config says, or are not those that the run was trained on.
    """
    known, named = self.experiment.dataset, self.config.data.name
    if known.name != data.find(named).builder.name:
      raise UserError(f"the run in {self.folder} was trained on {known.name!r}, a data set that was handed over, and "
                      f"not on the {named!r} of its config: hand it over again where it is needed")
    found = data.load(self.config.data, self.config.seed)
    if changed := [domain for domain, digest in known.digests.items() if found.digests.get(domain, "") != digest]:
      raise UserError(f"domain {changed[0]!r} of {found.name} is not what the run in {self.folder} was trained on: its "
                      "images, classes or splits are others, or the data were handed over")
    return found

  @functools.cached_property
  def members(self) -> tuple[str, ...]:
    """The domains of the method's members (such as DMG's masks), in order; empty for methods without members."""
    shape, _ = self.experiment.dataset.example(self.config.data.image_size)
    image = jax.ShapeDtypeStruct((1, *shape), np.float32)
    outputs = jax.eval_shape(self.algorithm.outputs, self.state, image)
    return self.experiment.members if "member/0" in outputs else ()

  def open_data(self, overrides: Sequence[str] = ()) -> Dataset:
    """Opens the run's data set, or another in its place.

    Args:
      overrides: `--config.data.KEY=VALUE` arguments, as in training; none: the run's own data set.

    Raises:
      UserError: an argument is of another kind, or the data cannot be used.
    """
    if not overrides:
      return self.dataset
    if others := [argument for argument in overrides if not argument.startswith("--config.data.")]:
      raise UserError(f"no argument {others[0]!r}: settings of the data are --config.data.KEY=VALUE")
    settings = self.config.copy_and_resolve_references()
    exchange(settings, overrides)
    override(settings, overrides)
    return data.load(settings.data, settings.seed)

  def read_image(self, path: pathlib.Path) -> np.ndarray:
    """Reads an image file as evaluation does: (h, w, c) uint8 of the run's size.

    Raises:
      UserError: the file cannot be read, or the run's examples are no images.
    """
    dataset = self.experiment.dataset
    if dataset.array_shape:
      raise UserError(f"the examples of {dataset.name} are arrays of shape {dataset.array_shape}, not images")
    try:
      image = decoding.decode(files.contents(path), dataset.channels)
    except Exception as error:  # Pillow's decoders raise what they happen to
      raise UserError(f"cannot read image {path} ({decoding.reason(error)})") from error
    return array(transforms.fit(image, self.config.data.image_size, dataset.centre_crop, dataset.keep_aspect))

  def normalise(self, batch: Mapping[str, Any]) -> dict[str, Any]:
    """Normalises the images of a batch (uint8) to what `algorithm` takes (float32)."""
    return self.experiment.normalise(batch)

  def outputs(self, images: np.ndarray, batch_size: int = 0) -> dict[str, np.ndarray]:
    """Class probabilities of images under every way that the method can predict for an unseen domain.

    Args:
      images: (n, h, w, c). uint8 images may have any size and are resized as in evaluation. float32 arrays have the
        shape that training took.
      batch_size: number of images at a time; the last batch is padded to it. 0: 256, or the next power of two for fewer
        images. Each size is compiled once.

    Returns:
      Way -> (n, classes) float32, with rows that sum to 1. `member/DOMAIN` is the way of one mask or head.

    Raises:
      UserError: the images have another shape or type than the run's.
    """
    fitted = self._fit(images)
    batch_size = batch_size or min(256, 1 << (len(fitted) - 1).bit_length())
    parts = []
    for start in range(0, len(fitted), batch_size):
      part = fitted[start:start + batch_size]
      padded = np.concatenate([part, np.zeros((batch_size - len(part), *part.shape[1:]), part.dtype)])
      probs = jax.device_get(self._probabilities(self.state, padded))
      parts.append({mode: value[:len(part)] for mode, value in probs.items()})
    return {mode: np.concatenate([part[mode] for part in parts]) for mode in parts[0]}

  def predict(self, images: np.ndarray, batch_size: int = 0) -> np.ndarray:
    """Class probabilities (n, classes) float32 of images, under the way that the run reports; see `outputs`."""
    return self.outputs(images, batch_size)[self.algorithm.prediction]

  @functools.cached_property
  def _probabilities(self) -> Any:
    def probabilities(state: TrainState, images: jax.Array) -> dict[str, jax.Array]:
      logits = self.algorithm.outputs(state, self.normalise({"image": images})["image"])
      return {mode: jax.nn.softmax(value) for mode, value in logits.items()}
    return jax.jit(probabilities)

  def _fit(self, images: np.ndarray) -> np.ndarray:
    """Checks images, and brings uint8 ones to the run's size."""
    shape, dtype = self.experiment.dataset.example(self.config.data.image_size)
    if images.ndim != 4 or images.shape[-1] != shape[-1] or not len(images):
      raise UserError(f"images must have the shape (n, h, w, {shape[-1]}), n at least 1; these have {images.shape}")
    if images.shape[1:] == shape and images.dtype == dtype:
      return images
    if images.dtype != np.uint8 or dtype != np.uint8:
      raise UserError(f"images must be {dtype} of shape (n, {', '.join(map(str, shape))}), as in training; these are "
                      f"{images.dtype} of shape {images.shape}")
    crop = self.experiment.dataset.centre_crop
    return np.stack([array(transforms.fit(picture(image), shape[0], crop)) for image in images])


def load(folder: pathlib.Path | str, rule: str = "") -> Run:
  """Opens a finished run on one device, wherever it ran. Its data need not be there.

  Args:
    folder: the run's folder.
    rule: which state: "source_val" or "last", the rules for which a run keeps a state; default: that of its report.

  Raises:
    UserError: there is no finished run in the folder, no such rule, or no sound checkpoint.
  """
  folder = pathlib.Path(folder).expanduser().absolute()
  path = folder / "results.json"
  if not path.exists():
    unfinished = (folder / "config.json").exists()
    raise UserError(f"{path} is not there: " + ("the run is not finished, start it again to go on with it" if unfinished
                                                else "give the folder of one run, that of one target domain"))
  results = read_json(path, "the results of the run", RESULTS)
  rule = rule or results["report"]["rule"]
  if rule not in RULES:
    raise UserError(f"no selection rule {rule!r}{nearest(rule, RULES)}")
  if rule not in results["selection"]:
    raise UserError(f"{path} has nothing that {rule} selected{nearest(rule, results['selection'])}")
  step = results["selection"][rule]["step"]
  names = {results["selection"][other]["step"]: name for other, name in KEPT.items() if other in results["selection"]}
  if step not in names:
    raise UserError(f"{folder} has no checkpoint of step {step}, which {rule} selected: runs keep those of "
                    f"{' and '.join(KEPT)} (steps {', '.join(map(str, sorted(names)))})")
  try:
    experiment = Experiment.from_record(ConfigDict(results["config"]), results)
    state = experiment.state_shapes()
  except (AttributeError, KeyError, TypeError, ValueError) as error:  # an UserError is none of these
    raise UserError(f"{path}, the results of the run, does not describe a run ({type(error).__name__}: {error}): put a "
                    "copy in its place, or delete it and start the run again") from error
  like = {"state": state, "best": kept(state)}
  trees, _ = checkpoint.read(folder / "checkpoints", results["step"], {names[step]: like[names[step]]})
  return Run(folder, experiment, results, kept(trees[names[step]]), rule, step)
