"""Directives for what `facts` reads from the library, parsed where they are written."""

import facts
from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

PARTS = {"method-card": facts.card, "method-settings": facts.settings, "method-metrics": facts.metrics,
         "method-commands": facts.commands, "method-published": facts.published, "library": facts.library,
         "method-results": lambda labels: facts.results([label.strip() for label in labels.split(";")])}


class Generated(SphinxDirective):
  """`method-PART` METHOD, `method-results` LABEL; LABEL (of rows), or `library` KIND: Markdown from `facts`."""

  required_arguments, final_argument_whitespace = 1, True

  def run(self) -> list[nodes.Node]:
    """Parses the generated lines."""
    lines = PARTS[self.name](self.arguments[0])
    container = nodes.container()
    self.state.nested_parse(StringList(lines, self.get_source_info()[0]), self.content_offset, container)
    return container.children


def setup(app):
  """Registers the directives."""
  for part in PARTS:
    app.add_directive(part, Generated)
  return {"parallel_read_safe": True, "parallel_write_safe": True}
