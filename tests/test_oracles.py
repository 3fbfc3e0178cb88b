"""The reference against the ONNX operators, as the standard's evaluator and onnxruntime have them.

Integers, exactly. What is left out is listed with its reason, and has to be wrong still.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

import convspec_conformance as conformance
from convspec import reference
from convspec_conformance import fillings, onnx_oracle
from convspec_conformance.cases import Case
from convspec_conformance.generate import features
from convspec_conformance.onnx_oracle import ENGINES, EXCLUSIONS, Exclusion

CASES = [
    case
    for seed in range(2)
    for case in conformance.suite("standard", seed)
    if case.judge == "exact"
    and case.filling == "small"
    and case.spec.rank <= 3
    and onnx_oracle.expressible(case)
]


def agrees(case: Case, engine: str) -> bool:
    """Whether the engine gives just what the reference gives; it may also raise."""
    arrays = fillings.arrays(case)
    expected = reference(case.spec, *arrays, output_size=case.output_size)
    try:
        y = onnx_oracle.answer(case, engine, arrays)
    except Exception:  # whatever the engine raises at what it does not compute
        return False
    return y.dtype == expected.dtype and np.array_equal(y, expected)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_reference_is_what_the_standard_says(engine: str) -> None:
    asked = [case for case in CASES if not onnx_oracle.excluded(case, engine)]
    for case in asked:
        assert agrees(case, engine), case.line
    counts = Counter(
        (str(name), str(value)) for case in asked for name, value in features(case).items()
    )
    assert len(asked) > 80
    assert counts["transposed", "True"] > 14
    assert min(counts["mode", mode] for mode in ("reflect", "replicate", "circular")) > 5
    assert min(counts["rank", str(rank)] for rank in (1, 2, 3)) > 14


def test_the_comparison_can_fail() -> None:
    case = next(
        case
        for case in CASES
        if case.spec.flip_kernel
        and case.spec.kernel_size == (3, 3)
        and not onnx_oracle.excluded(case, "onnxruntime")
    )
    assert agrees(case, "onnxruntime")
    arrays = fillings.arrays(case)
    y = onnx_oracle.answer(case, "onnxruntime", arrays)
    other = reference(case.spec.replace(flip_kernel=False), *arrays, output_size=case.output_size)
    assert not np.array_equal(y, other)


@pytest.mark.parametrize("exclusion", EXCLUSIONS, ids=lambda e: f"{e.engine}: {e.reason}")
def test_what_is_left_out_is_wrong_still(exclusion: Exclusion) -> None:
    """Fails once the engine is right: the exclusion is then to be removed."""
    case = conformance.parse(exclusion.example)
    assert onnx_oracle.expressible(case)
    assert onnx_oracle.excluded(case, exclusion.engine) is exclusion
    assert not agrees(case, exclusion.engine)
