"""The suite is tested by faults: wrong engines, each of which it has to catch."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import convspec_conformance as conformance
from convspec import ConvSpec
from convspec_conformance.cases import Case
from convspec_conformance.faults import FAULTS, check, fault, right, run_faults, table
from convspec_conformance.faults.engine import Call, Fault
from convspec_conformance.faults.hunt import in_turns

#: Cases that a fault may take: the standard level has about 600.
BUDGET = 1000


#: A fault is hunted together with so many others, which share what is expected of a case.
TOGETHER = 30


@pytest.mark.parametrize(
    "names",
    [tuple(FAULTS)[i : i + TOGETHER] for i in range(0, len(FAULTS), TOGETHER)],
    ids=lambda names: names[0],
)
def test_every_fault_is_caught(names: tuple[str, ...]) -> None:
    hunts = run_faults(names, seed=0, budget=BUDGET)
    assert [hunt.fault.name for hunt in hunts] == list(names)
    assert not [hunt.fault.name for hunt in hunts if not hunt.caught]
    for hunt in hunts:
        assert hunt.case is not None
        assert hunt.verdict is not None
        if not hunt.fault.loud:
            # By its numbers: a quiet mistake that raises would be caught by anybody.
            assert hunt.verdict.status == "fail", (hunt.fault.name, hunt.verdict)
            assert hunt.case.judge != "refusal", (hunt.fault.name, hunt.case.line)
        assert table([hunt])[0][1] == hunt.case.judge


def test_the_engine_without_a_fault_is_never_caught() -> None:
    engine = Fault(right)
    for case in in_turns("standard", 0)[:BUDGET]:
        verdict = conformance.judge(case, engine)
        assert verdict.status == "pass", f"{case.line}\n{verdict.detail}"


@pytest.fixture
def made() -> Any:
    """Registers faults that are gone after the test."""
    before = dict(FAULTS)
    yield fault
    FAULTS.clear()
    FAULTS.update(before)


def test_a_fault_that_is_none_escapes(made: Callable[..., Fault]) -> None:
    @made
    def harmless(call: Call) -> Any:
        """Nothing is wrong."""
        return right(call)

    hunt = check("harmless", budget=100)
    assert not hunt.caught
    assert hunt.cases == 100
    assert table([hunt]) == [("harmless", "ESCAPED", "100", "")]


def test_the_fault_in_the_documentation_is_caught(
    made: Callable[..., Fault], capsys: pytest.CaptureFixture[str]
) -> None:
    text = (Path(__file__).parents[1] / "docs" / "conformance.md").read_text()
    _, section = text.split("## Who tests the suite")
    (block,) = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
    exec(block, {"__name__": "example"})
    assert "'same'" in conformance.parse(capsys.readouterr().out.strip()).line


def test_a_fault_has_a_docstring_and_a_name_of_its_own(made: Callable[..., Fault]) -> None:
    with pytest.raises(ValueError, match="fault undocumented: needs a docstring and a name"):

        @made
        def undocumented(call: Call) -> Any:
            return right(call)

    with pytest.raises(ValueError, match="fault kernel_flipped: needs a docstring and a name"):

        @made
        def kernel_flipped(call: Call) -> Any:
            """There is one of this name."""
            return right(call)


def test_a_quiet_mistake_neither_raises_nor_gives_another_shape(
    made: Callable[..., Fault],
) -> None:
    @made
    def unpadded(call: Call) -> Any:
        """Padding is left out."""
        return right(call.but(padding=0))

    spec = ConvSpec(1, 1, (3,), padding=1, layout="NCW")
    x, w = np.ones((1, 1, 4)), np.ones((1, 1, 3))
    assert unpadded.run(spec, x, w, None).tolist() == [[[2, 3, 3, 2]]]
    assert unpadded.run(spec, x[..., :2], w, None).tolist() == [[[2, 2]]]


@pytest.mark.parametrize("judge", ["exact", "linearity", "refusal"])
def test_an_engine_must_leave_the_arrays_alone(judge: str, made: Callable[..., Fault]) -> None:
    @made(loud=True)
    def tidies_up(call: Call) -> Any:
        """The weight is cleared after the call."""
        try:
            return right(call)
        finally:
            call.w[...] = 0

    spec = ConvSpec(2, 2, (1,), bias=False, layout="NCW")
    case = Case(judge, spec, (1, 2, 3), wrong="axes" if judge == "refusal" else "")
    verdict = conformance.judge(case, tidies_up)
    assert (verdict.status, verdict.detail) == ("fail", "weight was changed by the call")


def test_a_result_must_not_lie_in_the_input(made: Callable[..., Fault]) -> None:
    @made
    def identity_is_a_view(call: Call) -> Any:
        """A kernel of ones on one channel is thought to change nothing."""
        return call.x[:]

    spec = ConvSpec(1, 1, (1,), bias=False, layout="NCW")
    verdict = conformance.judge(Case("exact", spec, (1, 1, 3)), identity_is_a_view)
    assert verdict.detail == "the result lies in x's memory"
