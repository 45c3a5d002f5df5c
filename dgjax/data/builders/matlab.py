"""Arrays from MATLAB files."""

from pathlib import Path

import numpy as np

from dgjax.errors import UserError


def read(path: Path, *names: str) -> list[np.ndarray]:
  """Reads variables of a MATLAB file, of version 4 to 7.2, and no others.

  Args:
    path: the file.
    names: of the variables.

  Returns:
    Their values, in that order; a cell array is an array of objects.

  Raises:
    UserError: the file is of version 7.3, is damaged, or lacks one of them.
  """
  from scipy.io import loadmat  # here, as it takes a while to import that other data sets need not wait

  try:
    found = loadmat(path, variable_names=names)
  except NotImplementedError:
    raise UserError(f"{path} is a MATLAB file of version 7.3, which is not read: save it again with -v7") from None
  except Exception as error:  # a damaged file surfaces as any of a dozen types
    raise UserError(f"cannot read {path} as a MATLAB file ({str(error) or type(error).__name__}): fetch it again"
                    ) from error
  for name in names:
    if name not in found:
      raise UserError(f"{path} holds no variable {name!r}: it is another file than its name says, fetch it again")
  return [found[name] for name in names]
