"""What a competent user would write in each framework: the baselines."""

from __future__ import annotations

import importlib

from .base import Framework

#: Backends with raw calls to compare with; others have their own time only.
RAW = {"torch": "Torch", "tensorflow": "TensorFlow", "jax": "Jax"}


def framework(name: str) -> Framework:
    """The framework of a backend, imported."""
    if name not in RAW:
        return Framework(name)
    module = importlib.import_module(f".{name}_calls", __name__)
    found: Framework = getattr(module, RAW[name])(name)
    return found
