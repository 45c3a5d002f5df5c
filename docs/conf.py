"""Builds the site: `sphinx-build -W docs build/site`, with nothing but what `pip install '.[docs]'` brings."""

import pathlib
import sys

import dgjax

sys.path.insert(0, str(pathlib.Path(__file__).parent / "_ext"))

project, author, copyright = "dgjax", "the dgjax authors", "the dgjax authors, Apache License 2.0"
version = release = dgjax.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "docstrings", "links",
              "mathml", "methods"]
exclude_patterns = ["_ext"]
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "fieldlist"]
myst_heading_anchors = 4
nb_execution_mode = "off"  # notebooks are committed with their outputs; a test executes them
nitpicky = False
smartquotes = False  # values and flags in tables are to be copied as they are
suppress_warnings = ["ref.python"]  # words of docstrings that are the name of several things

html_theme = "sphinx_book_theme"
html_title = "dgjax"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {"home_page_in_toc": True, "navbar_persistent": [], "show_navbar_depth": 1, "show_toc_level": 2,
                      "use_download_button": False}

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_custom_sections = [("Source", "notes_style"), ("Example", "example")]
napoleon_use_rtype = False
napoleon_use_ivar = True
