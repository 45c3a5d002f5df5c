"""VisDA-2017: renderings of 12 classes to train on, and real images to adapt to."""

from collections.abc import Iterator

from dgjax.data import files
from dgjax.data.builders import base
from dgjax.data.builders.adapted import Adapted

LIST = "image_list.txt"


class Visda2017(Adapted):
  """VisDA-2017's training and validation sets: the images in a folder's image_list.txt, or all if there is no list.

  Papers report the mean of the classes' accuracies, `class_accuracy` in results.json.

  Source: Peng et al., "VisDA: The Visual Domain Adaptation Challenge", 2017.
  """

  name = "visda2017"
  looks_like = "train/CLASS/* and validation/CLASS/*"
  domains = ("synthetic", "real")
  places = ("train", "validation")
  sources, targets = ("synthetic",), ("real",)
  class_count = 12
  defaults = {**Adapted.defaults, "augment": "visda"}  # noqa: RUF012

  def examples(self, domain: str) -> list[base.Example]:
    """Lists the images of a domain by name, or those that are listed, if there is a list."""
    found = super().examples(domain)
    path = self.root / self.place(domain) / LIST
    if not path.exists() and not path.is_symlink():
      return found
    known = {example.name for example in found}
    listed = set()
    for number, name in self._lines(domain):
      if name in known:
        listed.add(name)
      else:
        reason = files.absence(self.root / name) or "is in no folder of a class, or no image by its suffix"
        self.problem(domain, name, f"{path} line {number} names {self.root / name}, which {reason}",
                     "fetch the file or take the line out")
    return [example for example in found if example.name in listed]

  def _lines(self, domain: str) -> Iterator[tuple[int, str]]:
    """Yields the number and the path below the root of each line of a domain's list."""
    place = self.place(domain)
    path = self.root / place / LIST
    for number, line in files.lines(path):
      name, label = files.split_label(line)
      name = files.spelt(self.root / place, name) or name
      folder = files.normal(name.rpartition("/")[0])
      if not folder or not label.isdecimal():
        self.problem(domain, f"{path} line {number}",
                     f"{path} line {number}: expected `CLASS/FILE label`, got {line!r}", "mend the line")
      elif len(self.classes) == self.class_count and folder not in self.classes[int(label) : int(label) + 1]:
        self.problem(domain, f"{path} line {number}",
                     f"{path} line {number}: label {label} is not that of class {folder!r}", "mend the line")
      else:
        yield number, f"{place}/{name}"
