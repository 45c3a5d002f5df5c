"""VisDA-2017: renderings of 12 classes to train on, and real images to adapt to."""

from collections.abc import Iterator

from dgjax.data.builders import base
from dgjax.data.builders.adapted import Adapted
from dgjax.errors import UserError

PLACES = {"synthetic": "train", "real": "validation"}
LIST = "image_list.txt"


class Visda2017(Adapted):
  """VisDA-2017's training and validation sets; what stands in a folder's image_list.txt, or all where there is none.

  Papers report the mean of the classes' accuracies, `class_accuracy` in results.json.

  Source: Peng et al., "VisDA: The Visual Domain Adaptation Challenge", 2017.
  """

  name = "visda2017"
  looks_like = "train/CLASS/* and validation/CLASS/*"
  domains = tuple(PLACES)
  sources, targets = ("synthetic",), ("real",)
  class_count = 12
  defaults = {**Adapted.defaults, "augment": "visda"}  # noqa: RUF012

  def place(self, domain: str) -> str:
    """Returns the name of the set that is the domain."""
    return PLACES[domain]

  def examples(self, domain: str) -> list[base.Example]:
    """Lists the images of a domain by name, or those that are listed, if there is a list."""
    found = super().examples(domain)
    path = self.root / self.place(domain) / LIST
    if not path.is_file():
      return found
    listed = dict.fromkeys(self._lines(domain))
    known = {example.name for example in found}
    for name in listed:
      if name not in known:
        self.problem(domain, name, f"{path} names {self.root / name}, which does not exist",
                     "fetch the file or take the line out")
    return [example for example in found if example.name in listed]

  def _lines(self, domain: str) -> Iterator[str]:
    """Yields the path below the root on each line of a domain's list."""
    path = self.root / self.place(domain) / LIST
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
      for number, line in enumerate(file, 1):
        if not line.strip():
          continue
        name, _, label = line.strip().rpartition(" ")
        folder = name.strip().rpartition("/")[0]
        if not folder or not label.isdecimal():
          raise UserError(f"{path} line {number}: expected `CLASS/FILE label`, got {line.strip()!r}: mend the line")
        if len(self.classes) == self.class_count and folder not in self.classes[int(label) : int(label) + 1]:
          raise UserError(f"{path} line {number}: label {label} is not that of class {folder!r}: mend the line")
        yield f"{self.place(domain)}/{name.strip()}"
