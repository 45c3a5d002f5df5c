"""What the library itself knows of a method, as Markdown: its settings, metrics, configs and numbers."""

import dataclasses
import functools
import pathlib
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax

from dgjax import algorithms, config, config_files, config_help, data, experiment, models, reference
from dgjax.commands import COMMANDS
from dgjax.evaluation.selection import RULES
from dgjax.optimizers import Factors

DOCS = pathlib.Path(__file__).parents[1]
CONFIGS = sorted((DOCS.parent / "configs").glob("*.py"))
SECTIONS = ("run", "optimizer", "model", "data")  # of a config, without the method's
OF_ANY_METHOD = {"prediction": "Which of the method's ways to predict the results are reported with."}

# What a method's metrics mean. They are logged under `train/` for every step.
MEANINGS = {
    "accuracy": "Share of the batch's labelled images that are classified right.",
    "adversarial": "Cross-entropy of target features against the source's label; the target encoder descends it.",
    "balance": "Class balance $H$ of the target's predictions, summed over heads; about $\\log C$ a head at the least.",
    "confident": "Share of target images whose pseudo-label the teacher is confident of.",
    "contrastive": "Reverse contrastive term; 0 or below. It falls as images of one class move apart.",
    "covariance": "Half the squared covariances between different channels.",
    "cross_entropy": "Label cross-entropy of source images.",
    "discrepancy": "Mean absolute difference $D$ of two heads' probabilities on the target; at most $2 / C$ a pair.",
    "domain_accuracy": "Share of images whose domain the discriminator tells right.",
    "domain_cross_entropy": "Cross-entropy of the domain discriminator or domain network.",
    "jigsaw": "Cross-entropy of the order of the tiles; $\\log 24 = 3.18$ by guessing.",
    "jigsaw_accuracy": "Share of shuffled images whose order is told right.",
    "logits": "Penalty on the squared logits, before its weight.",
    "loss": "What the step descends: all terms with their weights.",
    "meta_loss": "Cross-entropy on domain b after the episode's steps on domain a.",
    "meta_test": "Cross-entropy of the held-out domain after the inner step.",
    "meta_train": "Sum of the other domains' cross-entropies before it.",
    "moment_distance": "Distance of the domains' moments, before its weight.",
    "moved_cross_entropy": "Label cross-entropy of the moved images.",
    "moved_domain_cross_entropy": "Domain cross-entropy of the moved images.",
    "orthogonality": "Double soft orthogonality of the filters, before its weight.",
    "overlap": "Soft intersection over union of the masks, summed over layers, before its weight.",
    "penalty": "The learned regulariser $R$ of the classifier.",
    "reconstruction": "Mean squared error of the decoded input, in the range $[-1, 1]$.",
    "semantic": "Mean squared distance of the two domains' centroids, before its weight.",
}


class Word(NamedTuple):
  """A config with a method: the file's name, what follows its colon, and what it names."""

  file: str
  argument: str
  method: str
  dataset: str
  network: str


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
  """A Markdown table."""
  return [f"| {' | '.join(header)} |", f"| {' | '.join('---' for _ in header)} |",
          *(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows), ""]


def attributes(cls: type) -> dict[str, str]:
  """What the docstrings of a class and of its bases say of its attributes, as phrases that stand alone.

  Where they say "see `OTHER`" of a class that it derives from, that one's words follow.
  """
  found = config_help.attributes(cls)
  of_any = config_help.attributes(algorithms.Algorithm)
  bases = {base.__name__: base for base in cls.__mro__}
  for name, text in found.items():
    other = re.search(r"(.*?),? ?see `(\w+)`", text)
    if other and name in (known := config_help.attributes(bases.get(other[2], object))):
      text = known[name] + (f" ({other[1]})" if other[1] else "")
    if text == of_any.get(name):
      text = OF_ANY_METHOD.get(name, text)
    found[name] = sentence(text)
  return found


def sentence(text: str) -> str:
  """A setting's description as one line that ends with a full stop; symbols such as lambda_O keep their case."""
  text = " ".join(text.split())
  symbol = "_" in text.partition(" ")[0] or re.match(r"[b-z]\b", text)
  text += "" if text.endswith(".") else "."
  return text if symbol else text[:1].upper() + text[1:]


def settings(name: str) -> list[str]:
  """Every key of `config.algorithm` with its default and meaning."""
  cls = algorithms.ALGORITHMS[name][0]
  about, rows = attributes(cls), []
  for field in dataclasses.fields(cls):
    if field.name in algorithms.SHARED:
      continue
    if dataclasses.is_dataclass(field.default) and not isinstance(field.default, type):
      inner = attributes(type(field.default))
      rows += [(f"`algorithm.{field.name}.{part.name}`", literal(getattr(field.default, part.name)),
                inner.get(part.name, "")) for part in dataclasses.fields(field.default)]
    else:
      swept = " *(swept)*" if field.name in cls.swept else ""
      rows.append((f"`algorithm.{field.name}`", literal(field.default), about.get(field.name, "") + swept))
  return table(("setting", "default", "meaning"), rows)


def literal(value: Any) -> str:
  """A default as the command line takes it."""
  return f"`{value}`" if value != "" else "empty"


def build(name: str) -> Any:
  """The method on a small network with three source domains."""
  c = config.default(algorithm=name, model="smallnet", data="digits")
  return algorithms.build(c, classes=10, domains=3, steps_per_epoch=10, steps=100)


def traced(name: str) -> tuple[Any, Any, Any]:
  """The method, and the shapes of its state and of a batch."""
  method = build(name)
  batch = experiment.batch_shapes((16, 16, 3), method.adapts, size=6)
  return method, jax.eval_shape(method.init, jax.eval_shape(lambda: jax.random.key(0)), batch), batch


def metrics(name: str) -> list[str]:
  """Every metric that a training step logs, by phase."""
  method, state, batch = traced(name)
  phases: dict[str, list[str]] = {}
  for phase in method.phases:
    for metric in jax.eval_shape(phase.step(), state, batch)[1]:
      phases.setdefault(metric, []).append(phase.name)
  if missing := phases.keys() - MEANINGS.keys():
    raise ValueError(f"{name} logs {', '.join(sorted(missing))}: say in {__file__} what that means")
  several = len(method.phases) > 1
  rows = [(f"`train/{metric}`", *([", ".join(where)] if several else []), MEANINGS[metric])
          for metric, where in sorted(phases.items())]
  return table(("metric", *(["phase"] if several else []), "meaning"), rows)


def card(name: str) -> list[str]:
  """What kind of method it is, and how it can predict."""
  cls, about = algorithms.ALGORITHMS[name]
  method, state, batch = traced(name)
  image = batch["source"]["image"] if method.adapts else batch["image"]
  ways = jax.eval_shape(method.outputs, state, image)
  domain = jax.ShapeDtypeStruct(image.shape[:1], int)
  known = jax.eval_shape(method.outputs, state, image, domain)
  trains = "the sources, and the target's images without labels" if method.adapts else "the sources alone"
  rows = [("Name", f"`--config.algorithm.name={name}`"), ("What it is", about[0].upper() + about[1:]),
          ("Class", f"{{py:class}}`{cls.__module__}.{cls.__name__}`"), ("Trains on", trains),
          ("Reported by default", "`last`" if method.adapts else "`source_val`"),
          ("Ways to predict", ", ".join(f"`{way}`" for way in ways if way[-1] not in "12"))]
  if extra := [way for way in known if way not in ways]:
    rows.append(("Ways to predict where the domain is known", ", ".join(f"`{way}`" for way in extra)))
  return table(("", ""), rows)


@functools.cache
def words() -> tuple[Word, ...]:
  """Every method argument of every config."""
  found = []
  for path in CONFIGS:
    arguments = config.arguments(str(path)).get("method", "").split(" | ")
    for argument in arguments:
      c = config.load(f"{path}:{argument}")
      found.append(Word(path.stem, argument, c.algorithm.name, c.data.name, c.model.name))
  return tuple(found)


def commands(name: str) -> list[str]:
  """The configs that come with a method."""
  rows = []
  for word in words():
    if word.method == name:
      argument = f":{word.argument}" if word.argument else ""
      needs = " --config.data.dir=DIR" if needs_folder(word.dataset) else ""
      rows.append((f"`{word.dataset}`", f"`{word.network}`", f"`dgjax train --config={word.file}{argument}{needs}`"))
  return table(("data set", "network", "command"), rows)


def needs_folder(dataset: str) -> bool:
  """Whether a data set is read from files that the user has."""
  return dataset not in ("digits", "digits_mp", "rotated_digits", "fonts")


def published(name: str) -> list[str]:
  """The papers' rows of a method."""
  lines: list[str] = []
  for module in reference.PAPERS.values():
    for key, found in module.TABLES.items():
      ours = [one for one in found.methods if one.method == name]
      headers = [header for one in ours for header in one.headers]
      rows = [(*row, *map(number, numbers)) for row, numbers in found.rows.items() if row[1] in headers]
      if rows:
        lines += [f"**{module.TITLE}, Table {key}**: {found.caption}.", "",
                  *table(("network", "row", *found.columns), sorted(set(rows), key=rows.index))]
  return lines or ["The papers that this library covers print no row of this method.", ""]


def number(value: float) -> str:
  """A published number."""
  return "" if value != value else f"{value:g}"


def results(labels: Sequence[str]) -> list[str]:
  """Rows of docs/results.md whose first cell is one of the labels, by section."""
  lines: list[str] = []
  for section in re.split(r"^(?=##+ )", (DOCS / "results.md").read_text(), flags=re.MULTILINE)[1:]:
    title = section.partition("\n")[0].strip("# ")
    anchor = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
    for block in re.findall(r"(?:^\|.*\n)+", section, re.MULTILINE):
      header, rule, *rows = block.splitlines()
      if mine := [row for row in rows if row.split("|")[1].strip() in labels]:
        lines += [f"From [{title}](../results.md#{anchor}), where the command is:", "", header, rule, *mine, ""]
  return lines or ["There are no measured numbers of this method yet.", ""]


def library(kind: str) -> list[str]:
  """A list of what comes with the library, such as its commands, its networks, or the settings of a section."""
  lists = {"rules": _rules, "commands": _commands, "datasets": _datasets, "networks": _networks, "configs": _configs,
           "data-settings": _data_settings,
           **{f"settings-{section}": functools.partial(_settings, section) for section in SECTIONS}}
  return lists[kind]()


def _rules() -> list[str]:
  return table(("rule", "which evaluation it chooses"), ((f"`{name}`", about) for name, about in RULES.items()))


def _commands() -> list[str]:
  return table(("command", "what it does"), ((f"`dgjax {word}`", about) for word, about in COMMANDS.items()))


def _datasets() -> list[str]:
  rows, general = [], data.defaults("folder")
  for name, (layout, about) in sorted(data.DATASETS.items()):
    own = ", ".join(f"`{key}`" for key in layout.defaults if key not in general)
    rows.append((f"`{name}`", about, f"{{py:class}}`{layout.__name__} <{layout.__module__}.{layout.__name__}>`", own))
  return table(("name", "what it is", "class", "settings of its own"), rows)


def _settings(section: str) -> list[str]:
  """The settings of a section of the config, "run" being those without one."""
  chosen = config.default(algorithm="aggregate", model="resnet18", data="folder")
  about, rows = config_help.explanations(chosen), []
  for key, value in config.flatten(chosen).items():
    if (key.partition(".")[0] if "." in key else "run") != section or ".roles." in key:
      continue
    rows.append((f"`{key}`", literal(value), sentence(about[key])))
  if section == "optimizer":
    roles = config_help.attributes(Factors)
    rows += [(f"`optimizer.roles.ROLE.{field.name}`", literal(field.default), sentence(roles[field.name]))
             for field in dataclasses.fields(Factors)]
  return table(("setting", "default", "meaning"), rows)


def _data_settings() -> list[str]:
  """The settings that single data sets add to those of all."""
  rows, general = [], data.defaults("folder")
  for name, (layout, _) in sorted(data.DATASETS.items()):
    about = config_help.explanations(config.default(algorithm="aggregate", model="smallnet", data=name))
    rows += [(f"`{name}`", f"`data.{key}`", literal(value), sentence(about[f"data.{key}"]))
             for key, value in layout.defaults.items() if key not in general]
  return table(("data set", "setting", "default", "meaning"), rows)


def _networks() -> list[str]:
  return table(("name", "what it is"), ((f"`{name}`", about) for name, (_, about) in sorted(models.NETWORKS.items())))


def _configs() -> list[str]:
  rows = []
  for path in CONFIGS:
    arguments = "; ".join(f"{name}: {words}" for name, words in config.arguments(str(path)).items())
    rows.append((f"`{path.stem}`", config_files.about(str(path)), arguments))
  return table(("config", "what it is", "words after its colon, the default first"), rows)
