"""`dgjax list`: every method, data set, network and config there is."""

from collections.abc import Sequence

from dgjax import commands

EPILOG = """Methods, data sets and networks are names for --config.algorithm.name, --config.data.name and
--config.model.name. Configs are names for --config; their arguments follow a colon, as in
--config=dmg_pacs:aggregate,resnet50."""


def main(argv: Sequence[str]) -> int:
  """Prints the list."""
  commands.parser("list", __doc__, EPILOG).parse_args(argv)
  from dgjax.main import listing
  print(f"{listing()}\n{configs()}")
  return 0


def configs() -> str:
  """The configs that come with the library: what each is for, and the words that can follow its colon."""
  from dgjax import config, config_files
  lines = []
  for name in config_files.names():
    lines.append(f"config  {name:<22}  {config_files.about(name)}")
    lines += [f"config  {name + ':':<22}  {argument}: {words}" for argument, words in config.arguments(name).items()]
  return "\n".join(lines)
