"""Draws a run's images in the plane, by t-SNE or PCA of the input of a stage of its network.

  python -m dgjax.analysis.embed RUN [--of=STAGE,...] [--by=domain,class,correct] [--how=tsne|pca] [--moved=DOMAIN]

There is a panel for each part of --of and each of --by. A part is the name of a stage, whose input is taken, or one of
- `embedding` (the default) and `features`: the input of the network's head, and its last convolutional map;
- `g`: CrossGrad's embedding of domains;
- `coefficients`: what the attention branches of a dynamic network say of each image; `coefficients/low` and
  `coefficients/high`: those of the first and of the second half of its layers.
"""

import dataclasses
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from dgjax import console, runs
from dgjax.algorithms.crossgrad import CrossGrad
from dgjax.analysis import coefficients, command
from dgjax.analysis.moved import move
from dgjax.analysis.plane import points_in_plane
from dgjax.analysis.style import save
from dgjax.data import pipeline
from dgjax.errors import UserError, nearest
from dgjax.runs import Run

BY = ("domain", "class", "correct")
HOW = {"tsne": "t-SNE", "pca": "PCA"}  # by name: as a figure has it
COMPONENTS = 50  # that PCA leaves to t-SNE, as is usual
BATCH = 64


@dataclasses.dataclass(frozen=True)
class Sample:
  """Images of a run's domains.

  Attributes:
    images: (n, h, w, c) float32, normalised.
    labels: (n,) int32, classes.
    domains: name of each image's domain; of moved images with ", moved" behind it.
    indices: (n,) int32, the domain as an index of the run's sources; 0 for the target.
  """

  images: np.ndarray
  labels: np.ndarray
  domains: tuple[str, ...]
  indices: np.ndarray

  def of(self, domain: str) -> "Sample":
    """The images of one domain."""
    taken = np.array([name == domain for name in self.domains])
    return Sample(self.images[taken], self.labels[taken], (domain,) * int(taken.sum()), self.indices[taken])

  def __add__(self, other: "Sample") -> "Sample":
    both = ((getattr(self, name), getattr(other, name)) for name in ("images", "labels", "indices"))
    images, labels, indices = map(np.concatenate, both)
    return Sample(images, labels, self.domains + other.domains, indices)


def sample(run: Run, domains: Sequence[str] = (), split: str = "test", count: int = 600, seed: int = 0) -> Sample:
  """Draws images of a run's domains, equally many of each.

  Args:
    run: a finished run whose data are at hand.
    domains: which; default: its sources and its target.
    split: "train", "val" or "test".
    count: of all domains together; fewer where there are no more.
    seed: draws them.

  Raises:
    UserError: the run has no such domain, or the split is empty.
  """
  known = (*run.sources, run.target)
  found = []
  for domain in domains or known:
    if domain not in known:
      raise UserError(f"the run has no domain {domain!r}{nearest(domain, known)}")
    index = run.sources.index(domain) if domain in run.sources else 0
    examples = pipeline.evaluate(run.dataset, domain, split, batch_size=1, image_size=run.config.data.image_size,
                                 domain_index=index)
    each = max(1, count // len(domains or known))
    chosen = np.random.default_rng(seed).permutation(examples.examples)[:each]
    batches = [examples.batches[int(i)] for i in np.sort(chosen)]
    images = np.concatenate([batch["image"] for batch in batches])
    found.append(Sample(np.asarray(run.normalise({"image": images})["image"]),
                        np.concatenate([batch["label"] for batch in batches]), (domain,) * len(batches),
                        np.full(len(batches), index, np.int32)))
  return sum(found[1:], found[0])


def moved(run: Run, images: Sample) -> Sample:
  """The images of a sample as CrossGrad or LabelGrad moves them; see `moved.move`."""
  if run.dataset.groups or any(name not in run.sources for name in images.domains):
    raise UserError(f"images are moved away from a source domain: choose from {', '.join(run.sources)}")
  return dataclasses.replace(images, images=move(run, images.images, images.labels, images.indices),
                             domains=tuple(f"{name}, moved" for name in images.domains))


def vectors(run: Run, images: Sample, part: str = "embedding") -> np.ndarray:
  """What a part of a run's network makes of images, in evaluation; of DMG without masks.

  Args:
    run: a finished run.
    images: as `sample` gives them.
    part: see the top of this file.

  Returns:
    (n, units) float32; maps are flattened.

  Raises:
    UserError: the network has no such part.
  """
  algorithm, name = run.algorithm, "network"
  network = algorithm.network
  if part.startswith("coefficients"):
    half = part.removeprefix("coefficients").removeprefix("/")
    if half not in ("", "low", "high"):
      raise UserError(f"--of={part}: use coefficients, coefficients/low or coefficients/high")
    variables = {kind: getattr(run.state, kind)["network"] for kind in ("params", "batch_stats")}
    found = coefficients.collect(network, variables, [{"image": images.images[i:i + BATCH]}
                                                      for i in range(0, len(images.images), BATCH)])
    return coefficients.vectors(found[next(kind for kind in coefficients.KINDS if kind in found)], half)
  if part == "g":
    if not isinstance(algorithm, CrossGrad):
      raise UserError(f"--of=g is CrossGrad's embedding of domains, and this run is of {run.config.algorithm.name}")
    name, network = "domain_network", algorithm.domain_network
  stage = {"embedding": network.embedding, "g": network.embedding, "features": network.features}.get(part, part)
  network.index(stage)
  return _batched(jax.jit(lambda state, x: algorithm.evaluate(state, x, stop=stage, name=name)), run, images)


def right(run: Run, images: Sample) -> np.ndarray:
  """Whether each image is classified rightly, in the way that the run is scored; (n,) bool."""
  logits = _batched(jax.jit(run.algorithm.predict), run, images)
  return logits.argmax(-1) == images.labels


def _batched(function: Any, run: Run, images: Sample) -> np.ndarray:
  """A jitted function of the state and of images, called with batches of one size; rows flattened."""
  parts = []
  for i in range(0, len(images.images), BATCH):
    part = images.images[i:i + BATCH]
    padded = np.concatenate([part, np.zeros((BATCH - len(part), *part.shape[1:]), part.dtype)])
    parts.append(np.asarray(function(run.state, padded), np.float32).reshape(BATCH, -1)[:len(part)])
  return np.concatenate(parts)


def plane(points: np.ndarray, how: str = "tsne", seed: int = 0, perplexity: float = 30.0) -> np.ndarray:
  """Places points in the plane.

  Args:
    points: (n, units); at least 2.
    how: "tsne", of the first 50 principal components; or "pca", the first two of these.
    seed: of t-SNE's solver.
    perplexity: t-SNE's effective number of neighbours; lowered to a third of the other points where there are few.

  Returns:
    (n, 2) float32; of points that are all alike, zeros.

  Raises:
    UserError: fewer than 2 points, or another way.
  """
  if how not in HOW:
    raise UserError(f"no way {how!r} to place points{nearest(how, HOW)}")
  if len(points) < 2:
    raise UserError(f"{len(points)} images: there must be at least 2 to place in the plane")
  points = np.asarray(points, np.float32)
  if not np.ptp(points, axis=0).any():  # as of a branch that says the same of every image; t-SNE would crash
    return np.zeros((len(points), 2), np.float32)
  if points.shape[1] < 2:
    points = np.pad(points, ((0, 0), (0, 1)))
  if how == "pca":
    return PCA(2, random_state=seed).fit_transform(points).astype(np.float32)
  if min(points.shape) > COMPONENTS:
    points = PCA(COMPONENTS, random_state=seed).fit_transform(points)
  few = max(1.0, (len(points) - 1) / 3)
  with threadpool_limits(1):  # its threads wait for each other by spinning, which takes minutes on a busy machine
    return TSNE(perplexity=min(perplexity, few), init="pca", random_state=seed).fit_transform(points)


def draw(run: Run, images: Sample, parts: Sequence[str] = ("embedding",), by: Sequence[str] = BY[:2],
         how: str = "tsne") -> Any:
  """The figure of images in the plane.

  Args:
    run: a finished run.
    images: as `sample` gives them.
    parts: of the network, as `vectors` takes them.
    by: what colours the points, of BY; "correct" makes crosses of the wrong ones, and colours where it is alone.
    how: as of `plane`.

  Returns:
    A panel for each part and each of `by`.

  Raises:
    UserError: a name is not known.
  """
  for name in by:
    if name not in BY:
      raise UserError(f"--by: no {name!r}{nearest(name, BY)}")
  marks = right(run, images) if "correct" in by else None
  names = {"domain": images.domains, "class": tuple(run.classes[label] for label in images.labels)}
  if marks is not None:
    names["correct"] = tuple("right" if mark else "wrong" for mark in marks)
  panels = {}
  for part in parts:
    points = plane(vectors(run, images, part), how)
    for name in [name for name in by if name != "correct"] or by:
      alike = "" if points.any() else " (all alike)"
      panels[f"{HOW[how]} of {part}, by {name}{alike}"] = (points, names[name])
  return points_in_plane(panels, marks, (*run.sources, run.target, *run.classes, "right", "wrong"))


def main(argv: Sequence[str]) -> None:
  """Draws the figure of one run; see the top of this file."""
  parser = command.parser("embed", __doc__)
  parser.add_argument("run", type=pathlib.Path, help="folder of one finished run")
  parser.add_argument("--of", default="embedding", metavar="PART,...", help="parts of the network")
  parser.add_argument("--by", default="domain,class", metavar="NAME,...", help=f"colours: {', '.join(BY)}")
  parser.add_argument("--how", default="tsne", help=" or ".join(HOW))
  parser.add_argument("--split", default="test", help="split of each domain: train, val or test")
  parser.add_argument("--domains", default="", metavar="NAME,...", help="which; default: the sources and the target")
  parser.add_argument("--moved", default="", metavar="DOMAIN", help="a source whose moved images are drawn as well")
  parser.add_argument("--images", type=int, default=600, help="number of images, of all domains together")
  parser.add_argument("--rule", default="", help="which state: source_val or last; default: the reported one")
  parser.add_argument("--out", type=pathlib.Path, help="a .png file; default: in the run's folder figures")
  options = parser.parse_args(argv)
  run = runs.load(options.run, options.rule)
  images = sample(run, list(filter(None, options.domains.split(","))), options.split, options.images)
  if options.moved:
    images += moved(run, images.of(options.moved))
  parts, by = options.of.split(","), options.by.split(",")
  figure = draw(run, images, parts, by, options.how)
  name = "-".join([options.how, *parts, *by, *filter(None, [options.moved])]).replace("/", "_")
  print(save(figure, options.out or run.folder / "figures" / f"{name}.png"))


if __name__ == "__main__":
  sys.exit(console.run(main))
