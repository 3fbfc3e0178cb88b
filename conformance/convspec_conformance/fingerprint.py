"""Which code gave a verdict: a hash that is another once any of it has changed.

The version of a framework stands for the framework. What is hashed is the rest: convspec, this
suite, the package of the backend, and whatever else was loaded for it that is neither Python's own
nor installed, which is what people edit.
"""

from __future__ import annotations

import hashlib
import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType

from .targets import Target

#: What code is made of: sources, and what compilers make of others.
SUFFIXES = frozenset({".py", ".so", ".pyd", ".dylib", ".toml"})
#: Where modules lie that versions stand for.
INSTALLED = tuple(
    os.path.join(sysconfig.get_path(name), "") for name in ("stdlib", "purelib", "platlib")
)
OWN = ("convspec", "convspec_conformance")


def fingerprint(target: Target) -> str:
    """The hash of all code that computes and judges a target's cases, as far as it is loaded."""
    digest = hashlib.sha256()
    for file in sorted(set(_files(_packages(target)))):
        digest.update(f"{file}\0".encode())
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _packages(target: Target) -> set[str]:
    """Names of the packages and modules at the top that the code is in."""
    makers = (type(target), type(getattr(target, "backend", None)))
    named = {kind.__module__ for maker in makers for kind in maker.__mro__}
    edited = {
        name
        for name, module in tuple(sys.modules.items())
        if not name.startswith("__") and _edited(module)
    }
    tops = {name.partition(".")[0] for name in {*OWN, *named, *edited}}
    return tops - sys.stdlib_module_names


def _edited(module: ModuleType) -> bool:
    file = getattr(module, "__file__", None)
    # As text: a framework has thousands of modules, and paths would take half a second.
    return bool(file) and not str(file).startswith(INSTALLED)


def _files(packages: Iterable[str]) -> Iterator[Path]:
    for name in packages:
        module = sys.modules.get(name)
        for folder in getattr(module, "__path__", ()):
            yield from (file for file in Path(folder).rglob("*") if file.suffix in SUFFIXES)
        file = getattr(module, "__file__", None)
        if file and Path(file).is_file():
            yield Path(file)
