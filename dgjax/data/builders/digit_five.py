"""Digit-Five: MNIST, MNIST-M, SVHN, synthetic numbers and USPS, as published or, in part, made here."""

import functools
import logging
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dgjax.data.builders import base, forms
from dgjax.data.builders.blended import Blended
from dgjax.data.builders.rendered import Rendered
from dgjax.errors import UserError, nearest

log = logging.getLogger("dgjax")

DOMAINS = (*forms.PUBLISHED, "optdigits")
SAMPLINGS = ("m3sda", "all")
TRAIN, TEST = 25_000, 9_000  # M3SDA's number of images of a domain
DRAWN = ("mnist", "mnist_m")  # M3SDA draws the images of these, and takes the first ones of the others
REPEATED, TIMES = "usps", 4  # M3SDA has USPS's training images four times, since there are few


class DigitFive(base.RootedLayout):
  """Five sets of digits, each a domain. Which of them there are depends on the files in `dir` and its sub-folders.

  Published forms, in ROOT or ROOT/DOMAIN; the first that is found is used:

  - mnist: the four IDX files, or M3SDA's mnist_data.mat;
  - mnist_m: M3SDA's mnistm_with_label.mat, or Ganin's folders mnist_m_train and mnist_m_test and their lists;
  - svhn: train_32x32.mat and test_32x32.mat, also as svhn_train_32x32.mat and so on;
  - synthetic: M3SDA's syn_number.mat, or Ganin's synth_train_32x32.mat and synth_test_32x32.mat;
  - usps: M3SDA's usps_28x28.mat, or zip.train and zip.test, gzipped or not.

  Two domains can be made if they are not found: mnist_m from mnist (`blended`), and synthetic from fonts (`rendered`).
  "optdigits" is scikit-learn's handwritten digits in MNIST's form. The log says what each domain is.

  Settings: `domains`: domains to have, comma-separated; "": every domain whose published files are found and, if any of
  the five is missing, those that can be made, and optdigits. `sampling`: "m3sda": at most 25,000 images to train on
  (drawn by the seed for mnist and mnist_m, the first ones of the others) and the first 9,000 to test on, with USPS's
  training images four times; or "all". `per_domain`: the most images of a domain to train on, and to test on, none of
  them twice; 0: as `sampling` says. `photographs`: folder of photographs that mnist_m is made with; "": two that come
  with scikit-learn. `rendered`: numbers of images of synthetic that are made to train on and to test on.

  A share of `val_fraction` of the images to train on is drawn and held out for validation.

  Source: Peng et al., "Moment Matching for Multi-Source Domain Adaptation", ICCV 2019; DRT, Section 4.1. The
    released code of M3SDA tests on all 10,000 digits of MNIST where the paper says 9,000.
  """

  name = "digit_five"
  looks_like = "MNIST's four IDX files, and what there is of MNIST-M, SVHN, synthetic numbers and USPS"
  classes = tuple("0123456789")
  mean = std = (0.5, 0.5, 0.5)
  defaults = {  # noqa: RUF012
    "image_size": 32, "augment": "none", "val_fraction": 0.1, "domains": "", "sampling": "m3sda", "per_domain": 0,
    "photographs": "", "rendered": (TRAIN, TEST)}

  def __init__(self, config: Any):
    super().__init__(config)
    base.check_fractions(val_fraction=config.val_fraction)
    if config.sampling not in SAMPLINGS:
      raise UserError(f"unknown config.data.sampling {config.sampling!r}{nearest(config.sampling, SAMPLINGS)}")
    if config.per_domain < 0:
      raise UserError(f"config.data.per_domain must be at least 0, got {config.per_domain}")
    if len(config.rendered) != 2 or min(config.rendered) < 10:
      raise UserError("config.data.rendered must be two numbers of at least 10, to train on and to test on, got "
                      f"{tuple(config.rendered)}")
    self.forms = dict(self._forms())
    self.domains = tuple(self.forms)
    for domain, form in self.forms.items():
      log.info("%s/%s: %s", self.name, domain, form.what)

  def _forms(self) -> Iterator[tuple[str, forms.Form]]:
    """Yields the domains that there are, in the order of `DOMAINS`."""
    wanted = [name.strip() for name in self.config.domains.split(",") if name.strip()]
    for name in wanted:
      if name not in DOMAINS:
        raise UserError(f"config.data.domains names {name!r}, no domain of {self.name}{nearest(name, DOMAINS)}")
    found = {domain: form for domain in forms.PUBLISHED if (form := self._published(domain, self.root))}
    if not found and (level := self.level()):
      raise UserError(f"none of the files of {self.name} is in {self.root}: config.data.dir must be the folder that "
                      f"holds {self.looks_like}{level}")
    make = bool(wanted) or len(found) < len(forms.PUBLISHED)
    for domain in DOMAINS:
      if wanted and domain not in wanted:
        continue
      form = found.get(domain) or (self._made(domain, found.get("mnist")) if make else None)
      if form:
        yield domain, form
      elif domain in forms.PUBLISHED:
        names = " nor ".join(name for name, _ in forms.PUBLISHED[domain])
        reason = f"there is no {names} in {self.root} or {self.root / domain}"
        if domain == "mnist_m":
          reason += ", and no MNIST to make it from"
        if wanted:
          raise UserError(f"config.data.domains names {domain!r}, but {reason}: put it there or take the name out")
        log.info("%s/%s is left out: %s.", self.name, domain, reason)

  def fits(self, root: Path) -> bool:
    """Returns whether a published form of some domain is in a folder."""
    return any(self._published(domain, root) for domain in forms.PUBLISHED)

  def _published(self, domain: str, root: Path) -> forms.Form | None:
    places = (root, root / domain)
    return next((form for _, find in forms.PUBLISHED[domain] if (form := find(places))), None)

  def _made(self, domain: str, digits: forms.Form | None) -> forms.Form | None:
    """Returns what takes the place of a domain that was not found, if anything can."""
    if domain == "optdigits":
      return forms.Embedded()
    if domain == "synthetic":
      return Rendered(tuple(self.config.rendered))
    if domain == "mnist_m" and isinstance(digits, forms.Arrays):
      return Blended(digits, self.config.photographs, functools.partial(self.problem, domain))
    return None

  def examples(self, store: str) -> list[base.Example]:
    """Lists the digits by part and number."""
    form = self.forms[store]
    stamp = form.stamp()
    return [base.Example(f"{store}/{part}/{number:06d}", label, stamp=stamp, splits=(part,))
            for part in forms.PARTS for number, label in enumerate(form.labels(part).tolist())]

  def read(self, example: base.Example) -> bytes:
    """Returns one digit, encoded."""
    domain, part, number = example.name.split("/")
    return self.forms[domain].encoded(part, int(number))

  def where(self, example: base.Example) -> str:
    """Returns the file, or the number and the file it is in."""
    domain, *parts = example.name.split("/")
    if domain not in self.forms:
      return example.name  # a photograph's path
    part, number = parts
    return self.forms[domain].name(part, int(number))

  def release(self, store: str) -> None:
    """Lets go of the images of a domain."""
    self.forms[store].release()

  def split(self, domain: str, examples: Sequence[base.Example], seed: int) -> dict[str, np.ndarray]:
    """Takes as many as `sampling` and `per_domain` say, and draws which to hold out."""
    train, test = (np.array([i for i, example in enumerate(examples) if part in example.splits], np.int32)
                   for part in forms.PARTS)
    limits = (TRAIN, TEST) if self.config.sampling == "m3sda" else (0, 0)
    train_size, test_size = (min(n for n in (limit, self.config.per_domain, len(examples)) if n) for limit in limits)
    if domain in DRAWN:
      train = np.random.default_rng([seed, zlib.crc32(f"{domain}/{self.name}".encode())]).permutation(train)
    train = np.sort(train[:train_size])
    drawn = base.draw_split(len(train), {"val": self.config.val_fraction}, seed, domain)
    parts = {name: train[chosen] for name, chosen in drawn.items()} | {"test": test[:test_size]}
    if domain == REPEATED and self.config.sampling == "m3sda" and not self.config.per_domain:
      parts["train"] = np.repeat(parts["train"], TIMES)
    return parts

  def split_name(self, seed: int) -> str:
    """Returns the settings the splits depend on."""
    few = f"-most{self.config.per_domain}" if self.config.per_domain else ""
    return f"{self.config.sampling}{few}-seed{seed}-val{self.config.val_fraction:g}"
