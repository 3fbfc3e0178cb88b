"""What a refusal has to look like: the assertion helpers of the tests of bad input."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from convspec import ConvSpecError

#: What a message begins with: an argument, perhaps one entry of it.
PLACE = re.compile(r"[a-z_]+(\[\d+\])?( \(axis [A-Z]\))?(, (lo|hi))?: ")
#: The element types, as messages list them.
TYPES = (
    "float16, bfloat16, float32, float64, complex64, complex128, "
    "int8, int16, int32, int64, uint8, uint16, uint32, uint64"
)


@contextmanager
def refused(error: type[ConvSpecError], message: str) -> Iterator[None]:
    """The block raises exactly ``error``; ``message`` is all it says, or its whole first line."""
    with pytest.raises(ConvSpecError, match=rf"\A{re.escape(message)}(\n|\Z)") as caught:
        yield
    assert type(caught.value) is error
    check_style(str(caught.value))


def check_style(message: str) -> None:
    """The argument first; at most three lines, of which the later ones are indented."""
    first, *more = message.split("\n")
    assert PLACE.match(first)
    assert len(more) <= 2
    assert all(line.startswith("  ") for line in more)
