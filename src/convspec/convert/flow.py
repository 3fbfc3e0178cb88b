"""What the axes of a model's values are, so that the order of features is known, not guessed.

A layer without an order of its own, such as a dense one, sees the channels and positions of the
convolutions around it: flattened in front of it, or made of its outputs behind it. Each value
carries its axes; each axis the letters that were flattened into it. The readers of models
(:mod:`torch_models`, :mod:`keras_models`, :mod:`onnx_graphs`) walk through their graphs with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import prod

from .kinds import Flatten

#: One letter and its size. ``C`` and spatial letters come from convolutions, ``F`` is a dense
#: layer's outputs, ``?`` an axis of the model's input, of which nothing is known; ``!`` one behind
#: something unknown, which may be channels and positions mixed.
Factor = tuple[str, int | None]
Axis = tuple[Factor, ...]


@dataclass(frozen=True)
class Value:
    """One value in a model.

    Attributes:
        axes: its axes behind the batch, None if nothing is known.
        makers: layers whose outputs, or per-feature vectors, lie along these features.
    """

    axes: tuple[Axis, ...] | None = None
    makers: frozenset[str] = frozenset()

    def sized(self, shape: Sequence[int | None]) -> Value:
        """The value with the sizes that somebody knows, behind the batch."""
        if self.axes is None:
            return replace(self, axes=tuple((("!", n),) for n in shape))
        if len(self.axes) != len(shape):
            return Value(tuple((("!", n),) for n in shape))
        pairs = zip(self.axes, shape, strict=True)
        return replace(
            self,
            axes=tuple(
                ((axis[0][0], n),) if len(axis) == 1 and n is not None else axis
                for axis, n in pairs
            ),
        )


@dataclass
class Told:
    """What the model tells of one layer; None is what it leaves open.

    Attributes:
        flatten: the order of its inputs, or, of a vector, of its elements.
        unflatten: the order of its outputs.
        axes: letters of a parameter with several axes.
        rank: how many axes of positions a vector's values have.
        seen: whether the layer was met on the way.
        made: whether its outputs are new features.
    """

    flatten: Flatten | bool | None = None
    unflatten: Flatten | bool | None = None
    axes: str = ""
    rank: int | None = None
    seen: bool = False
    made: bool = False


@dataclass
class Flow:
    """Takes values through layers, and gathers what is told on the way."""

    told: dict[str, Told] = field(default_factory=dict)

    # ---- layers with parameters ----

    def conv(self, x: Value, letters: str, channels: int | None) -> Value:
        """Through a convolution on axes of these letters, as in ``CHW``."""
        if x.axes is not None and len(x.axes) == len(letters) and x.makers:
            self._claim(x, letters)
        return Value(tuple(((c, channels if c == "C" else None),) for c in letters))

    def dense(self, layer: str, x: Value, outputs: int | None) -> Value:
        """Through a dense layer on the last axis."""
        told = self._at(layer)
        if not told.seen:
            told.unflatten = False  # until something reshapes them
        self._agree(told, None if not x.axes else order_of(x.axes[-1]))
        told.made = True
        features: tuple[Axis, ...] = ((("F", outputs),),)
        axes = None if x.axes is None else (*x.axes[:-1], *features)
        return Value(axes, frozenset({layer}))

    def vector(self, layer: str, x: Value, axis: int) -> Value:
        """Through a layer with one number for each feature of an axis."""
        told = self._at(layer)
        if x.axes is None or not -len(x.axes) <= axis < len(x.axes):
            self._agree(told, None)
            return x
        self._agree(told, order_of(x.axes[axis]))
        told.rank = len(x.axes) - 1
        return replace(x, makers=x.makers | {layer}) if x.makers else x

    def scalar(self, layer: str, x: Value) -> Value:
        """Through a layer with one number for all features."""
        if x.axes is not None:
            self._agree(self._at(layer), False)
            self._at(layer).rank = len(x.axes) - 1
        return x

    def block(self, layer: str, x: Value, count: int) -> Value:
        """Through a layer with one number for each element of the last ``count`` axes."""
        if count == 1:
            return self.vector(layer, x, -1)
        if x.axes is not None and len(x.axes) >= count:
            letters = "".join(axis[0][0] for axis in x.axes[-count:] if len(axis) == 1)
            if len(letters) == count == len(set(letters)) and not set(letters) & set("?!"):
                self._at(layer).axes = letters
        return x

    # ---- layers without ----

    def resized(self, x: Value) -> Value:
        """The same axes; their sizes, but for the channels, are no longer known."""
        if x.axes is None:
            return x
        axes = tuple(
            axis if len(axis) > 1 or axis[0][0] in "CF" else ((axis[0][0], None),)
            for axis in x.axes
        )
        return replace(x, axes=axes)

    def flat(self, x: Value, start: int = 0, end: int = -1) -> Value:
        """Axes from ``start`` to ``end`` become one."""
        if x.axes is None:
            return self.lost(x)
        last = end % len(x.axes) if x.axes else 0
        start %= max(len(x.axes), 1)
        merged = tuple(factor for axis in x.axes[start : last + 1] for factor in axis)
        if len(merged) > 1:
            merged = tuple(factor for factor in merged if factor[1] != 1) or merged[:1]
        if x.makers and len(merged) > 1:  # back to what they were before
            self.lost(x)
            return Value((*x.axes[:start], merged, *x.axes[last + 1 :]))
        return replace(x, axes=(*x.axes[:start], merged, *x.axes[last + 1 :]))

    def permuted(self, x: Value, order: Sequence[int]) -> Value:
        """Axes in another order, counted from behind the batch."""
        if x.axes is None or sorted(order) != list(range(len(x.axes))):
            return self.lost(x)
        return replace(x, axes=tuple(x.axes[i] for i in order))

    def shaped(self, x: Value, sizes: Sequence[int | None]) -> Value:
        """To these sizes behind the batch; None, or -1, where they are not known."""
        known = [None if n is None or n < 1 else n for n in sizes]
        if len(known) == 1:
            return self.flat(x)
        factors = x.axes[0] if x.axes is not None and len(x.axes) == 1 else ()
        if len(factors) == len(known) and all(
            None in (n, size) or n == size for n, (_, size) in zip(known, factors, strict=True)
        ):
            return replace(x, axes=tuple((factor,) for factor in factors)).sized(known)
        plain = x.axes is None or (len(x.axes) == 1 and len(x.axes[0]) == 1)
        if plain and x.makers:
            return Value(tuple((("?", n),) for n in known), x.makers)
        self.lost(x)
        return Value(tuple((("!", n),) for n in known))

    def pooled(self, x: Value) -> Value:
        """Over all positions: channels alone are left."""
        if x.axes is None:
            return x
        left = tuple(axis for axis in x.axes if len(axis) == 1 and axis[0][0] == "C")
        return Value(left) if len(left) == 1 else self.lost(x)

    def together(self, *values: Value) -> Value:
        """Element by element: what is known of one is known of all."""
        known = [v for v in values if v.axes is not None]
        if not known:
            return Value(None, frozenset().union(*(v.makers for v in values)))
        longest = max(len(v.axes or ()) for v in known)
        best = max(
            (v for v in known if len(v.axes or ()) == longest),
            key=lambda v: sum(letter not in "F?!" for axis in v.axes or () for letter, _ in axis),
        )
        makers: frozenset[str] = frozenset()
        assert best.axes is not None
        named = any(letter not in "F?!" for axis in best.axes for letter, _ in axis)
        for value in values:
            if value is best or not value.makers:
                continue
            if not named:
                makers |= value.makers
            elif value.axes is not None and len(value.axes) == longest > 1:
                if all(len(axis) == 1 for axis in best.axes):
                    self._claim(value, "".join(axis[0][0] for axis in best.axes))
            elif longest == 1 and len(best.axes[0]) > 1:
                self._tell(value.makers, order_of(best.axes[0]))
            else:
                self.lost(value)
        return replace(best, makers=best.makers | makers)

    def joined(self, values: Sequence[Value], axis: int) -> Value:
        """One after the other along an axis."""
        first = values[0] if values else Value()
        if first.axes is None or any(
            v.axes is None or len(v.axes) != len(first.axes) for v in values
        ):
            return self.lost(*values)
        axis %= len(first.axes)
        parts = [v.axes[axis] for v in values if v.axes is not None]
        if any(len(part) > 1 for part in parts) or len({part[0][0] for part in parts}) > 1:
            return self.lost(*values)
        self.lost(*values)
        sizes = [part[0][1] for part in parts]
        total = None if None in sizes else sum(n for n in sizes if n is not None)
        axes = list(first.axes)
        axes[axis] = ((parts[0][0][0], total),)
        return Value(tuple(axes))

    def lost(self, *values: Value) -> Value:
        """Through something unknown: what happens to the features of dense layers is open."""
        for value in values:
            for maker in value.makers:
                told = self._at(maker)
                if told.made and told.unflatten is False:
                    told.unflatten = None
                elif not told.made and told.flatten is False:
                    told.flatten = None
        return Value()

    def ended(self, *values: Value) -> None:
        """At the end of the model: features that were reshaped have an order that is open."""
        for value in values:
            axes = value.axes or ()
            if len(axes) > 1 and any(letter in "?!" for axis in axes for letter, _ in axis):
                self.lost(value)

    # ---- what is told ----

    def _at(self, layer: str) -> Told:
        return self.told.setdefault(layer, Told())

    def _agree(self, told: Told, flatten: Flatten | bool | None) -> None:
        """A layer that is used twice has one order only if both uses have it."""
        told.flatten = flatten if not told.seen or told.flatten == flatten else None
        told.seen = True

    def _claim(self, x: Value, letters: str) -> None:
        """The features of dense layers turn out to be axes of these letters."""
        assert x.axes is not None
        if any(len(axis) > 1 for axis in x.axes):
            return
        self._tell(
            x.makers, order_of(tuple((c, a[0][1]) for c, a in zip(letters, x.axes, strict=True)))
        )

    def _tell(self, makers: frozenset[str], order: Flatten | bool | None) -> None:
        for maker in makers:
            told = self._at(maker)
            if told.made:
                told.unflatten = order
            else:
                told.flatten = order


def order_of(axis: Axis) -> Flatten | bool | None:
    """The order of the features along an axis: False for none, None if it is open."""
    factors = [factor for factor in axis if factor[1] != 1]
    letters = "".join(letter for letter, _ in factors)
    if "!" in letters:
        return None
    if len(factors) < 2:
        return False
    if "?" in letters or len(set(letters)) != len(letters):
        return None
    if "C" not in letters:
        return False
    sizes = [n for _, n in factors]
    if None not in sizes:
        return Flatten(letters, tuple(n for n in sizes if n is not None))
    at = letters.index("C")
    channels = sizes[at]
    if channels is None or at not in (0, len(letters) - 1):
        return None
    spatial = letters.replace("C", "")
    if list(spatial) != sorted(spatial, key=_rank):
        return None
    return Flatten("CX", (channels, -1)) if at == 0 else Flatten("XC", (-1, channels))


def _rank(letter: str) -> int:
    return "TDHW".find(letter)


def known_product(sizes: Sequence[int | None]) -> int | None:
    """The product of sizes, None if one is not known."""
    return None if None in sizes else prod(n for n in sizes if n is not None)
