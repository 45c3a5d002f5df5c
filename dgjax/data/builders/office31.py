"""Office-31: amazon, dslr and webcam, 31 classes of things in offices."""

from dgjax.data.builders.adapted import Adapted


class Office31(Adapted):
  """Office-31, as published (DOMAIN/images/CLASS) or without the folders "images".

  Source: Saenko et al., "Adapting Visual Category Models to New Domains", ECCV 2010.
  """

  name = "office31"
  looks_like = "amazon, dslr and webcam, each with images/CLASS/* or CLASS/*"
  domains = places = ("amazon", "dslr", "webcam")
  class_count = 31
  defaults = {**Adapted.defaults, "augment": "office"}  # noqa: RUF012

  def place(self, domain: str) -> str:
    """Returns the domain's folder, or the one in it that is named "images"."""
    return f"{domain}/images" if (self.root / domain / "images").is_dir() else domain
