"""Hashes that tell whether data are the same, wherever they lie and whenever they were written."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np


def content(value: bytes | np.ndarray) -> bytes:
  """Hashes one example as it is stored.

  Args:
    value: an encoded image, or an array.

  Returns:
    The SHA-256, 32 bytes; that of an array depends on its shape and dtype, too.
  """
  digest = hashlib.sha256()
  if isinstance(value, np.ndarray):
    digest.update(f"{value.dtype.str}{value.shape}".encode())
    digest.update(np.ascontiguousarray(value).data)
  else:
    digest.update(value)
  return digest.digest()


def texts(values: Iterable[str]) -> str:
  """Hashes a sequence of texts, which may hold names that are not UTF-8; returns the SHA-256 in hexadecimal digits."""
  digest = hashlib.sha256()
  for value in values:
    digest.update(value.encode("utf-8", "surrogateescape") + b"\0")
  return digest.hexdigest()


def of_examples(names: Sequence[str], labels: np.ndarray, contents: np.ndarray) -> str:
  """Hashes examples in their order.

  Args:
    names: of n examples, relative to the data set's root.
    labels: (n,) integers.
    contents: (n, 32) uint8, what `content` returns for each.

  Returns:
    The SHA-256 in hexadecimal digits.
  """
  digest = hashlib.sha256(texts(names).encode())
  digest.update(np.asarray(labels, "<i4").tobytes())
  digest.update(np.asarray(contents, np.uint8).tobytes())
  return digest.hexdigest()


def of_domain(classes: Sequence[str], examples: str, splits: Mapping[str, np.ndarray]) -> str:
  """Hashes what a run sees of one domain.

  Args:
    classes: names of the classes.
    examples: what `of_examples` returns for the examples that the domain's splits choose from.
    splits: name -> indices of its examples.

  Returns:
    The SHA-256 in hexadecimal digits.
  """
  digest = hashlib.sha256(f"{texts(classes)}\0{examples}\0".encode())
  for name in sorted(splits):
    digest.update(f"{name}\0{len(splits[name])}\0".encode())
    digest.update(np.asarray(splits[name], "<i4").tobytes())
  return digest.hexdigest()
