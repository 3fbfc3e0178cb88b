"""The shrinker finds the smallest failing case, and its snippets run and give what they say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import convspec
import convspec_conformance as conformance
from convspec import ConvSpec, Support, reference
from convspec_conformance import fillings
from convspec_conformance.cases import Case
from convspec_conformance.generate import PROPERTIES
from convspec_conformance.judges import fair, judge
from convspec_conformance.shrink import LITERAL, listed, shrink, snippet

STANDARD = conformance.suite("standard", 4)


class Wrong:
    """The reference, with one thing in a spec ignored."""

    name = "wrong"

    def __init__(self, **ignored: Any) -> None:
        self.ignored = ignored

    def claims(self, case: Case) -> Support:
        return Support(True, "native")

    def run(self, spec: ConvSpec, x: Any, w: Any, b: Any, **options: Any) -> Any:
        return reference(spec.replace(**self.ignored), x, w, b, **options)


@pytest.mark.parametrize(
    ("ignored", "expected"),
    [
        ({"flip_kernel": False}, "flip_kernel=True"),
        ({"dilation": 1}, "dilation=(2,)"),
        ({"padding_mode": "zeros"}, "padding_mode="),
    ],
    ids=str,
)
def test_the_smallest_case_says_what_is_wrong(ignored: Any, expected: str) -> None:
    target = Wrong(**ignored)

    def fails(case: Case) -> bool:
        return judge(case, target).status == "fail"

    failing = [case for case in STANDARD if case.judge == "exact" and fails(case)]
    assert len(failing) > 5
    for case in failing[:6]:
        small = shrink(case, fails)
        assert fails(small)
        assert small.dtype == case.dtype
        spec = small.spec
        assert expected in repr(spec)
        assert (spec.rank, spec.groups, spec.in_channels, spec.bias) == (1, 1, 1, False)
        assert np.prod(small.input_shape) <= 6, small.line
        assert small.view == "plain"


def test_what_never_fails_is_as_it_was() -> None:
    assert shrink(STANDARD[0], lambda case: False) == STANDARD[0]


def test_everything_on_the_way_is_a_fair_question_of_its_judge() -> None:
    for name in ("exact", "bounded", "refusal", *PROPERTIES):
        case = next(case for case in STANDARD if case.judge == name)
        seen: list[Case] = []

        def fails(case: Case, seen: list[Case] = seen) -> bool:
            seen.append(case)
            return True

        small = shrink(case, fails)
        assert seen
        assert all(fair(case) and case.judge == name for case in seen)
        assert all(conformance.parse(case.line) == case for case in seen)
        assert small.spec.rank == 1


def test_the_number_of_tries_is_limited() -> None:
    seen: list[Case] = []
    shrink(STANDARD[0], lambda case: bool(seen.append(case)), tries=5)
    assert len(seen) == 5


def test_snippets_run(backend: convspec.Backend, capsys: pytest.CaptureFixture[str]) -> None:
    """In the framework's own words; JAX compiles each operation of each."""
    target = conformance.BackendTarget(backend)
    told = ("small", "wide")
    exact = [
        case
        for case in STANDARD
        if case.judge == "exact" and case.filling in told and target.claims(case)
    ]
    views = {view: [c for c in exact if c.view == view] for view in ("plain", "reversed")}
    empty = [case for case in exact if 0 in case.input_shape]
    permuted = [case for case in exact if case.view == "permuted"]
    count = 2 if backend.name == "jax" else 12
    for case in (*views["plain"][:count], *views["reversed"][:count], *permuted[:count], empty[0]):
        source = snippet(case, backend.name)
        names: dict[str, Any] = {}
        exec(source, names)
        expected = reference(
            case.spec,
            *fillings.arrays(case),
            output_size=case.output_size,
            out_dtype=case.out_dtype,
        )
        y = backend.to_numpy(names["y"])
        assert y.dtype == expected.dtype
        assert np.array_equal(y, expected), source
        assert capsys.readouterr().out.startswith("got ")


def test_snippets_of_small_cases_need_the_framework_alone() -> None:
    case = Case("exact", ConvSpec(1, 1, (2,)), (1, 1, 3), view="permuted", seed=1)
    source = snippet(case, "torch")
    assert "convspec" not in source.replace("ConvSpec", "")
    assert source.startswith(f"# {case.line}\nimport torch\n")
    assert f'print("expected", {listed(reference(case.spec, *fillings.arrays(case)))})' in source


def test_snippets_of_large_cases_recreate_the_data() -> None:
    case = Case(
        "exact", ConvSpec(3, 1, (5,), bias=False), (1, 3, LITERAL), dtype="bfloat16", seed=1
    )
    source = snippet(case, "torch")
    assert len(source) < 1500
    names: dict[str, Any] = {}
    exec(source, names)
    assert np.array_equal(
        convspec.get_backend("torch").to_numpy(names["y"]),
        reference(case.spec, *fillings.arrays(case)),
    )


def test_snippets_of_other_judges_and_targets_judge(capsys: pytest.CaptureFixture[str]) -> None:
    case = Case("layout", ConvSpec(1, 1, (2,)), (1, 1, 3))
    for target, shown in (
        ("numpy", case),
        ("convspec_numpy:backend", replace(case, judge="exact")),
    ):
        exec(snippet(shown, target), {})
        assert "status='pass'" in capsys.readouterr().out
