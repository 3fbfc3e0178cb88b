"""Sizes that a framework will only know later, as expressions of the sizes that it then has.

torch's SymInts, JAX's dimension variables and TensorFlow's scalars answer a comparison each in
their own way: by a guard that recompiles, by an error, by a tensor. So a plan is made of
:class:`Symbol` objects, for any values, and :class:`Sizes` turns these into the framework's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

Size = Any  # an int or a Symbol
Expression = tuple[Any, ...]


class Symbol:
    """A size that is not known yet. It has ``+ - * //``, and no order.

    Plain numbers are added up: a sum has one at most, as its second operand, and no product has a
    factor with one.

    Attributes:
        expression: ``("x", axis)``, ``("output_size", i)``, or an operator with two operands.
        sign: 1 for at least 0, -1 for at most 0, 0 where that is not known either.
    """

    __slots__ = ("expression", "sign")

    def __init__(self, expression: Expression, sign: int = 0) -> None:
        self.expression = expression
        self.sign = sign

    def __add__(self, other: Size) -> Symbol:
        if known(other):
            term, number = self.terms
            if number:
                total: Symbol = term + (number + other)
                return total
            if other == 0:
                return self
        return Symbol(("+", self, other), 1 if self.sign == _sign(other) == 1 else 0)

    def __radd__(self, other: int) -> Symbol:
        return self + other

    def __sub__(self, other: Size) -> Symbol:
        return self + -other if known(other) else Symbol(("-", self, other))

    def __rsub__(self, other: int) -> Symbol:
        return Symbol(("-", other, self))

    def __mul__(self, other: Size) -> Symbol:
        if known(other):
            if other == 1:
                return self
            term, number = self.terms
            if number:
                product: Symbol = term * other + number * other
                return product
        return Symbol(("*", self, other), self.sign * _sign(other))

    def __rmul__(self, other: int) -> Symbol:
        return self * other

    def __floordiv__(self, other: int) -> Symbol:
        if other == 1:
            return self
        return Symbol(("//", self, other), self.sign)  # by strides and the like, which are above 0

    def __neg__(self) -> Symbol:
        return Symbol(("-", 0, self), -self.sign)

    @property
    def terms(self) -> tuple[Symbol, int]:
        """This size without the plain number that is added to it, and that number."""
        operator, *operands = self.expression
        if operator == "+" and known(operands[1]):
            return operands[0], operands[1]
        return self, 0

    @property
    def factors(self) -> tuple[Symbol, int]:
        """This size without the plain positive number that it is multiplied by, and that number."""
        operator, *operands = self.expression
        if operator == "*" and known(operands[1]) and operands[1] > 0:
            return operands[0], operands[1]
        return self, 1

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Symbol) and self.expression == other.expression

    def __hash__(self) -> int:
        return hash(self.expression)

    def __repr__(self) -> str:
        if self.expression[0] in ("x", "output_size"):
            return "?"
        operator, a, b = self.expression
        return f"max({a}, {b})" if operator == "max" else f"({a} {operator} {b})"


def _sign(size: Size) -> int:
    return size.sign if isinstance(size, Symbol) else 1 if size >= 0 else -1


def known(*sizes: Size) -> bool:
    """Whether all of these are plain numbers."""
    return not any(isinstance(size, Symbol) for size in sizes)


def largest(a: Size, b: int) -> Size:
    """The larger of a size and a plain one."""
    if not isinstance(a, Symbol):
        return max(a, b)
    if b == 0 and a.sign:
        return a if a.sign == 1 else 0
    return Symbol(("max", a, b), 1 if b >= 0 else 0)


def residue(size: Size, step: int) -> int | None:
    """``size`` modulo ``step``, or None if that is not known."""
    if not isinstance(size, Symbol):
        return int(size % step)
    term, number = size.terms
    return number % step if term.factors[1] % step == 0 else None


def symbols(name: str, sizes: Sequence[int | None]) -> tuple[Size, ...]:
    """Sizes of which None are not known, named after what they are the sizes of."""
    return tuple(Symbol((name, i), 1) if n is None else n for i, n in enumerate(sizes))


class Sizes:
    """What the symbols of a plan stand for in one call.

    Args:
        shape: the input's shape, as its framework gives it.
        output_size: the sizes asked for, or None.
        maximum: the framework's larger of two sizes, either of which may be symbolic.
    """

    def __init__(
        self,
        shape: Sequence[Any],
        output_size: Sequence[Any] | None,
        maximum: Callable[[Any, Any], Any],
    ) -> None:
        self.shape = shape
        self.output_size = output_size
        self.maximum = maximum

    def __call__(self, value: Any) -> Any:
        """``value`` with the framework's own sizes: a size, or tuples and slices of sizes."""
        if isinstance(value, Symbol):
            return self._of(*value.expression)
        if isinstance(value, tuple):
            return tuple(self(item) for item in value)
        if isinstance(value, slice):
            return slice(self(value.start), self(value.stop), value.step)
        return value

    def _of(self, operator: str, a: Any, b: Any = None) -> Any:
        if operator == "x":
            return self.shape[a]
        if operator == "output_size":
            assert self.output_size is not None
            return self.output_size[a]
        a, b = self(a), self(b)
        if operator == "+":
            return a + b
        if operator == "-":
            return a - b
        if operator == "*":
            return a * b
        return a // b if operator == "//" else self.maximum(a, b)


def symbolic(value: Any) -> bool:
    """Whether a symbol is in ``value``: a size, or tuples and slices of sizes."""
    if isinstance(value, tuple):
        return any(map(symbolic, value))
    if isinstance(value, slice):
        return symbolic((value.start, value.stop))
    return isinstance(value, Symbol)
