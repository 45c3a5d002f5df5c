"""Warns of a page's reference to a Python object that the API reference does not have; `-W` makes it an error."""

from sphinx.util import logging

log = logging.getLogger(__name__)


def missing(app, env, node, contnode) -> None:
  """Says what a page names of this library that the API reference lacks; annotations in the reference may name more."""
  if node["reftarget"].startswith("dgjax.") and not node["refdoc"].startswith("api/"):
    log.warning("%s is not in the API reference", node["reftarget"], location=node)


def setup(app):
  """Connects the check."""
  app.connect("missing-reference", missing)
  return {"parallel_read_safe": True, "parallel_write_safe": True}
