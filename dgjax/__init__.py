"""dgjax: domain generalisation and adaptation in JAX."""

__version__ = "0.2.0"
