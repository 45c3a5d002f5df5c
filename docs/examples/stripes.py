"""A data set of one's own: stripes that lie or stand, in three colours."""

import numpy as np

from dgjax.data.builders import base

COLOURS = {"red": (255, 60, 60), "green": (60, 255, 60), "blue": (60, 60, 255)}
PER_DOMAIN = 60


class Stripes(base.Layout):
  """Lying and standing stripes; a domain is a colour."""

  name = "stripes"
  domains = tuple(COLOURS)
  classes = ("lying", "standing")
  defaults = {"image_size": 16, "augment": "none", "val_fraction": 0.2, "test_fraction": 0.2}  # noqa: RUF012

  def examples(self, store):
    """Lists a domain's examples: name and label. A stamp changes when the drawing does."""
    return [base.Example(f"{store}/{i:03d}", label=i % 2, stamp=1) for i in range(PER_DOMAIN)]

  def read(self, example):
    """Returns the encoded image of an example; of a file it would be the file's bytes."""
    domain, number = example.name.split("/")
    rng = np.random.default_rng(int(number))
    stripes = np.sin(np.arange(16) * rng.uniform(1.2, 2.0) + rng.uniform(0, 6)) > 0
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[stripes] = COLOURS[domain]
    return base.encode_png(pixels if example.label == 0 else pixels.swapaxes(0, 1))

  def split(self, domain, examples, seed):
    """Returns "train", "val" and "test" as indices into the examples."""
    fractions = {"val": self.config.val_fraction, "test": self.config.test_fraction}
    return base.draw_split(len(examples), fractions, seed, domain)

  def split_name(self, seed):
    """Returns a file name that tells this way to split from others."""
    return f"seed{seed}-val{self.config.val_fraction:g}-test{self.config.test_fraction:g}"
