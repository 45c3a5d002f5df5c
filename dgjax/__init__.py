"""dgjax: domain generalisation and adaptation in JAX."""
