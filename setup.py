"""Packages of the wheel; all else is in pyproject.toml, which cannot say both of these at once."""

from setuptools import find_namespace_packages, setup

# Config files lie at the top of a clone, where they are read most, and in the package of a wheel.
setup(packages=[*find_namespace_packages(include=["dgjax", "dgjax.*"]), "dgjax.configs"],
      package_dir={"dgjax.configs": "configs"})
