"""Names with separators and trees of dictionaries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import ConvertError

DEEPEST = 64
#: Most leaves: a list that holds one list ten times, nine levels deep, has a billion of them.
MOST = 1_000_000


def flattened(path: Path, tree: Any, separator: str) -> Iterator[tuple[str, Any]]:
    """Leaves of nested dictionaries and lists, with their joined names.

    Raises:
        ConvertError: two leaves get the same name, or the tree is too deep.
    """
    seen: set[str] = set()
    for name, leaf in _leaves(path, tree, "", separator, 0):
        if len(seen) >= MOST:
            raise ConvertError(f"{path}: holds more than {MOST} entries; no checkpoint does.")
        if name in seen:
            raise ConvertError(f"{path}: two entries are both called {name!r}.")
        seen.add(name)
        yield name, leaf


def _leaves(
    path: Path, tree: Any, start: str, separator: str, depth: int
) -> Iterator[tuple[str, Any]]:
    if depth > DEEPEST:
        raise ConvertError(f"{path}: {start[:60]!r} is nested deeper than {DEEPEST} levels.")
    if isinstance(tree, Mapping):
        pairs: Iterable[tuple[Any, Any]] = tree.items()
    elif isinstance(tree, (list, tuple)):
        pairs = enumerate(tree)
    else:
        yield start, tree
        return
    for key, value in pairs:
        name = f"{start}{separator}{key}" if start else str(key)
        yield from _leaves(path, value, name, separator, depth + 1)


def tree_of(path: Path, leaves: Iterable[tuple[str, Any]], separator: str) -> dict[str, Any]:
    """Nested dictionaries of leaves with joined names.

    Raises:
        ConvertError: a name is that of an array and of a group at once.
    """
    tree: dict[str, Any] = {}
    for name, leaf in leaves:
        *groups, last = name.split(separator)
        inner = tree
        for group in groups:
            inner = inner.setdefault(group, {})
            if not isinstance(inner, dict):
                break
        if not isinstance(inner, dict) or last in inner:
            raise ConvertError(
                f"{path}: {name!r} would be an array and a group of arrays at once; rename one."
            )
        inner[last] = leaf
    return tree
