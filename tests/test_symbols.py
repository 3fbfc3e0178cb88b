"""Sizes that are not known yet: every expression is worth what it would be of plain numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convspec import ConvSpec, ShapeError, geometry
from convspec.problem import resolve_sizes
from convspec.symbols import Sizes, Symbol, known, largest, residue, symbols

NUMBERS = st.integers(-5, 5)
STEPS = st.integers(1, 4)
STEP = st.one_of(
    st.tuples(st.just("+"), NUMBERS),
    st.tuples(st.just("-"), NUMBERS),
    st.tuples(st.just("*"), st.integers(1, 4)),
    st.tuples(st.just("//"), STEPS),
    st.tuples(st.just("max"), NUMBERS),
    st.tuples(st.just("of"), NUMBERS),
)


def worth(value: object, *sizes: int) -> int:
    result = Sizes(sizes, None, max)(value)
    assert isinstance(result, int)
    return result


def carried_out(n: Symbol | int, steps: list[tuple[str, int]]) -> Symbol | int:
    for operator, number in steps:
        if operator == "+":
            n = n + number
        elif operator == "-":
            n = n - number
        elif operator == "of":
            n = number - n
        elif operator == "*":
            n = n * number
        elif operator == "//":
            n = n // number
        else:
            n = largest(n, number)
    return n


@given(st.lists(STEP, max_size=6), st.integers(0, 9))
def test_expressions(steps: list[tuple[str, int]], n: int) -> None:
    (symbol,) = symbols("x", [None])
    assert worth(carried_out(symbol, steps), n) == carried_out(n, steps)


@given(st.lists(STEP, max_size=4), st.integers(0, 9), st.integers(1, 6))
def test_what_a_residue_is(steps: list[tuple[str, int]], n: int, step: int) -> None:
    (symbol,) = symbols("x", [None])
    rest = residue(carried_out(symbol, steps), step)
    assert rest in (None, carried_out(n, steps) % step)


@given(st.integers(1, 9), st.integers(1, 9), STEPS, st.integers(0, 7), st.booleans())
def test_same_padding_of_a_multiple_is_known(n: int, e: int, s: int, c: int, lower: bool) -> None:
    """It depends on the size modulo the stride alone: a transposed call's is that of n * s."""
    (symbol,) = symbols("x", [None])
    pair = geometry.same_padding(symbol * s + c, e, s, lower=lower)
    assert known(*pair)
    assert pair == geometry.same_padding(n * s + c, e, s, lower=lower)


@given(st.integers(1, 20), st.integers(1, 9), STEPS, st.booleans())
def test_what_same_padding_leaves(n: int, e: int, s: int, lower: bool) -> None:
    """It is what it says of itself, and never less than one window."""
    pair = geometry.same_padding(n, e, s, lower=lower)
    assert geometry.forward_size(n, e, s, pair) == geometry.same_size(n, s) == -(-n // s)
    assert n + sum(pair) >= e


@pytest.mark.parametrize("padding", [0, 1, (2, -1), "same"])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("stride", [1, 3])
def test_conditions(padding: object, transposed: bool, stride: int) -> None:
    """They hold where the plain size is none that a spec refuses, and there is one for an axis."""
    pairs = [padding] if isinstance(padding, tuple) else padding
    spec = ConvSpec(2, 2, (4,), stride, pairs, layout="NWC", transposed=transposed)
    unknown = resolve_sizes(spec, symbols("x", [2, None, 2]), None)
    assert len(unknown.conditions) == 1
    for n in range(1, 8):
        held = all(worth(c.small, 2, n, 2) <= worth(c.large, 2, n, 2) for c in unknown.conditions)
        try:
            plain = resolve_sizes(spec, (2, n, 2), None)
        except ShapeError:
            assert not held
            continue
        assert held
        for name in ("padding", "output_padding", "output_size", "output_shape"):
            value = Sizes((2, n, 2), None, max)(getattr(unknown, name))
            assert value == getattr(plain, name)
    (condition,) = unknown.conditions
    assert isinstance(condition.large, Symbol)
    assert condition.large.expression == ("x", 1)  # with nothing to compute
