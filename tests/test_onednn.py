"""oneDNN's faults, by the shapes of the calls that have them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from convspec import ConvSpec
from convspec.backend import Environment
from convspec.onednn import ends_meet
from convspec.plan import Call
from convspec.problem import resolve
from convspec.symbols import Symbol
from convspec_numpy import backend


def call_of(kernel: int, stride: int, padding: int, planes: int) -> Call:
    spec = ConvSpec(2, 2, (kernel, 1, 1), (stride, 1, 1), (padding, 0, 0), bias=False)
    problem = resolve(spec, (1, 2, planes, 3, 3), None)
    (call,) = backend.plan(problem, Environment("float32", "float32")).calls
    return replace(
        call, input_size=(planes, 3, 3), padding=((padding, padding), (0, 0), (0, 0)),
        output_size=((planes + 2 * padding - kernel) // stride + 1, 3, 3),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "planes"),
    [(7, 2, 3, n) for n in (1, 3, 5)] + [(4, 2, 3, 4), (5, 3, 4, 6), (5, 2, 4, 2)],
)
def test_measured(kernel: int, stride: int, padding: int, planes: int) -> None:
    call = call_of(kernel, stride, padding, planes)
    assert ends_meet(call)
    there_and_back = replace(
        call, transposed=True, input_size=call.output_size, output_size=call.input_size
    )
    assert ends_meet(there_and_back)
    assert not ends_meet(replace(call, stride=(1, 1, 1)))


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "planes"),
    [(7, 2, 3, 8), (7, 2, 2, 3), (3, 2, 1, 1), (5, 3, 3, 2), (4, 2, 3, 8)],
)
def test_others(kernel: int, stride: int, padding: int, planes: int) -> None:
    assert not ends_meet(call_of(kernel, stride, padding, planes))


def test_sizes_that_are_not_known() -> None:
    call = call_of(7, 2, 3, 30)
    unknown = Symbol("D")
    assert not ends_meet(call)
    assert ends_meet(replace(call, input_size=(unknown, 3, 3)))
    assert ends_meet(replace(call, padding=((unknown, unknown), (0, 0), (0, 0)), same=True))
    three = call_of(3, 2, 1, 30)
    assert not ends_meet(replace(three, padding=((unknown, unknown), (0, 0), (0, 0)), same=True))
