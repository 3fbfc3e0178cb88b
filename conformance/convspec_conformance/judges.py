"""How a case is judged, and the verdict."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from threading import Barrier
from time import perf_counter
from typing import Any

import numpy as np

from convspec import ConvSpec, ConvSpecError, Support, UnsupportedError, reference
from convspec.dtypes import COMPLEX, INTEGER, check, check_out

from . import bounds, fillings, gradients, properties, refusals, special
from .cases import GRADIENTS, Case, parse
from .fillings import Array
from .neighbours import neighbours
from .targets import NotGivenError, Target
from .watching import Watched

#: Verdicts: the case holds; it does not; it is not claimed and was not run; the target raised; its
#: process died; it did not come back in time.
STATUSES = ("pass", "fail", "unclaimed", "error", "crash", "hang")

#: Judges of results that are computed as they are.
CALLS = ("exact", "again", "threads")
#: Threads that call at once, and calls of each: more of those that take microseconds, for so many
#: seconds.
THREADS, ROUNDS, MOST_ROUNDS, LONG = 2, 5, 500, 0.03
#: Seconds that Python lets a thread run: so few that all get ahead within one short call.
SWITCHING = 1e-6
#: Of the seeds of wrong calls, one in so many has the right call made before.
REMEMBERED = 4


@dataclass(frozen=True)
class Verdict:
    """What came of one case.

    Attributes:
        status: one of :data:`STATUSES`.
        detail: for a person: what was expected and what came.
        ratio: bounded cases: the largest error over its bound.
    """

    status: str
    detail: str = ""
    ratio: float | None = None

    @property
    def bad(self) -> bool:
        """Whether something is wrong with the target."""
        return self.status not in ("pass", "unclaimed")


def judge(case: Case, target: Target, *, probe: bool = False) -> Verdict:
    """Run one case on a target.

    Args:
        case: what to compute.
        target: on what.
        probe: run the case even where it is not claimed.
    """
    claim = claims(case, target)
    if not claim and not probe:
        return Verdict("unclaimed", claim.reason)
    watched = Watched(target)
    verdict = (
        _refused(case, watched) if case.judge == "refusal" else _computed(case, watched, claim)
    )
    if watched.misdeed and verdict.status in ("pass", "fail"):
        return Verdict("fail", watched.misdeed, verdict.ratio)
    return verdict


def _computed(case: Case, target: Target, claim: Support) -> Verdict:
    try:
        if case.judge == "exact":
            with np.errstate(over="ignore", invalid="ignore"):  # what NumPy says of infinities
                return _exact(case, target)
        if case.judge == "bounded":
            return _bounded(case, target)
        if case.judge == "again":
            return _again(case, target)
        if case.judge == "threads":
            return _in_threads(case, target)
        if case.judge in GRADIENTS:
            return _differentiated(case, target)
        return _held(case, properties.Claimed(case, target) if claim else target)
    except UnsupportedError as error:
        if not claim or case.judge in properties.PROPERTIES:  # which ask for other specs too
            return Verdict("unclaimed", str(error))
        return Verdict("error", f"claimed, but refused: {error}")
    except Exception as error:  # whatever the target raises is a result
        return Verdict("error", f"{type(error).__name__}: {error}")


def claims(case: Case, target: Target) -> Support:
    """Whether a target says that it computes a case; refusing a wrong call is its duty."""
    if case.judge == "refusal" and _typed(target):
        return Support(True, "native")
    return target.claims(case)


def _typed(target: Target) -> bool:
    return bool(getattr(target, "typed_refusals", True))


def possible(line: str) -> Case:
    """The case that a line describes, if it asks something that has an answer.

    Raises:
        ConvSpecError: the line is malformed, or asks for nothing that there is; the message says
            why.
    """
    case = parse(line)
    why = unfair(case)
    if why:
        raise ConvSpecError(f"case: {case.line}\n  cannot be asked: {why}")
    return case


def fair(case: Case) -> bool:
    """Whether a case asks something that has an answer."""
    return not unfair(case)


def unfair(case: Case) -> str:
    """Why a case has no answer: its shapes or types are illegal, its judge says nothing of it."""
    try:
        check("dtype", case.dtype)
        if case.out_dtype is not None:
            check("out", case.out_dtype)
            check_out(case.dtype, case.out_dtype)
        case.spec.output_shape(case.input_shape, case.output_size)
    except ConvSpecError as error:
        return str(error)
    if (case.judge == "refusal") != bool(case.wrong):
        return "wrong= belongs to the judge 'refusal', and says what is to be refused."
    if case.judge == "refusal":
        applies = refusals.applies(case)
    elif case.judge == "bounded":
        applies = bounds.applies(case)
    elif case.judge in GRADIENTS:
        applies = gradients.applies(case)
    else:
        applies = case.judge in CALLS or properties.applies(case)
    if applies and not fillings.applies(case):
        return f"filling={case.filling} is not for {case.judge!r} on these types."
    return "" if applies else f"{case.wrong or case.judge!r} says nothing of such a convolution."


def _compute(case: Case, target: Target, arrays: fillings.Arrays) -> Array:
    return target.run(case.spec, *arrays, output_size=case.output_size, out_dtype=case.out_dtype)


def _exact(case: Case, target: Target) -> Verdict:
    arrays = fillings.arrays(case)
    if case.filling == "nonfinite":
        y = _compute(case, target, arrays)
        exact, open_to_nan = special.expected(case, *arrays)
        return _spread(y, fillings.as_dtype(exact, case.out_dtype or case.dtype), open_to_nan)
    y, expected = _compute(case, target, arrays), _right(case)
    verdict = compare(y, expected, fillings.slack(case))
    if verdict.bad or not _odd(case):
        return verdict
    return _negated(case, target, arrays, y, expected)


def _odd(case: Case) -> bool:
    """Whether the negative weight and bias give the negative result: unsigned ones do by wrapping,
    which a wider result does not.
    """
    return case.dtype not in INTEGER or case.out_dtype in (None, case.dtype)


def _negated(
    case: Case, target: Target, arrays: fillings.Arrays, y: Array, expected: Array
) -> Verdict:
    """A second call with weight and bias negated in place, which leaves the first result alone."""
    for array in arrays[1:]:
        if array is not None:
            np.negative(array, out=array)
    verdict = compare(_compute(case, target, arrays), -expected, fillings.slack(case))
    if verdict.bad:
        return replace(verdict, detail=f"of weight and bias negated in place: {verdict.detail}")
    verdict = compare(y, expected, fillings.slack(case))
    if verdict.bad:
        return replace(verdict, detail=f"after the next call: {verdict.detail}")
    return verdict


@lru_cache(maxsize=fillings.KEPT)
def _right(case: Case) -> Array:
    """What is to come of a case's arrays."""
    given = fillings.arrays(case)
    y = reference(case.spec, *given, output_size=case.output_size, out_dtype=case.out_dtype)
    y.flags.writeable = False
    return y


def _spread(y: Any, expected: Array, open_to_nan: Array) -> Verdict:
    """NaN and infinities where they belong, and nowhere else."""
    wrong = _misshapen(y, expected.shape, expected)
    if wrong:
        return Verdict("fail", wrong)
    same = (y == expected) | (np.isnan(y) & (np.isnan(expected) | open_to_nan))
    if same.all():
        return Verdict("pass")
    return _differing(y, expected, ~same)


def _again(case: Case, target: Target) -> Verdict:
    """Two calls on the same arrays, which hold other numbers the second time.

    Before these come calls that differ from them in one thing alone, a field of the spec, a type, a
    size: who keeps anything by less than the whole question gives it the other's answer.
    """
    for near in (replace(case, judge="exact"), *neighbours(case, fair)):
        if target.claims(near):
            verdict = compare(_compute(near, target, fillings.arrays(near)), _right(near))
            if verdict.bad:
                return replace(verdict, detail=f"{near.line}: {verdict.detail}")
    both = (case, replace(case, seed=case.seed + 1))
    arrays, later = map(fillings.arrays, both)
    expected = list(map(_right, both))
    options: Any = {"output_size": case.output_size, "out_dtype": case.out_dtype}

    def change() -> None:
        for array, other in zip(arrays, later, strict=True):
            if array is not None:
                array[...] = other

    if hasattr(target, "twice"):
        first, second = target.twice(case.spec, *arrays, change, **options)
    else:
        first = target.run(case.spec, *arrays, **options)
        change()
        second = target.run(case.spec, *arrays, **options)
    for y, right, which in zip((second, first), expected[::-1], ("second", "first"), strict=True):
        verdict = compare(y, right)
        if verdict.bad:
            return replace(verdict, detail=f"the {which} of two results: {verdict.detail}")
    return Verdict("pass")


def _in_threads(case: Case, target: Target) -> Verdict:
    """The same convolution of other numbers in several threads at once, again and again."""
    cases = [replace(case, seed=case.seed + i) for i in range(THREADS)]
    start = Barrier(THREADS)

    def results(own: Case) -> list[Array]:
        arrays = fillings.arrays(own)
        start.wait()
        found: list[Array] = []
        end = perf_counter() + LONG
        while len(found) < ROUNDS or (perf_counter() < end and len(found) < MOST_ROUNDS):
            found.append(_compute(case, target, arrays))
        return found

    interval = sys.getswitchinterval()
    sys.setswitchinterval(SWITCHING)
    try:
        with ThreadPoolExecutor(THREADS) as pool:
            found = list(pool.map(results, cases))
    finally:
        sys.setswitchinterval(interval)
    for own, ys in zip(cases, found, strict=True):
        right = _right(own)
        for y in ys:
            verdict = compare(y, right)
            if verdict.bad:
                return replace(verdict, detail=f"in one of two threads: {verdict.detail}")
    return Verdict("pass")


def _bounded(case: Case, target: Target) -> Verdict:
    x, w, b = fillings.arrays(case)
    y = _compute(case, target, (x, w, b))
    out = case.out_dtype or case.dtype
    wide = "complex128" if out in COMPLEX else "float64"
    exact = reference(case.spec, x, w, b, output_size=case.output_size, out_dtype=wide)
    return within(y, exact, bounds.elementwise(case, x, w, b, exact), out)


def _differentiated(case: Case, target: Target) -> Verdict:
    """All gradients of a case; of several verdicts the first bad one, else the worst ratio."""
    ratios = []
    for part in gradients.computed(case, target):
        if case.filling == "real":
            verdict = within(part.got, part.exact, part.bound(case), part.dtype)
        else:
            verdict = compare(part.got, part.rounded)
        if verdict.bad:
            return replace(verdict, detail=f"{part.name}: {verdict.detail}")
        ratios.append(verdict.ratio or 0.0)
    return Verdict("pass", ratio=max(ratios) if case.filling == "real" else None)


def within(y: Any, exact: Array, limit: Array, dtype: str) -> Verdict:
    """No element further from the exact one than its bound, in shape and type as expected."""
    wrong = _misshapen(y, exact.shape, fillings.as_dtype(exact[:0], dtype))
    if wrong:
        return Verdict("fail", wrong)
    if not y.size:
        return Verdict("pass", ratio=0.0)
    with np.errstate(over="ignore"):  # far beyond a bound that is tiny
        ratio = np.abs(y.astype(exact.dtype) - exact) / limit
    worst = int(np.argmax(np.where(np.isnan(ratio), np.inf, ratio)))
    at = tuple(int(i) for i in np.unravel_index(worst, y.shape))
    largest = float(ratio[at])
    if largest <= 1:
        return Verdict("pass", ratio=largest)
    return Verdict(
        "fail",
        f"error is {largest:.3g} times its bound at {at}: got {y[at]}, exactly {exact[at]}",
        largest,
    )


def _held(case: Case, target: Target) -> Verdict:
    left, right = properties.PROPERTIES[case.judge](case, target)
    return compare(left, right)


def _refused(case: Case, target: Target) -> Verdict:
    call = refusals.call(case)
    if case.seed % REMEMBERED == 0:
        _remember(case, call.arguments[0], target)
    try:
        y = target.run(*call.arguments, **call.options)
    except call.error as error:
        if isinstance(error, ConvSpecError) or not _typed(target):
            return Verdict("pass")
        return Verdict("fail", f"refused by {type(error).__name__}, which is no ConvSpecError")
    except NotGivenError as error:
        return Verdict("unclaimed", str(error))
    except Exception as error:
        if not _typed(target):
            return Verdict("pass")
        return Verdict(
            "fail", f"expected {call.error.__name__}, got {type(error).__name__}: {error}"
        )
    if not _typed(target) and not y.size:
        return Verdict("pass", "an empty result, in which no number is wrong")
    return Verdict("fail", f"{case.wrong}: accepted, and gave numbers of shape {y.shape}")


def _remember(case: Case, spec: ConvSpec, target: Target) -> None:
    """The right call of a spec, on the very object that the wrong one is made on.

    Who knows a repeated call by less than all arrays takes the wrong one for the right one.
    """
    right = replace(case, judge="exact", wrong="", spec=spec)
    if fair(right) and target.claims(right):
        with suppress(Exception):  # other cases judge right calls
            _compute(right, target, fillings.arrays(right))


def compare(y: Any, expected: Array, slack: float = 0.0) -> Verdict:
    """Equal in shape, type and every element: exactly, or up to ``slack``."""
    wrong = _misshapen(y, expected.shape, expected)
    if wrong:
        return Verdict("fail", wrong)
    if np.array_equal(y, expected):
        return Verdict("pass")
    differs = np.asarray(y != expected)
    if slack:
        differs = ~(np.abs(y.astype("float64") - expected.astype("float64")) <= slack)
    return _differing(y, expected, differs) if differs.any() else Verdict("pass")


def _differing(y: Array, expected: Array, where: Array) -> Verdict:
    differs = np.argwhere(where)
    at = tuple(int(i) for i in differs[0])
    return Verdict(
        "fail",
        f"{len(differs)} of {expected.size} elements differ, first at {at}: got {y[at]}, "
        f"expected {expected[at]}",
    )


def _misshapen(y: Any, shape: tuple[int, ...], like: Array) -> str:
    if not isinstance(y, np.ndarray):
        return f"gave a {type(y).__name__}, no array"
    if y.shape != shape:
        return f"shape {y.shape}, expected {shape}"
    if y.dtype != like.dtype:
        return f"type {y.dtype}, expected {like.dtype}"
    return ""
