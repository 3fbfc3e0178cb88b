"""What all tests share: the installed backends, by name."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

# Quiet start-up of the frameworks; set before any of them is imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pytest

import convspec

BACKENDS = ("numpy", "torch", "tensorflow", "jax")


@pytest.fixture(autouse=True)
def _jax_types() -> Iterator[None]:
    """JAX's 64-bit types are as they were, whatever a test has switched on."""
    before = "jax" in sys.modules and sys.modules["jax"].config.jax_enable_x64
    yield
    if "jax" in sys.modules:
        sys.modules["jax"].config.update("jax_enable_x64", before)


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Iterator[convspec.Backend]:
    """Each of the four backends in turn; 64-bit types are on in JAX."""
    found = convspec.get_backend(request.param)
    if request.param != "jax":
        yield found
        return
    import jax

    with jax.enable_x64(True):
        yield found
