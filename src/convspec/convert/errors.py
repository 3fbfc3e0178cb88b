"""What can go wrong with files, and packages imported on use."""

from __future__ import annotations

import importlib
from typing import Any

from ..errors import ConvSpecError


class ConvertError(ConvSpecError):
    """A file cannot be read, written or converted; the message names it, the place, the remedy."""


def package(name: str) -> Any:
    """A module of the ``convert`` extra, imported now.

    Raises:
        ConvertError: it is not installed, or cannot be imported.
    """
    try:
        return importlib.import_module(name)
    except Exception as error:  # a broken installation raises anything
        root = name.split(".")[0]
        raise ConvertError(
            f"{root}: is needed for this kind of file, but cannot be imported: {error}.\n"
            f"  Install it with: pip install 'convspec[convert]'"
            + (f" {root}" if root in FRAMEWORKS else "")
        ) from error


#: Packages that the extra leaves out: frameworks, which have extras, and what one formula needs.
FRAMEWORKS = ("torch", "tensorflow", "jax", "orbax", "keras", "scipy")
