"""Formulas as MathML, by docutils: browsers show it without a script from elsewhere."""

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml


def inline(writer, node: nodes.math) -> None:
  """Writes a formula within a line."""
  writer.body.append(tex2mathml(node.astext()))
  raise nodes.SkipNode


def block(writer, node: nodes.math_block) -> None:
  """Writes a formula of its own line."""
  writer.body.append(f'<div class="math">{tex2mathml(node.astext(), as_block=True)}</div>')
  raise nodes.SkipNode


def setup(app):
  """Registers the renderer "mathml"."""
  app.add_html_math_renderer("mathml", (inline, None), (block, None))
  return {"parallel_read_safe": True, "parallel_write_safe": True}
