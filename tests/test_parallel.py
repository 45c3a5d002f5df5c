import jax
import numpy as np
import pytest

from dgjax import parallel
from dgjax.errors import UserError


@pytest.mark.parametrize("arguments,message", [
    (("jid", 1, 16), r"parallel is 'jid' \(did you mean 'jit'"),
    (("jit", 9, 18), "devices is 9, and there are 8"),
    (("jit", 4, 18), "batch_size 18 does not divide among 4 devices: use 16 or 20"),
    (("jit", 4, 16, 18), "target_batch_size 18 does not divide among 4 devices: use 16 or 20"),
    (("jit", 4, 2), "batch_size 2 does not divide among 4 devices: use 4$")])
def test_settings_that_do_not_fit(arguments, message):
  with pytest.raises(UserError, match=message):
    parallel.make(*arguments)


def test_rows_are_spread_in_order():
  devices = parallel.make("jit", 4, 8)
  placed = devices.put({"x": np.arange(8)})["x"]
  assert [shard.data.tolist() for shard in placed.addressable_shards] == [[0, 1], [2, 3], [4, 5], [6, 7]]


def test_zero_devices_are_all():
  assert parallel.make("jit", 0, 16).mesh.size == jax.device_count()


def test_incomplete_settings_of_processes_are_named(monkeypatch):
  monkeypatch.setenv("JAX_NUM_PROCESSES", "2")
  with pytest.raises(UserError, match="JAX_COORDINATOR_ADDRESS is not set though JAX_NUM_PROCESSES is"):
    parallel.start_processes()
