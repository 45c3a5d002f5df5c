import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dgjax.errors import UserError
from dgjax.losses.decoupling import spectral_decoupling

LOGITS = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)


def test_squared_logits_in_both_forms():
  squares = [[x * x for x in row] for row in LOGITS.astype(np.float64).tolist()]
  norms = [sum(row) / 2 for row in squares]
  np.testing.assert_allclose(spectral_decoupling(LOGITS), sum(map(sum, squares)) / 24, rtol=1e-5)
  np.testing.assert_allclose(spectral_decoupling(LOGITS, "norm"), sum(norms) / 6, rtol=1e-5)
  assert spectral_decoupling(jnp.asarray(LOGITS, jnp.bfloat16)).dtype == jnp.float32


def test_gradient_is_proportional_to_the_logits():
  np.testing.assert_allclose(jax.grad(spectral_decoupling)(LOGITS), LOGITS / 12, rtol=1e-5)
  np.testing.assert_allclose(jax.grad(lambda x: spectral_decoupling(x, "norm"))(LOGITS), LOGITS / 6, rtol=1e-5)


def test_an_unknown_form_is_told():
  with pytest.raises(UserError, match=r"'nrom' \(did you mean 'norm'\?\)"):
    spectral_decoupling(LOGITS, "nrom")
