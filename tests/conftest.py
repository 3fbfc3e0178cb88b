"""What all tests share: the installed backends, by name."""

from __future__ import annotations

import os

# Quiet start-up of the frameworks; set before any of them is imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pytest

import convspec

BACKENDS = ("numpy", "torch", "tensorflow", "jax")


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> convspec.Backend:
    """Each of the four backends in turn; 64-bit types are on in JAX."""
    found = convspec.get_backend(request.param)
    if request.param == "jax":
        import jax

        jax.config.update("jax_enable_x64", True)
    return found
