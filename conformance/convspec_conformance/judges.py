"""How a case is judged, and the verdict."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from convspec import ConvSpecError, Support, UnsupportedError, reference
from convspec.dtypes import COMPLEX

from . import bounds, fillings, gradients, properties, refusals
from .cases import GRADIENTS, Case
from .fillings import Array
from .targets import NotGivenError, Target
from .watching import Watched

#: Verdicts: the case holds; it does not; it is not claimed and was not run; the target raised; its
#: process died; it did not come back in time.
STATUSES = ("pass", "fail", "unclaimed", "error", "crash", "hang")


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
            return _exact(case, target)
        if case.judge == "bounded":
            return _bounded(case, target)
        if case.judge in GRADIENTS:
            return _differentiated(case, target)
        return _held(case, target)
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


def fair(case: Case) -> bool:
    """Whether a case asks something that has an answer: its shapes are legal, its judge applies."""
    try:
        case.spec.output_shape(case.input_shape, case.output_size)
    except ConvSpecError:
        return False
    if case.judge == "refusal":
        return refusals.applies(case)
    if case.judge == "bounded":
        return bounds.applies(case)
    if case.judge in GRADIENTS:
        return gradients.applies(case)
    return case.judge == "exact" or properties.applies(case)


def _compute(case: Case, target: Target, arrays: fillings.Arrays) -> Array:
    return target.run(case.spec, *arrays, output_size=case.output_size, out_dtype=case.out_dtype)


def _exact(case: Case, target: Target) -> Verdict:
    arrays = fillings.arrays(case)
    expected = reference(case.spec, *arrays, output_size=case.output_size, out_dtype=case.out_dtype)
    return compare(_compute(case, target, arrays), expected)


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


def compare(y: Any, expected: Array) -> Verdict:
    """Exactly equal, in shape, type and every element."""
    wrong = _misshapen(y, expected.shape, expected)
    if wrong:
        return Verdict("fail", wrong)
    if np.array_equal(y, expected):
        return Verdict("pass")
    differs = np.argwhere(np.asarray(y != expected))
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
