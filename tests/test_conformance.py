"""The conformance suite's own parts: cases as text, two oracles, bounds, and what they notice."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import convspec
import convspec_conformance as conformance
from convspec import (
    ConvSpec,
    ConvSpecError,
    LayoutError,
    ShapeError,
    Support,
    UnsupportedError,
)
from convspec.dtypes import COMPLEX, HALF, INTEGER
from convspec_conformance import bounds, drawing, fillings, judges, oracles, special
from convspec_conformance.cases import GRADIENTS, JUDGES, VIEWS, WRONGS, Case
from convspec_conformance.generate import features, wrong_call
from convspec_conformance.judges import possible
from convspec_conformance.regressions import regressions
from convspec_conformance.steering import Steering

STANDARD = conformance.suite("standard", seed=0)


def test_a_case_is_one_line() -> None:
    for case in STANDARD:
        assert "\n" not in case.line
        assert conformance.parse(case.line) == case


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("nonsense", "case: 'nonsense' should be like\n  exact float32 2x3x8x8 seed=1 | ConvSpec("),
        ("exact float32 1x1x3 seed=x | ConvSpec(1, 1, (2,))", "case: 'x' should be a number."),
        ("exact float32 1x1x3 seed=1 | __import__('os')", "should be a ConvSpec(...) call"),
        ("exact float32 1x1x3 seed=1 | ConvSpec(1, 1, f())", "should be a ConvSpec(...) call"),
        ("exact float32 1x1x3 seed=1 hue=2 | ConvSpec(1, 1, 2)", "case: unknown options hue in"),
        ("exact float32 1x1x3 seed=1 view=odd | ConvSpec(1, 1, 2)", "case: view 'odd' is none of"),
        ("exact float32 1x1x3 seed=1 | ConvSpec(1, 1, (0,))", "kernel_size[0] (axis W): must be"),
    ],
)
def test_malformed_lines(line: str, message: str) -> None:
    with pytest.raises(ConvSpecError, match=re.escape(message)):
        conformance.parse(line)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("exact float32 1x2x8 seed=1 | ConvSpec(1, 1, (2,))", "x: has 2 channels on axis 1 (C)"),
        ("exact float32 1x1x8x8 seed=1 | ConvSpec(1, 1, (2,))", "x: has 4 axes, but layout"),
        ("exact float32 1x1x1 seed=1 | ConvSpec(1, 1, (2,))", "kernel_size: on axis W the kernel"),
        ("exact float9 1x1x8 seed=1 | ConvSpec(1, 1, (2,))", "dtype: float9 is none of float16,"),
        ("exact int8 1x1x8 seed=1 out=x | ConvSpec(1, 1, (2,))", "out: x is none of float16,"),
        ("exact float32 1x1x8 seed=1 out=int8 | ConvSpec(1, 1, (2,))", "out_dtype: float32 arrays"),
        ("exact float32 1x1x8 seed=1 wrong=axes | ConvSpec(1, 1, (2,))", "wrong= belongs to the"),
        ("refusal float32 1x1x8 seed=1 | ConvSpec(1, 1, (2,))", "wrong= belongs to the judge"),
        (
            "refusal float32 1x1x8 seed=1 wrong=one_channel | ConvSpec(1, 1, (2,))",
            "'one_channel' says nothing of such a convolution.",
        ),
        ("groups float32 1x1x8 seed=1 | ConvSpec(1, 1, (2,))", "'groups' says nothing of such"),
        ("bounded int8 1x1x8 seed=1 filling=real | ConvSpec(1, 1, (2,))", "'bounded' says nothing"),
        ("gradient int8 1x1x8 seed=1 | ConvSpec(1, 1, (2,))", "'gradient' says nothing of such"),
        (
            "exact float32 1x1x8 seed=1 filling=real | ConvSpec(1, 1, (2,))",
            "filling=real is not for 'exact' on these types.",
        ),
    ],
)
def test_cases_that_ask_for_nothing(line: str, why: str) -> None:
    with pytest.raises(ConvSpecError, match=re.escape(f"\n  cannot be asked: {why}")):
        possible(line)


def test_all_that_is_drawn_can_be_asked() -> None:
    for case in STANDARD:
        assert possible(case.line) == case


@dataclass
class Narrow:
    """Claims one dtype, one rank and one order, of the plainest convolutions there are."""

    name: str = "narrow"
    dtype: str = "float32"

    def __call__(self, case: Case) -> bool:
        spec = case.spec
        plain = spec.groups == 1 and not spec.transposed and spec.padding_mode == "zeros"
        last = (spec.layout, spec.output_layout, spec.weight_layout) == ("NHWC", "NHWC", "HWIO")
        return plain and last and (case.dtype, case.out_dtype) == (self.dtype, None)


def test_who_claims_little_is_asked_as_much_as_others() -> None:
    narrow = Narrow()
    places = [case for case in STANDARD if case.judge != "refusal" and not narrow(case)]
    steering = Steering(narrow)
    found = [steering.instead(case) for case in places[::5]]
    drawn = [case for case in found if case is not None]
    assert len(drawn) > 0.85 * len(found)
    assert all(narrow(case) and possible(case.line) == case for case in drawn)
    # Whatever was asked before, and in another worker.
    assert [Steering(narrow).instead(places[i]) for i in (15, 0)] == [found[3], found[0]]
    # As various as the claims allow.
    asked = [features(case) for case in drawn if case.judge == "exact"]
    for name, least in (("stride", 3), ("dilation", 3), ("batch", 3), ("view", 3), ("uneven", 2)):
        assert len({f[name] for f in asked}) >= least, name
    kept = [
        case
        for case, place in zip(found, places[::5], strict=True)
        if case and case.judge == place.judge
    ]
    assert len(kept) > 0.8 * len(drawn)


@pytest.mark.parametrize("dtype", ["float64", "bfloat16", "int8", "complex64"])
def test_who_claims_one_type_is_asked_as_much(dtype: str) -> None:
    narrow = Narrow(dtype=dtype)
    places = [case for case in STANDARD if case.judge != "refusal" and not narrow(case)][::40]
    drawn = [case for case in map(Steering(narrow).instead, places) if case is not None]
    assert len(drawn) > 0.7 * len(places)
    assert all(narrow(case) and possible(case.line) == case for case in drawn)


def test_in_the_place_of_a_refusal_or_of_nothing_comes_nothing() -> None:
    refusal = next(case for case in STANDARD if case.judge == "refusal")
    assert Steering(lambda case: True).instead(refusal) is None
    assert Steering(lambda case: False).instead(STANDARD[0]) is None


def test_a_judge_of_which_nothing_is_claimed_is_given_up() -> None:
    asked = []

    def claimed(case: Case) -> bool:
        asked.append(case)
        return case.judge not in ("gradient", "gradient2")

    steering = Steering(claimed)
    places = [case for case in STANDARD if case.judge == "gradient"]
    first = [case for case in map(steering.instead, places[:5]) if case]
    assert [case.judge for case in first] == ["exact"] * 5
    asked.clear()
    assert steering.instead(places[5]) is not None
    assert {case.judge for case in asked} == {"exact"}


def test_the_same_seed_gives_the_same_cases() -> None:
    assert conformance.suite("smoke", 7) == conformance.suite("smoke", 7)
    assert conformance.suite("smoke", 7) != conformance.suite("smoke", 8)


def test_every_judge_and_every_wrong_call_is_there() -> None:
    for level in ("smoke", "standard"):
        cases = conformance.suite(level)
        assert {case.judge for case in cases} == set(JUDGES)
        assert {case.wrong for case in cases} == {"", *WRONGS}


#: Errors that DESIGN names and no backend can miss: there is no spec to give to one.
CONSTRUCTION = [
    (LayoutError, "ConvSpec(1, 1, 1, layout='NCh')"),
    (LayoutError, "ConvSpec(1, 1, 1, layout='NCHH')"),
    (LayoutError, "ConvSpec(1, 1, 1, layout='NHW')"),
    (LayoutError, "ConvSpec(1, 1, 1, layout='NCHW', weight_layout='OIDW')"),
    (LayoutError, "ConvSpec(1, 1, 1, layout='NCHW', output_layout='CHW')"),
    (LayoutError, "ConvSpec(2, 2, 1, layout='NCW', weight_layout='WIM')"),
    (LayoutError, "ConvSpec(1, 1, 1, layout='NCW', weight_layout='WIM', transposed=True)"),
    (ShapeError, "ConvSpec(1, 1, (1, 1), layout='NCW')"),
    (ShapeError, "ConvSpec(0, 1, 1, layout='NCW')"),
    (ShapeError, "ConvSpec(1, -1, 1, layout='NCW')"),
    (ShapeError, "ConvSpec(1, 1, 0, layout='NCW')"),
    (ShapeError, "ConvSpec(1, 1, 1, stride=0, layout='NCW')"),
    (ShapeError, "ConvSpec(1, 1, 1, dilation=-1, layout='NCW')"),
    (ShapeError, "ConvSpec(1, 1, True, layout='NCW')"),
    (ShapeError, "ConvSpec(1, 1, float('nan'), layout='NCW')"),
    (ShapeError, "ConvSpec(3, 4, 1, groups=2, layout='NCW')"),
    (ShapeError, "ConvSpec(1, 1, 1, padding='causal', layout='NCHW')"),
    (ShapeError, "ConvSpec(1, 1, 1, output_padding=1, layout='NCW')"),
    (ShapeError, "ConvSpec(1, 1, 1, 2, output_padding=2, transposed=True, layout='NCW')"),
    (ShapeError, "ConvSpec(1, 1, 1, 2, 'same', output_padding=1, transposed=True, layout='NCW')"),
    (UnsupportedError, "ConvSpec(1, 1, 1, padding='causal', transposed=True, layout='NCW')"),
    (UnsupportedError, "ConvSpec(1, 1, 1, padding_mode='reflect', transposed=True, layout='NCW')"),
]


@pytest.mark.parametrize(("error", "code"), CONSTRUCTION)
def test_what_no_backend_sees_is_refused_on_construction(
    error: type[ConvSpecError], code: str
) -> None:
    with pytest.raises(ConvSpecError) as caught:
        eval(code)
    assert type(caught.value) is error


@pytest.mark.parametrize("wrong", WRONGS)
def test_a_wrong_call_is_wrong_whatever_the_spec(wrong: str) -> None:
    """The reference engine refuses each, so that no backend is asked to refuse what is right."""
    target = conformance.load("numpy")
    rng = np.random.default_rng(7)
    for _ in range(25):
        case = wrong_call(rng, wrong)
        verdict = conformance.judge(case, target)
        assert verdict.status == "pass", f"{case.line}\n{verdict.detail}"


def test_every_value_and_most_pairs_of_choices_are_covered() -> None:
    exact = [features(case) for case in STANDARD if case.judge == "exact"]
    values = {name: {f[name] for f in exact} for name in exact[0]}
    assert values["mode"] == {"zeros", "reflect", "replicate", "circular"}
    either = ("same", "same_lower", "causal", "cropped", "uneven", "gaps", "wide", "thin", "long")
    assert all(values[name] == {False, True} for name in either)
    assert values["batch"] == {-1, 0, 1, 4, 2**31}
    seen = {pair for f in exact for pair in combinations(sorted(f.items(), key=str), 2)}
    drawn = [features(case) for case in conformance.suite("standard", 1)]
    later = {pair for f in drawn for pair in combinations(sorted(f.items(), key=str), 2)}
    assert len(later - seen) < 0.12 * len(later)


def test_every_value_of_a_choice_meets_second_gradients() -> None:
    """Which are few: what is not in the regressions is drawn for being new."""
    # Of more axes than four there are one or two cases in a level.
    floating = [c for c in STANDARD if c.dtype not in INTEGER and c.spec.rank <= 4]
    exact = {v for case in floating if case.judge == "exact" for v in features(case).items()}
    second = {v for case in STANDARD if case.judge == "gradient2" for v in features(case).items()}
    missing = {name for name, _ in exact - second} - {"filling"}
    assert not missing, exact - second


def test_first_gradients_are_judged_with_second_ones() -> None:
    class Doubled(conformance.BackendTarget):
        def gradients(self, *arrays: Any, **options: Any) -> tuple[Any, ...]:
            return tuple(2 * found for found in super().gradients(*arrays, **options))

    case = next(c for c in STANDARD if c.judge == "gradient2" and c.input_shape[0])
    verdict = conformance.judge(case, Doubled(convspec.get_backend("torch")))
    assert verdict.status == "fail"
    assert verdict.detail.startswith("the gradient by ")


def test_where_second_gradients_are_not_claimed_first_ones_are_asked_for() -> None:
    def claimed(case: Case) -> bool:
        return case.judge != "gradient2"

    places = [case for case in STANDARD if case.judge == "gradient2"][:5]
    found = [Steering(claimed).instead(case) for case in places]
    assert [case.judge for case in found if case] == ["gradient"] * 5


def test_the_two_oracles_agree() -> None:
    """Exactly on integers; on real numbers to far less than any bound allows."""
    for case in STANDARD:
        if case.judge not in ("exact", "bounded") or case.filling == "nonfinite":
            continue
        x, w, b = fillings.arrays(case)
        y = oracles.windows(case.spec, x, w, b, output_size=case.output_size)
        if case.dtype in INTEGER:
            expected = convspec.reference(case.spec, x, w, b, output_size=case.output_size)
            assert np.array_equal(y.astype(expected.dtype), expected), case.line
            continue
        wide = "complex128" if case.dtype in COMPLEX else "float64"
        expected = convspec.reference(
            case.spec, x, w, b, output_size=case.output_size, out_dtype=wide
        )
        assert y.shape == expected.shape, case.line
        if case.filling != "real":
            assert np.array_equal(y, expected), case.line
        else:
            limit = bounds.elementwise(replace(case, dtype=wide, out_dtype=None), x, w, b, expected)
            assert (np.abs(y - expected) <= limit).all(), case.line


def test_exact_fillings_stay_exact() -> None:
    """No sum of magnitudes reaches the first integer that the result's type lacks."""
    for case in STANDARD:
        out = case.out_dtype or case.dtype
        if case.judge != "exact" or out in INTEGER or case.filling != "small":
            continue
        magnitudes = [None if a is None else np.abs(a) for a in fillings.arrays(case)]
        wide = [None if a is None else a.astype("float64") for a in magnitudes]
        y = convspec.reference(case.spec, *wide, output_size=case.output_size)
        # |re| + |im| is up to sqrt(2) of the magnitude, and a product has two of them.
        assert y.size == 0 or y.max() <= fillings.EXACT[out] * (2 if out in COMPLEX else 1)


# ---- NaN, infinities, and the ends of a type's range ----


def spread(spec: ConvSpec, x: Any, w: Any, y: Any) -> str:
    """The verdict on ``y`` for these arrays."""
    expected, open_to_nan = special.expected(Case("exact", spec, x.shape), x, w, None)
    return judges._spread(np.asarray(y, "float64"), expected, open_to_nan).status


def test_what_a_nan_and_an_infinity_may_do() -> None:
    """By hand: each window of two that touches it, by its sign, and no other."""
    nan, inf = np.nan, np.inf
    spec = ConvSpec(1, 1, (2,), bias=False)
    x, w = np.array([[[1, 2, inf, 3, 4.0]]]), np.array([[[1, -2.0]]])
    assert spread(spec, x, w, [[[-3, -inf, inf, -5]]]) == "pass"
    for wrong in ([-3, nan, inf, -5], [-3, inf, inf, -5], [-3, -inf, 9, -5], [nan, -inf, inf, -5]):
        assert spread(spec, x, w, [[wrong]]) == "fail"
    assert spread(spec, np.array([[[1, 2, nan]]]), w, [[[-3, nan]]]) == "pass"
    assert spread(spec, x, np.array([[[0, 1.0]]]), [[[2, inf, nan, 4]]]) == "pass"
    # Infinities of both signs, in one window.
    both = np.array([[[1, inf, -inf, 1.0]]])
    assert spread(spec, both, np.array([[[1, 1.0]]]), [[[inf, nan, -inf]]]) == "pass"


def test_zeros_in_between_may_be_left_out() -> None:
    spec, w = ConvSpec(1, 1, (2,), padding=1, bias=False), np.array([[[np.inf, 3.0]]])
    x = np.array([[[1, 2.0]]])
    for first in (3, np.nan):  # the infinite tap lies on the zero before the input
        assert spread(spec, x, w, [[[first, np.inf, np.inf]]]) == "pass"
    assert spread(spec, x, w, [[[4, np.inf, np.inf]]]) == "fail"
    assert spread(spec, x, w, [[[3, np.nan, np.inf]]]) == "fail"
    # And between the elements of a transposed convolution's input.
    up = ConvSpec(1, 1, (2,), stride=2, bias=False, transposed=True)
    for y in ([np.inf, 3, np.inf, 6], [np.inf, np.nan, np.inf, np.nan]):
        assert spread(up, x, w, [[y]]) == "pass"
    assert spread(up, x, w, [[[np.inf, 4, np.inf, 6]]]) == "fail"
    # And a number between the taps of a dilated kernel.
    wide, w = ConvSpec(1, 1, (2,), dilation=2, bias=False), np.array([[[1.0, 1]]])
    x = np.array([[[1, np.nan, 3, 4, 5]]])
    for first in (4, np.nan):
        assert spread(wide, x, w, [[[first, np.nan, 8]]]) == "pass"
    assert spread(wide, x, w, [[[4, np.nan, np.nan]]]) == "fail"


def test_fillings_reach_what_they_are_for() -> None:
    kinds = {
        name: [c for c in STANDARD if c.filling == name] for name in ("nonfinite", "tiny", "huge")
    }
    assert min(map(len, kinds.values())) > 5
    for case in kinds["nonfinite"]:
        given = [a for a in fillings.arrays(case) if a is not None]
        spoils = sum(int((~np.isfinite(a.astype("float64"))).sum()) for a in given)
        assert spoils <= 4
        assert spoils or 0 in case.input_shape
    with np.errstate(over="ignore"):
        results = {
            case: convspec.reference(
                case.spec,
                *fillings.arrays(case),
                output_size=case.output_size,
                out_dtype=case.out_dtype,
            )
            for case in (*kinds["tiny"], *kinds["huge"])
        }
    for case in kinds["tiny"]:
        y = np.abs(results[case].astype("float64"))
        least = float(ml_dtypes.finfo(results[case].dtype).smallest_normal)
        # Where dilated taps meet nothing but padding, there is nothing to reach.
        ones = [a if a is None else np.ones_like(a) for a in fillings.arrays(case)]
        sums = convspec.reference(case.spec, *ones, output_size=case.output_size)
        assert not sums.any() or ((y > 0) & (y < least)).any(), case.line
    infinite = [case for case in kinds["huge"] if np.isinf(results[case].astype("float64")).any()]
    assert len(infinite) > 0.5 * len(kinds["huge"])


def test_subnormal_numbers_may_be_taken_for_zero_but_not_in_float16() -> None:
    class Flushing(conformance.BackendTarget):
        def run(self, *arguments: Any, **options: Any) -> np.ndarray:
            y = super().run(*arguments, **options)
            small = np.abs(y.astype("float64")) < float(ml_dtypes.finfo(y.dtype).smallest_normal)
            return np.where(small, np.zeros((), y.dtype), y)

    target = Flushing(convspec.get_backend("numpy"))
    spec = ConvSpec(2, 3, (2,))
    for dtype, status in (
        ("float16", "fail"),
        ("bfloat16", "pass"),
        ("float32", "pass"),
        ("float64", "pass"),
    ):
        case = Case("exact", spec, (1, 2, 5), dtype=dtype, filling="tiny", seed=1)
        assert conformance.judge(case, target).status == status, dtype
        assert conformance.judge(case, HalfOff()).status == "fail", dtype


class HalfOff:
    """Results of which the largest number of the type is a part."""

    name = "off"

    def claims(self, case: Case) -> convspec.Support:
        return convspec.Support(True, "native")

    def run(self, spec: ConvSpec, *arrays: Any, **options: Any) -> Any:
        y = convspec.reference(spec, *arrays, **options)
        return y + np.asarray(1, y.dtype)


@pytest.mark.parametrize("view", VIEWS)
def test_views_are_the_same_numbers_in_other_memory(view: str) -> None:
    for shape in ((3,), (2, 3), (2, 1, 4)):
        a = np.arange(float(np.prod(shape)) + 1)[1:].reshape(shape)
        b = fillings.viewed(a, view, seed=1)
        assert np.array_equal(a, b)
        dense = view == "plain" or (view == "flipped" and shape[1 % len(shape)] == 1)
        assert b.flags.c_contiguous == dense, (view, shape)
        assert b.flags.writeable


class HalfAccumulator:
    """Half types are summed in themselves, one kernel tap after another, then the bias."""

    name = "half"

    def claims(self, case: Case) -> convspec.Support:
        return convspec.Support(case.dtype in HALF, "native")

    def run(self, spec: ConvSpec, x: Any, w: Any, b: Any, **options: Any) -> Any:
        space = [n for n, c in zip(w.shape, spec.weight_layout, strict=True) if c not in "OIM"]
        y = None
        for tap in np.ndindex(*space):
            index = iter(tap)
            kept = np.zeros_like(w)
            at = tuple(slice(None) if c in "OIM" else next(index) for c in spec.weight_layout)
            kept[at] = w[at]
            part = convspec.reference(spec, x, kept, **options)
            y = part if y is None else y + part
        if b is not None:
            channels = [-1 if c == "C" else 1 for c in spec.output_layout]
            y = y + b.reshape(channels).astype(y.dtype)
        return y


def test_wide_half_fillings_show_a_narrow_accumulator() -> None:
    """Of either half type in any seed; the small ones, exact in any accumulator, must not."""
    target = HalfAccumulator()
    for seed in range(2):
        cases = conformance.suite("standard", seed)
        caught = {
            (case.dtype, case.filling)
            for case in cases
            if case.judge == "exact"
            and case.filling in ("small", "wide")
            and case.dtype in HALF
            and conformance.judge(case, target).status == "fail"
        }
        assert caught == {("float16", "wide"), ("bfloat16", "wide")}


def test_the_bound_is_neither_loose_nor_tight() -> None:
    """float32 sums in any order are inside; one wrong tap of 75 is outside."""
    spec = ConvSpec(3, 8, (5, 5), bias=False)
    case = Case("bounded", spec, (1, 3, 12, 12), filling="real", seed=1)
    x, w, b = fillings.arrays(case)
    exact = convspec.reference(spec, x, w, out_dtype="float64")
    limit = bounds.elementwise(case, x, w, b, exact)
    windows = np.lib.stride_tricks.sliding_window_view(x[0], (5, 5), axis=(1, 2))
    for order in (1, -1):
        products = windows.transpose(1, 2, 0, 3, 4).reshape(8, 8, 75) * w[0].ravel()
        y = np.add.accumulate(products[..., ::order], axis=-1, dtype="float32")[..., -1]
        assert (np.abs(y - exact[0, 0]) <= limit[0, 0]).all()
    w2 = w.copy()
    w2[0, 0, 0, 0] = 0
    assert (np.abs(convspec.reference(spec, x, w2) - exact)[0, 0] > limit[0, 0]).mean() > 0.99


@pytest.mark.parametrize(
    "seed",
    [19, 3],
    ids=["a long axis, many channels and a wide kernel", "large strides, transposed, of rank 5"],
)
def test_no_case_takes_an_honest_backend_too_long(seed: int) -> None:
    """These looked like a hang; the second where zeros between elements are computed."""
    cases = {case for case in conformance.suite("standard", seed) if case.judge != "refusal"}
    assert max(map(drawing.operations, cases - {*regressions()})) <= 2**26
    assert max(map(drawing.operations, cases)) <= 2**27  # just above a rule's own bound


def test_anything_that_a_target_raises_is_a_verdict() -> None:
    class Broken(conformance.BackendTarget):
        def run(self, *arguments: object, **options: object) -> np.ndarray:
            raise RuntimeError("out of order")

    target = Broken(convspec.get_backend("numpy"))
    cases = [case for case in STANDARD if case.judge not in GRADIENTS]
    statuses = {conformance.judge(case, target).status for case in cases}
    assert statuses == {"error", "fail"}


class Plain:
    """Right for plain convolutions; takes others, which it does not claim, for plain ones."""

    name = "plain"
    typed_refusals = False

    def claims(self, case: Case) -> Support:
        spec = case.spec
        plain = ConvSpec(spec.in_channels, spec.out_channels, spec.kernel_size, bias=spec.bias)
        return Support(spec == plain, "native", "" if spec == plain else "only plain convolutions")

    def run(self, spec: ConvSpec, x: Any, w: Any, b: Any, **options: Any) -> Any:
        plain = ConvSpec(spec.in_channels, spec.out_channels, spec.kernel_size, bias=spec.bias)
        return convspec.reference(plain, x, w, b, **options)


def test_a_property_asks_nothing_that_is_not_claimed() -> None:
    for judge in ("shift", "layout", "adjoint"):
        case = conformance.parse(
            f"{judge} float32 2x3x5x6 seed=1 | ConvSpec(3, 3, (2, 3), bias=False)"
        )
        assert conformance.judge(case, Plain()).status == "unclaimed"
    for judge in ("linearity", "batch"):
        case = conformance.parse(
            f"{judge} float32 2x3x5x6 seed=1 | ConvSpec(3, 3, (2, 3), bias=False)"
        )
        assert conformance.judge(case, Plain()).status == "pass"


def test_any_integers_have_the_ends_of_their_type() -> None:
    case = conformance.parse(
        "exact int8 1x2x9 seed=1 filling=wide | ConvSpec(2, 2, (3,), bias=False)"
    )
    x, w, _ = fillings.arrays(case)
    for array in (x, w):
        assert (array.min(), array.max()) == (-128, 127)


def test_targets_by_name() -> None:
    assert conformance.load("numpy").name == "numpy"
    assert conformance.load("convspec_numpy:backend").name == "numpy"
    plain = conformance.load(f"{__name__}:Plain")
    assert plain.name == "plain"
    assert conformance.judge(STANDARD[0], plain).status == "unclaimed"
    with pytest.raises(ConvSpecError, match=re.escape("backend: 'nowhere:x' could not be loaded")):
        conformance.load("nowhere:x")
    with pytest.raises(ConvSpecError, match=r"is neither a convspec\.Backend"):
        conformance.load("math:pi")
