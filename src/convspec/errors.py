"""Every exception this library raises, as one small tree.

    ConvSpecError (ValueError)
    |-- LayoutError            axis orders: letters, repeated or missing axes, wrong axis count
    |-- ShapeError             sizes and amounts: channels, kernel, stride, padding, output size
    |-- DTypeError             element types, and arrays of two frameworks in one call
    |-- UnsupportedError       (NotImplementedError) right in principle, impossible on this backend
    `-- BackendNotFoundError   (ImportError) no installed backend owns the array or has the name

A message says the rule, the value, the place and the remedy, and starts with the argument's name.
"""

from __future__ import annotations


class ConvSpecError(ValueError):
    """Base of all errors of this library."""

    # While it traces, TensorFlow raises an error anew with a longer message, as the same type only
    # if that is built like this, else as its own.
    __init__ = Exception.__init__


class LayoutError(ConvSpecError):
    """An axis order is malformed, or does not fit the array or the other orders."""


class ShapeError(ConvSpecError):
    """A size, count or amount is out of range or does not fit the others."""


class DTypeError(ConvSpecError):
    """Element types disagree, or arrays of two frameworks meet in one call."""


class UnsupportedError(ConvSpecError, NotImplementedError):
    """The request has a meaning, but this backend (or this library) cannot compute it."""


class BackendNotFoundError(ConvSpecError, ImportError):
    """No installed backend owns this array, or none has this name."""


def first_line(error: Exception) -> str:
    """What a framework's error says, as far as a message of ours has room for it."""
    return f"{error}".strip().split("\n")[0][:100]
