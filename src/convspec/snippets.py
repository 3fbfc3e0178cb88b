"""Pieces of Python source that every adapter's snippets are made of."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any


def tuple_text(values: Sequence[Any]) -> str:
    """A tuple as source; pairs inside it likewise."""
    items = [tuple_text(v) if isinstance(v, (tuple, list)) else str(v) for v in values]
    return f"({', '.join(items)}{',' if len(items) == 1 else ''})"


def list_text(values: Sequence[Any]) -> str:
    """A list as source; pairs inside it likewise."""
    return (
        f"[{', '.join(list_text(v) if isinstance(v, (tuple, list)) else str(v) for v in values)}]"
    )


def index_text(index: Sequence[slice]) -> str:
    """A tuple of slices as source, without the brackets; full trailing ones are left out."""
    kept = list(index)
    while len(kept) > 1 and kept[-1] == slice(None):
        kept.pop()
    return ", ".join(map(_slice_text, kept))


def _slice_text(part: slice) -> str:
    start = "" if part.start in (None, 0) else str(part.start)
    stop = "" if part.stop is None else str(part.stop)
    step = "" if part.step in (None, 1) else f":{part.step}"
    return f"{start}:{stop}{step}"


def example_text(name: str, shape: Sequence[Any], module: str) -> str:
    """Small integers in a shape, by the ``arange`` of a module, before any cast."""
    period = 5 if name == "weight" else 7
    return f"({module}.arange({prod(shape)}) % {period} - 2).reshape({tuple_text(shape)})"
