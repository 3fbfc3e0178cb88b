"""Axis orders as strings of letters: parsing, defaults, and the permutation between two of them.

Data axes are ``N`` (batch, optional), ``C`` (channels) and spatial letters; weight axes are ``O``
(output channels) or ``M`` (depthwise multiplier), ``I`` (input channels) and the same spatial
letters. Any other capital letter may name a spatial axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_uppercase
from typing import TypeVar

from .arguments import shown
from .errors import LayoutError

T = TypeVar("T")

CAPITALS = frozenset(ascii_uppercase)
RESERVED = "NCOIM"
#: Default spatial letters, innermost axis last: rank r takes the last r of them.
DEFAULT_SPATIAL = "UVXYZABEFGJKLPQRSTDHW"
FORMATS = ("channels_first", "channels_last")


def is_format(layout: object) -> bool:
    """Whether ``layout`` is left out or one of the names, so that letters are still to be found."""
    return layout is None or (isinstance(layout, str) and layout in FORMATS)


def default_spatial(rank: int) -> str:
    """Spatial letters of a rank: ``W``, ``HW``, ``DHW``, ``TDHW``, ..."""
    if not 1 <= rank <= len(DEFAULT_SPATIAL):
        raise LayoutError(
            f"layout: there are default letters for rank 1 to {len(DEFAULT_SPATIAL)}, not {rank}."
        )
    return DEFAULT_SPATIAL[-rank:]


def standard_order(letters: str) -> str:
    """The usual letters of a rank in their usual order; others in the order they come in."""
    usual = DEFAULT_SPATIAL[-len(letters) :]
    return usual if set(usual) == set(letters) else letters


def spatial_letters(layout: str) -> str:
    """The spatial letters of a data or weight layout, in its order."""
    return "".join(letter for letter in layout if letter not in RESERVED)


def check_data_layout(name: str, layout: object) -> str:
    """``layout`` itself, after checking that it has C, at most one N, and spatial letters."""
    text = _check_letters(name, layout)
    for letter in "OIM":
        if letter in text:
            raise LayoutError(
                f"{name}: {letter!r} in {text!r} is an axis of a weight, not of data.\n"
                f"  Data layouts have C, optionally N, and spatial letters, as in 'NCHW'."
            )
    if "C" not in text:
        raise LayoutError(
            f"{name}: {text!r} has no channel axis; add 'C', as in 'N{spatial_letters(text)}C'."
        )
    if not text.strip(RESERVED):  # nothing is left between
        raise LayoutError(f"{name}: {text!r} has no spatial axis; add one, as in 'NCW'.")
    return text


def check_weight_layout(name: str, layout: object) -> str:
    """``layout`` itself, after checking that it has I, one of O and M, and spatial letters."""
    text = _check_letters(name, layout)
    for letter in "NC":
        if letter in text:
            raise LayoutError(
                f"{name}: {letter!r} in {text!r} is an axis of data, not of a weight.\n"
                f"  Weight layouts have O (or M), I and spatial letters, as in 'OIHW'."
            )
    if "I" not in text or ("O" in text) == ("M" in text):
        raise LayoutError(
            f"{name}: {text!r} needs 'I' and exactly one of 'O' and 'M' (a depthwise multiplier)."
        )
    if not spatial_letters(text):
        raise LayoutError(f"{name}: {text!r} has no spatial axis; add one, as in 'OIW'.")
    return text


def _check_letters(name: str, layout: object) -> str:
    if not isinstance(layout, str):
        raise LayoutError(
            f"{name}: expected a string of axis letters such as 'NCHW', got {shown(layout)}."
        )
    layout = "".join(layout)  # plain, where it is a NumPy string
    if len(set(layout)) == len(layout) and CAPITALS.issuperset(layout):
        return layout
    if layout in FORMATS:
        raise LayoutError(
            f"{name}: {layout!r} is short for a spec's data layout; write letters here."
        )
    for letter in layout:
        if not ("A" <= letter <= "Z"):
            raise LayoutError(
                f"{name}: {letter!r} in {shown(layout)} is no axis letter; use capitals A to Z."
            )
        if layout.count(letter) > 1:
            raise LayoutError(
                f"{name}: {letter!r} stands twice in {shown(layout)}; name each axis once."
            )
    return layout


def permutation(source: str, target: str) -> tuple[int, ...]:
    """Axes of ``source`` in the order of ``target``: the argument of a transpose.

    Raises:
        LayoutError: the two do not name the same axes.

    >>> permutation("NDCHW", "NDHWC")
    (0, 1, 3, 4, 2)
    """
    if len(source) != len(target) or set(source) != set(target):
        missing = "".join(sorted(set(source) ^ set(target)))
        raise LayoutError(
            f"layout: {source!r} and {target!r} do not name the same axes; only one of them has "
            f"{missing!r}."
        )
    return tuple([source.index(letter) for letter in target])


def reorder(values: Sequence[T], source: str, target: str) -> tuple[T, ...]:
    """``values``, one for each letter of ``source``, in the order of ``target``."""
    return tuple(values[source.index(letter)] for letter in target)


def sized(layout: str, shape: Sequence[object]) -> str:
    """A shape with its letters, for messages: ``N=2, C=3, H=8, W=8``."""
    return ", ".join(f"{letter}={shown(size)}" for letter, size in zip(layout, shape, strict=True))
