"""Blocked layouts of compilers and oneDNN: ``NCHW16c``, ``OIHW16i16o``, ``nChw16c``.

Capital letters are axes, in order; a number and a small letter after them is an inner block of
that axis. ``NCHW16c`` has shape (N, ceil(C/16), H, W, 16). A letter may be blocked twice, the
outer part first: ``OIhw4i16o4i`` splits I into (I/16, 4, 4). A small letter without a number is
oneDNN's way to write an axis that has no blocks. What does not divide is padded with zeros.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from ..arguments import shown
from ..errors import LayoutError, ShapeError

_TOKEN = re.compile(r"(\d*)([A-Za-z])")


@dataclass(frozen=True)
class Blocked:
    """A layout, blocked or plain.

    Attributes:
        text: as it was given.
        axes: the letters of the axes, in order.
        inner: the blocks that follow them: letter and size.
    """

    text: str
    axes: str
    inner: tuple[tuple[str, int], ...]

    @property
    def order(self) -> str:
        """A letter for each axis in memory."""
        return self.axes + "".join(letter for letter, _ in self.inner)

    def block(self, letter: str) -> int:
        """How many elements of an axis lie together; 1 if it is not blocked."""
        return prod(size for name, size in self.inner if name == letter)

    def shape(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """Shape in memory of an array with these sizes."""
        outer = (-(-sizes[letter] // self.block(letter)) for letter in self.axes)
        return (*outer, *(size for _, size in self.inner))

    def sizes(self, shape: Sequence[int]) -> dict[str, int]:
        """Sizes of the axes of an array of this shape in memory, padding included.

        Raises:
            LayoutError: another number of axes.
            ShapeError: an inner axis has not the size of its block.
        """
        if len(shape) != len(self.order):
            raise LayoutError(
                f"layout: {self.text!r} names {len(self.order)} axes, but the array has "
                f"{len(shape)}: shape {tuple(shape)}."
            )
        for (letter, size), given in zip(self.inner, shape[len(self.axes) :], strict=True):
            if size != given:
                raise ShapeError(
                    f"layout: {self.text!r} has blocks of {size}{letter.lower()}, but that axis of "
                    f"the array has size {given}: shape {tuple(shape)}."
                )
        return {letter: n * self.block(letter) for letter, n in zip(self.axes, shape, strict=False)}

    def padding(self, sizes: Mapping[str, int]) -> dict[str, tuple[int, int]]:
        """Axes that are padded: the size, and the size with its padding."""
        blocks = {letter: self.block(letter) for letter in sizes}
        return {c: (n, -(-n // blocks[c]) * blocks[c]) for c, n in sizes.items() if n % blocks[c]}


def parse(layout: object, name: str = "layout") -> Blocked:
    """A layout, blocked or plain, from its text.

    Raises:
        LayoutError: it is malformed.

    >>> parse("OIHW16i16o").inner
    (('I', 16), ('O', 16))
    """
    if not isinstance(layout, str) or not re.fullmatch(r"(\d*[A-Za-z])+", layout):
        raise LayoutError(
            f"{name}: expected letters such as 'NCHW' or 'NCHW16c', got {shown(layout)}."
        )
    axes = ""
    inner: list[tuple[str, int]] = []
    for number, letter in _TOKEN.findall(layout):
        upper = letter.upper()
        if not number:
            if inner:
                raise LayoutError(
                    f"{name}: in {layout!r} the axis {letter!r} stands behind a block; blocks, "
                    f"a number and a small letter, come last."
                )
            if upper in axes:
                raise LayoutError(f"{name}: {upper!r} stands twice in {layout!r}.")
            axes += upper
        elif letter == upper or int(number) < 2 or len(number) > 6:
            raise LayoutError(
                f"{name}: {number + letter!r} in {layout!r} is no block; a block is a number from "
                f"2 on and a small letter, as in 16c."
            )
        elif upper not in axes:
            raise LayoutError(f"{name}: {layout!r} blocks {letter!r}, but has no axis {upper!r}.")
        else:
            inner.append((upper, int(number)))
    return Blocked(layout, axes, tuple(inner))


def pack(x: np.ndarray[Any, Any], layout: Blocked) -> np.ndarray[Any, Any]:
    """A plain array, its axes in the order ``layout.axes``, in blocks; padding is zeros."""
    if not layout.inner:
        return x
    sizes = dict(zip(layout.axes, x.shape, strict=True))
    short = layout.padding(sizes)
    if short:
        ends = (short.get(letter, (n, n)) for letter, n in sizes.items())
        x = np.pad(x, [(0, padded - n) for n, padded in ends])
    split: list[int] = []
    places: dict[str, list[int]] = {}
    for letter, n in zip(layout.axes, x.shape, strict=True):
        blocks = [size for name, size in layout.inner if name == letter]
        places[letter] = list(range(len(split), len(split) + 1 + len(blocks)))
        split += [n // prod(blocks), *blocks]
    order = [places[letter].pop(0) for letter in layout.order]
    return x.reshape(split).transpose(order)


def unpack(
    y: np.ndarray[Any, Any], layout: Blocked, sizes: Mapping[str, int] | None = None
) -> np.ndarray[Any, Any]:
    """The plain array, axes in the order ``layout.axes``, of one in blocks; padding is cut off.

    Args:
        y: array in blocks.
        layout: how.
        sizes: sizes of axes without their padding; default: padding is kept.

    Raises:
        LayoutError: the array does not fit the layout.
        ShapeError: likewise, or a size is none that was padded to what is there.
    """
    full = layout.sizes(y.shape)
    wanted = true_sizes(layout, full, sizes)
    if layout.inner:
        places = [i for letter in layout.axes for i, c in enumerate(layout.order) if c == letter]
        y = y.transpose(places).reshape([full[letter] for letter in layout.axes])
    return y[tuple(slice(wanted[letter]) for letter in layout.axes)]


def true_sizes(
    layout: Blocked, full: Mapping[str, int], sizes: Mapping[str, int] | None
) -> dict[str, int]:
    """The sizes without padding: as given, and as they are where nothing is given.

    Raises:
        ShapeError: a size is none that was padded to what is there.
    """
    for letter, n in (sizes or {}).items():
        if letter not in full:
            raise ShapeError(f"sizes: {layout.text!r} has no axis {letter!r}.")
        if not full[letter] - layout.block(letter) < n <= full[letter]:
            raise ShapeError(
                f"sizes: {letter}={n} is not what {layout.text!r} pads to {full[letter]}; it is "
                f"between {full[letter] - layout.block(letter) + 1} and {full[letter]}."
            )
    return {**full, **(sizes or {})}
