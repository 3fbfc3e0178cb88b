"""Arguments made canonical once: every helper knows the name of the argument it reads."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

from .errors import ConvSpecError, ShapeError, UnsupportedError

Pair = tuple[int, int]
Padding = tuple[Pair | str, ...]

PADDING_MODES = ("zeros", "reflect", "replicate", "circular")
NAMED = ("same", "same_lower")
WORDS = ("valid", "causal", *NAMED)

#: Frameworks keep channels and strides in 32 bits; some wrap or abort from 2**31 - 1 on.
LARGEST = 2**30
LARGEST_SIZE = 2**63 - 1
#: More elements than this no processor of today can address, at one byte each.
LARGEST_COUNT = 2**47
#: Characters that a message spends on one value.
SHOWN = 60


def shown(value: object) -> str:
    """``repr(value)`` for a message: on one line, and cut short."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # a number of too many digits, or an object's own mistake
        text = f"<{type(value).__name__} that cannot be shown>"
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."


def integer(name: str, value: object, *, minimum: int = -LARGEST, maximum: int = LARGEST) -> int:
    """``value`` as an int. NumPy integers pass; bools, floats and NaN do not.

    Raises:
        ShapeError: not an integer, below ``minimum``, or above ``maximum``.
    """
    if type(value) is int:
        number = value
    elif isinstance(value, bool) or "bool" in str(getattr(value, "dtype", "")):
        raise ShapeError(f"{name}: expected an integer, got the bool {shown(value)}.")
    else:
        try:
            number = operator.index(value)  # type: ignore[arg-type]
        except Exception:  # TypeError, or what else an array's __index__ raises
            raise ShapeError(
                f"{name}: expected an integer, got {shown(value)} ({type(value).__name__})."
            ) from None
    if number < minimum:
        raise ShapeError(f"{name}: must be at least {minimum}, got {shown(number)}.")
    if number > maximum:
        raise ShapeError(f"{name}: must be at most {maximum}, got {shown(number)}.")
    return number


def flag(name: str, value: object) -> bool:
    """``value`` as a bool; a NumPy bool passes, anything else does not."""
    if isinstance(value, bool):
        return value
    if type(value).__name__ in ("bool_", "bool"):
        return bool(value)
    raise ConvSpecError(f"{name}: expected True or False, got {shown(value)}.")


def is_sequence(value: object) -> bool:
    """Whether ``value`` has one entry per axis; words and 0-d arrays are scalars."""
    if isinstance(value, (str, bytes, dict, set)):
        return False
    return isinstance(value, Sequence) or (hasattr(value, "__len__") and hasattr(value, "__iter__"))


def entries(name: str, value: Any) -> list[Any] | None:
    """The entries of a sequence, or None for a scalar."""
    if not is_sequence(value):
        return None
    try:
        return list(value)
    except TypeError:  # a 0-d array has __len__ and __iter__, and neither works
        return None


def per_axis(name: str, value: object, rank: int, letters: str, *, minimum: int) -> tuple[int, ...]:
    """One integer for each spatial axis; a scalar holds for all.

    Raises:
        ShapeError: wrong length, or an entry that is no integer of at least ``minimum``.
    """
    values = entries(name, value)
    if values is None:
        return (integer(name, value, minimum=minimum),) * rank
    check_length(name, values, rank, letters)
    return tuple(
        integer(f"{name}[{i}] (axis {letters[i]})", entry, minimum=minimum)
        for i, entry in enumerate(values)
    )


def check_length(name: str, values: Sequence[object], rank: int, letters: str) -> None:
    if len(values) != rank:
        raise ShapeError(
            f"{name}: {shown(tuple(values))} has {len(values)} entries, but there are {rank} "
            f"spatial axes ({letters}).\n  Give one entry per axis, or a scalar for all of them."
        )


def padding_entries(
    value: object, rank: int, letters: str, extents: Sequence[int], transposed: bool
) -> Padding:
    """Padding as one ``(lo, hi)`` pair or ``"same"`` / ``"same_lower"`` for each axis.

    Raises:
        ShapeError: wrong length, unknown word, no integers, or a lone ``"causal"`` above rank 1.
        UnsupportedError: ``"causal"`` on a transposed convolution.
    """
    values = entries("padding", value)
    if values is None:
        if isinstance(value, str) and value == "causal" and rank > 1 and not transposed:
            others = ", ".join(["'same'"] * (rank - 1))
            raise ShapeError(
                f"padding: 'causal' alone is for rank 1, and this spec has rank {rank} "
                f"({letters}).\n  Say which axis is time, as in ('causal', {others})."
            )
        values = [value] * rank
    check_length("padding", values, rank, letters)
    return tuple(
        _padding_entry(f"padding[{i}] (axis {letters[i]})", entry, extents[i], transposed)
        for i, entry in enumerate(values)
    )


def _padding_entry(name: str, entry: object, e: int, transposed: bool) -> Pair | str:
    if isinstance(entry, str):
        if entry in NAMED:
            return NAMED[NAMED.index(entry)]  # plain, where ``entry`` is a NumPy string
        if entry == "valid":
            return (0, 0)
        if entry == "causal":
            if transposed:
                raise UnsupportedError(
                    f"{name}: 'causal' has no meaning for a transposed convolution.\n"
                    f"  A causal decoder crops the end: pass the explicit padding (0, e-s), "
                    f"where e={e} is the kernel's extent and s the stride."
                )
            return (integer(f"{name}, lo", e - 1), 0)
        raise ShapeError(f"{name}: {shown(entry)} is none of {', '.join(WORDS)}.")
    pair = entries(name, entry)
    if pair is None:
        amount = integer(name, entry)
        return (amount, amount)
    if len(pair) != 2:
        raise ShapeError(f"{name}: expected an int, a pair (lo, hi) or a name, got {shown(entry)}.")
    return (integer(f"{name}, lo", pair[0]), integer(f"{name}, hi", pair[1]))


def one_of(name: str, value: object, choices: Sequence[str]) -> str:
    """``value``, which must be one of ``choices``."""
    if not isinstance(value, str) or value not in choices:
        raise ConvSpecError(f"{name}: {shown(value)} is none of {', '.join(choices)}.")
    return choices[choices.index(value)]  # plain, where ``value`` is a NumPy string
