"""Every operation is tested with each backend that is installed."""

import pytest

from dgjax import ops
from dgjax.ops import native

BACKENDS = ["xla", pytest.param("native", marks=pytest.mark.skipif(not native.available(), reason=native.reason()))]


@pytest.fixture(params=BACKENDS)
def backend(request):
  ops.use(request.param)
  yield request.param
  ops.use("auto")
