"""Every rewriting is exact: a NumPy kernel that lacks something still equals the reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import convspec
from convspec import Problem
from convspec.algorithms import ALGORITHMS
from convspec.plan import Call, Step, concat, equal_parts, linear, slice_axis, source
from convspec.rewrites import RULES
from convspec_numpy import NumpyBackend
from generators import arrays, random_case


class Limited(NumpyBackend):
    """A kernel that lacks some of what NumPy's has; ``seen`` collects what was rewritten."""

    def __init__(self, *missing: str) -> None:
        self.missing = missing
        self.seen: set[str] = set()

    def lacks(self, call: Call) -> str:
        if call.rank == 0 and not call.bias:
            return ""
        has = {
            "batch": call.batch == 0,
            "transposed": call.transposed,
            "groups": call.groups > 1,
            "dilation": any(d > 1 for d in call.dilation),
            "stride": any(s > 1 for s in call.stride) and not call.transposed,
            "rank": call.rank > 1,
            "stack": call.rank > 1 and call.groups == 1,
            "repeat": call.groups == call.in_channels,
            "taps": call.groups == call.in_channels,
            "point": _is_point(call),
            "phases": call.transposed,
            "subpixel": call.transposed,
            "spread": call.rank > 0
            and not call.transposed
            and call.dilation[_longest(call)] % 2 == 1,
            "samples": not call.transposed and call.batch == 1 and call.output_size[0] > 1,
        }
        lack = next((name for name in self.missing if has[name]), "")
        if any(step > 1 for step in call.input_dilation):  # NumPy's kernel never has it
            lack = "input_dilation"
        lack = lack or super().lacks(call)
        self.seen.add(lack)
        return lack

    def bound(self, op: str, params: dict[str, Any]) -> Step:
        products = op == "conv" and params["call"].rank == 0
        return Step(np.matmul) if products else super().bound(op, params)

    def pads(self, mode: str, rank: int, dtype: str) -> bool:
        return False


def _longest(call: Call) -> int:
    return call.input_size.index(max(call.input_size))


def _is_point(call: Call) -> bool:
    ones = {*call.kernel_size, *call.stride} == {1} == {call.groups} and call.rank > 1
    return ones and not (call.transposed or call.padded)


WAYS = [
    ("batch",),
    ("groups",),
    ("dilation",),
    ("stride",),
    ("rank",),
    ("transposed",),
    ("transposed", "stride"),
    ("rank", "groups"),
    ("stack",),
    ("stack", "rank"),
    ("taps",),
    ("taps", "rank"),
    ("point",),
    ("transposed", "point"),
    ("phases",),
    ("phases", "point"),
    ("subpixel",),
    ("repeat",),
    ("samples",),
    ("spread",),
    ("transposed", "spread"),
    ("phases", "batch", "taps", "stack", "rank"),
    ("groups", "rank", "dilation"),
    ("batch", "transposed", "groups", "dilation", "stride", "rank"),
]


@pytest.mark.parametrize("missing", WAYS, ids="+".join)
def test_rewritten_equals_the_reference(missing: tuple[str, ...]) -> None:
    rng = np.random.default_rng(len(missing[0]))
    backend = Limited(*missing)
    for _ in range(250):
        case = random_case(rng)
        x, w, b = arrays(rng, case)
        options = {"output_size": case.output_size, "out_dtype": case.out_dtype}
        y = case.spec(x, w, b, backend=backend, **options)
        expected = convspec.reference(case.spec, x, w, b, **options)
        assert y.dtype == expected.dtype, case
        assert y.shape == expected.shape, case
        assert np.array_equal(y, expected), case
    assert set(missing) <= backend.seen


def test_every_rule_is_covered() -> None:
    reached = {name for way in WAYS for name in way} | {"bias", "padding", "input_dilation"}
    assert reached == set(RULES) | set(ALGORITHMS)


def test_kernel_calls_that_a_rewriting_costs() -> None:
    spec = convspec.ConvSpec(4, 4, (2, 3, 3), groups=4)
    problem: Problem = convspec.problem.resolve(spec, (1, 4, 5, 5, 5), None)
    env = convspec.Environment("float32", "float32")
    count = {
        missing: len(Limited(*missing).plan(problem, env).calls)
        for missing in [(), ("groups",), ("rank",), ("rank", "groups")]
    }
    assert count == {(): 1, ("groups",): 4, ("rank",): 2 * 3, ("rank", "groups"): 2 * 3 * 4}


@pytest.mark.parametrize("at_once", [False, True])
def test_parts_that_are_joined_again_are_left_whole(at_once: bool) -> None:
    x = source("x", (6, 4), "float32")
    thirds = equal_parts(x, 0, 3, at_once=at_once)
    assert {part.op for part in thirds} == {"part" if at_once else "slice"}
    assert concat(thirds, 0) is x
    other = equal_parts(x, 0, 3, at_once=at_once)[1]
    for parts in (thirds[::-1], thirds[:2], [slice_axis(x, 0, 0, 3), other], thirds[:1] * 3):
        assert concat(parts, 0).op == "concat"
    assert concat(thirds, 1).op == "concat"
    assert equal_parts(x, 0, 1, at_once=at_once) == [x]


def test_what_is_cut_and_joined_again_is_left_whole() -> None:
    """As of the residues of a stride: the gradient of each cut would have the whole's size."""
    x = source("x", (6, 4), "float32")
    thirds = [slice_axis(x, 0, i, 2) for i in (0, 2, 4)]
    for other in (thirds[::-1], thirds[:2], [slice_axis(x, 0, 0, 3, 2), thirds[1], thirds[2]]):
        assert concat(other, 0).op == "concat"
    assert concat(thirds, 1).op == "concat"
    spec = convspec.ConvSpec(2, 3, 2, stride=2, transposed=True, bias=False, layout="NCHW")
    problem: Problem = convspec.problem.resolve(spec, (1, 2, 5, 5), None)
    env = convspec.Environment("float32", "float32")
    lowered = Limited("phases").plan(problem, env)
    after = [line.node.op for line in linear(lowered.plan, lowered.inputs)]
    assert "concat" not in after[after.index("conv") :]
