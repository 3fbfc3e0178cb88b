"""Functions between convolutions, by name, elementwise and in place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arguments import shown
from ..convert.errors import package
from ..dtypes import COMPLEX, HALF, INTEGER
from ..errors import ConvSpecError, DTypeError

Array = np.ndarray[Any, Any]
#: Elements that are computed at a time, so that what a formula needs besides stays in the cache.
BLOCK = 2**16


def _sigmoid(x: Array) -> Array:
    # exp of a negative number alone, which never overflows
    small = np.exp(-np.abs(x))
    y: Array = np.where(x < 0, small, x.dtype.type(1)) / (1 + small)
    return y


def _gelu(x: Array) -> Array:
    y: Array = x * (1 + package("scipy.special").erf(x * x.dtype.type(0.5**0.5))) / 2
    return y


def _gelu_tanh(x: Array) -> Array:
    inner = x.dtype.type((2 / np.pi) ** 0.5) * (x + 0.044715 * x * x * x)
    y: Array = x * (1 + np.tanh(inner)) / 2
    return y


#: By name: the formula (of a float32 or float64 array, and of the parameter if it has one), the
#: parameter's name and its default, which are torch's.
FORMULAS: dict[str, tuple[Callable[..., Array], str, float]] = {
    "identity": (lambda x: x, "", 0.0),
    "relu": (lambda x: np.maximum(x, 0), "", 0.0),
    "leaky_relu": (lambda x, slope: np.where(x < 0, x * x.dtype.type(slope), x), "slope", 0.01),
    "elu": (
        lambda x, alpha: np.where(x < 0, x.dtype.type(alpha) * np.expm1(np.minimum(x, 0)), x),
        "alpha",
        1.0,
    ),
    "sigmoid": (_sigmoid, "", 0.0),
    "tanh": (np.tanh, "", 0.0),
    "silu": (lambda x: x * _sigmoid(x), "", 0.0),
    "softplus": (lambda x: np.logaddexp(x, x.dtype.type(0)), "", 0.0),
    "gelu": (_gelu, "", 0.0),
    "gelu_tanh": (_gelu_tanh, "", 0.0),
}


@dataclass(frozen=True)
class Activation:
    """An elementwise function.

    Attributes:
        name: identity, relu, leaky_relu, elu, sigmoid, tanh, silu, softplus, gelu (by the error
            function, which needs SciPy) or gelu_tanh (its approximation).
        parameter: leaky_relu's slope, elu's alpha; None for the default.

    Raises:
        ConvSpecError: an unknown name, or a parameter that it has not.
    """

    name: str = "identity"
    parameter: float | None = None

    def __post_init__(self) -> None:
        if self.name not in FORMULAS:
            raise ConvSpecError(f"activation: {shown(self.name)} is none of {', '.join(FORMULAS)}.")
        if self.parameter is not None:
            if not FORMULAS[self.name][1]:
                raise ConvSpecError(f"activation: {self.name!r} has no parameter.")
            if isinstance(self.parameter, bool) or not isinstance(self.parameter, (int, float)):
                raise ConvSpecError(
                    f"activation: {self.name!r} takes a number, got {shown(self.parameter)}."
                )

    @classmethod
    def of(cls, value: Any) -> Activation:
        """From a name, ``{"name": "leaky_relu", "slope": 0.1}`` or None."""
        if isinstance(value, Activation):
            return value
        if not isinstance(value, Mapping):
            return cls("identity" if value is None else value)
        values = dict(value)
        name = values.pop("name", None)
        label = FORMULAS[name][1] if isinstance(name, str) and name in FORMULAS else ""
        parameter = values.pop(label, None) if label else None
        if values:
            raise ConvSpecError(
                f"activation: {shown(name)} has no {', '.join(map(str, values))}; known are: "
                f"name{f', {label}' if label else ''}."
            )
        return cls(name, parameter)

    def to_value(self) -> Any:
        """What :meth:`of` takes, ready for JSON."""
        if self.parameter is None:
            return self.name
        return {"name": self.name, FORMULAS[self.name][1]: self.parameter}

    def check(self, dtype: str) -> None:
        """It is defined for this element type.

        Raises:
            DTypeError: it is not: complex numbers have no order, integers no fractions.
        """
        exact = ("identity", "relu") if dtype in INTEGER else ("identity",)
        if dtype in (*INTEGER, *COMPLEX) and self.name not in exact:
            raise DTypeError(
                f"activation: {self.name!r} is not defined for {dtype}; convert to float32 "
                f"(dtype='float32')."
            )

    def __call__(self, x: Array) -> Array:
        """The function of each element, in place where ``x`` may be written.

        Half types are computed in float32 and rounded once.
        """
        if self.name == "identity":
            return x
        formula, label, default = FORMULAS[self.name]
        options = (default if self.parameter is None else self.parameter,) if label else ()
        if not (x.flags.c_contiguous and x.flags.writeable):
            x = x.copy()
        wide = np.float32 if x.dtype.name in HALF else x.dtype
        flat = x.reshape(-1)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            for start in range(0, flat.size, BLOCK):
                part = flat[start : start + BLOCK]
                part[...] = formula(part.astype(wide, copy=False), *options)
        return x
