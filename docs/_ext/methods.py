"""Directives for the pages of methods: what `facts` generates, parsed where it is written."""

import facts
from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

PARTS = {"card": facts.card, "settings": facts.settings, "metrics": facts.metrics, "commands": facts.commands,
         "published": facts.published,
         "results": lambda labels: facts.results([label.strip() for label in labels.split(";")])}


class Generated(SphinxDirective):
  """`method-PART` NAME: Markdown that one of `facts` writes; of results, labels of rows with ; between them."""

  required_arguments, final_argument_whitespace = 1, True

  def run(self) -> list[nodes.Node]:
    """Parses the generated lines."""
    lines = PARTS[self.name.removeprefix("method-")](self.arguments[0])
    container = nodes.container()
    self.state.nested_parse(StringList(lines, self.get_source_info()[0]), self.content_offset, container)
    return container.children


def setup(app):
  """Registers the directives."""
  for part in PARTS:
    app.add_directive(f"method-{part}", Generated)
  return {"parallel_read_safe": True, "parallel_write_safe": True}
