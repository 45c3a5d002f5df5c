import os

import jax
import jax.numpy as jnp
import pytest

from dgjax import ops
from dgjax.errors import UserError
from dgjax.ops import native, settings


@pytest.fixture(autouse=True)
def restore():
  yield
  ops.use("auto")


def test_auto_is_native_where_it_is_installed():
  ops.use("auto")
  assert ops.backend() == ("native" if native.available() else "xla")
  assert ops.describe().startswith(ops.backend())


def test_xla_on_request():
  ops.use("xla")
  assert ops.backend() == "xla" and ops.describe().startswith("xla")


def test_the_environment(monkeypatch):
  monkeypatch.setattr(settings, "_chosen", None)
  monkeypatch.setenv(settings.VARIABLE, "xla")
  assert ops.backend() == "xla"
  monkeypatch.setenv(settings.VARIABLE, "onednn")
  with pytest.raises(UserError, match="no CPU backend 'onednn'"):
    ops.backend()


def test_threads(monkeypatch):
  monkeypatch.setenv("NPROC", "3")
  assert ops.threads() == 3
  monkeypatch.delenv("NPROC")
  assert 1 <= ops.threads() <= os.cpu_count()
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  assert ops.threads() is None


def test_unknown_names():
  with pytest.raises(UserError, match="did you mean 'native'"):
    ops.use("nativ")
  assert ops.backend() in ("native", "xla")


def test_native_where_it_is_missing(monkeypatch):
  monkeypatch.setattr(native, "_load", lambda: (None, "the package dgjax-native is not installed"))
  with pytest.raises(UserError, match="not installed"):
    ops.use("native")
  assert ops.backend() == "xla"
  assert "not installed" in ops.describe()


def test_a_package_of_another_interface(monkeypatch):
  dgjax_native = pytest.importorskip("dgjax_native")
  monkeypatch.setattr(dgjax_native, "INTERFACE", -1)
  native._load.cache_clear()
  try:
    assert not native.available() and "interface -1" in native.reason()
  finally:
    monkeypatch.undo()
    native._load.cache_clear()


@pytest.mark.skipif(not native.available(), reason=native.reason())
def test_a_change_recompiles():
  f = jax.jit(lambda x: ops.max_pool(x, (3, 3), (2, 2), "SAME"))
  x = jnp.ones((1, 8, 8, 16))
  for name in ("native", "xla"):
    ops.use(name)
    assert ("dgjax_native" in f.lower(x).compile().as_text()) == (name == "native")


def test_xla_has_onednn_by_its_flag_from_jax_0_12_on(monkeypatch):
  monkeypatch.setenv("XLA_FLAGS", f"--xla_a=1 {settings.ONEDNN_FLAG}=true")
  for version, known in [((0, 10, 2), False), ((0, 12, 0), True)]:
    monkeypatch.setattr(jax, "__version_info__", version)
    assert settings.onednn_in_xla() == known
  monkeypatch.setenv("XLA_FLAGS", f"{settings.ONEDNN_FLAG}=false")
  assert not settings.onednn_in_xla()
