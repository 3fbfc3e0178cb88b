"""What is done to one array, as data: each step can be done, undone and told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Protocol

import numpy as np

from ..layouts import permutation
from ..spec import ConvSpec
from .kinds import Flatten

Array = np.ndarray[Any, Any]


class Step(Protocol):
    """One change of an array's order; views wherever NumPy can."""

    def apply(self, x: Array) -> Array: ...
    def undo(self, y: Array) -> Array: ...
    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]: ...
    def __str__(self) -> str: ...


@dataclass(frozen=True)
class Reorder:
    """A kernel from the order of one spec to that of another."""

    source: ConvSpec
    target: ConvSpec

    def apply(self, x: Array) -> Array:
        return self.source.convert_weight(x, self.target)

    def undo(self, y: Array) -> Array:
        return self.target.convert_weight(y, self.source)

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return self.target.weight_shape

    def __str__(self) -> str:
        text = f"{self.source.weight_layout} -> {self.target.weight_layout}"
        if self.source.flip_kernel != self.target.flip_kernel:
            text += ", flip"
        groups = self.source.group_axis, self.target.group_axis
        if self.source.groups > 1 and groups[0] != groups[1]:
            text += f", groups {groups[0]} -> {groups[1]}"
        return text


@dataclass(frozen=True)
class Transpose:
    """The two axes of a matrix trade places."""

    def apply(self, x: Array) -> Array:
        return x.T

    undo = apply

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape[::-1]

    def __str__(self) -> str:
        return "transpose"


@dataclass(frozen=True)
class Permute:
    """Axes of these letters go to another order."""

    source: str
    target: str

    def apply(self, x: Array) -> Array:
        return x.transpose(permutation(self.source, self.target))

    def undo(self, y: Array) -> Array:
        return y.transpose(permutation(self.target, self.source))

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(shape[i] for i in permutation(self.source, self.target))

    def __str__(self) -> str:
        return f"{self.source} -> {self.target}"


@dataclass(frozen=True)
class Rows:
    """Features along an axis, flattened in one order, go to another.

    Attributes:
        axis: of the array.
        source: how they are flattened.
        target: the letters in the new order.
        what: what they are, in words.
    """

    axis: int
    source: Flatten
    target: str
    what: str = "rows"

    def apply(self, x: Array) -> Array:
        return self._moved(x, self.source.layout, self.source.shape, self.target)

    def undo(self, y: Array) -> Array:
        sizes = dict(zip(self.source.layout, self.source.shape, strict=True))
        return self._moved(y, self.target, [sizes[c] for c in self.target], self.source.layout)

    def _moved(self, x: Array, layout: str, sizes: Sequence[int], target: str) -> Array:
        before, after = x.shape[: self.axis], x.shape[self.axis + 1 :]
        x = x.reshape(*before, *sizes, *after)
        axes = [len(before) + i for i in permutation(layout, target)]
        rest = range(len(before) + len(sizes), x.ndim)
        return x.transpose(*range(len(before)), *axes, *rest).reshape(*before, prod(sizes), *after)

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape

    def __str__(self) -> str:
        sizes = "x".join(map(str, self.source.shape))
        return f"{self.what} {self.source.layout} ({sizes}) -> {self.target}"


@dataclass(frozen=True)
class Reshape:
    """Axes of size 1 come or go."""

    before: tuple[int, ...]
    after: tuple[int, ...]

    def apply(self, x: Array) -> Array:
        return x.reshape(self.after)

    def undo(self, y: Array) -> Array:
        return y.reshape(self.before)

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return self.after

    def __str__(self) -> str:
        return f"reshape to {self.after}"


def applied(steps: Sequence[Step], x: Array) -> Array:
    """An array after all steps, one after the other."""
    for step in steps:
        x = step.apply(x)
    return x


def undone(steps: Sequence[Step], y: Array) -> Array:
    """The array that :func:`applied` made ``y`` of."""
    for step in reversed(steps):
        y = step.undo(y)
    return y
