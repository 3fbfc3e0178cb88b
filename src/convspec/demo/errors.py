"""What can keep the demonstration from running, and packages imported on use."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import Any


class DemoError(Exception):
    """Something outside the library is missing or of no use; the message is one line."""


class FileError(DemoError):
    """The user's file cannot be filtered."""


class MissingPackageError(DemoError):
    """A package of the ``demo`` extra is not installed."""

    def __init__(self, packages: Iterable[str]) -> None:
        self.packages = tuple(dict.fromkeys(packages))
        super().__init__(
            f"not installed: {', '.join(self.packages)}. "
            f"Get what the demo needs with: pip install 'convspec[demo]'"
        )


def package(name: str) -> Any:
    """A module of the ``demo`` extra, imported now.

    Raises:
        MissingPackageError: it is not installed, or cannot be imported.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        raise MissingPackageError([name.split(".")[0]]) from None
