"""Random specs with small-integer data: every backend equals the reference bit for bit."""

from __future__ import annotations

import os
import re
from typing import Any

import numpy as np
import pytest

import convspec
from generators import Case, arrays, random_case

#: Cases per backend; JAX compiles each one. CONVSPEC_CASES multiplies them for a long run.
CASES = {"numpy": 1500, "torch": 1000, "tensorflow": 240, "jax": 60}


@pytest.mark.parametrize("part", range(2))
def test_equal_to_the_reference(backend: convspec.Backend, part: int) -> None:
    count = CASES[backend.name] * int(os.environ.get("CONVSPEC_CASES", "1")) // 2
    rng = np.random.default_rng([part, len(backend.name)])
    for _ in range(count):
        case = random_case(rng)
        check(backend, case, rng)


@pytest.mark.parametrize("rank", [4, 5])
def test_higher_ranks(backend: convspec.Backend, rank: int) -> None:
    rng = np.random.default_rng(rank)
    done = 0
    while done < (4 if backend.name == "jax" else 12):
        case = random_case(rng, range(1, rank + 1))
        if case.spec.rank == rank:
            check(backend, case, rng)
            done += 1


def check(backend: convspec.Backend, case: Case, rng: np.random.Generator) -> None:
    x, w, b = arrays(rng, case)
    options: dict[str, Any] = {"output_size": case.output_size, "out_dtype": case.out_dtype}
    expected = convspec.reference(case.spec, x, w, b, **options)
    given = [None if a is None else backend.from_foreign(a) for a in (x, w, b)]
    y = backend.to_numpy(case.spec(*given, **options))
    assert y.dtype == expected.dtype, case
    assert y.shape == expected.shape, case
    assert np.array_equal(y, expected), case


def test_the_check_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """One wrong element in one output is noticed."""
    backend = convspec.get_backend("numpy")
    rng = np.random.default_rng(0)
    case = random_case(rng)
    right = backend.to_numpy

    def wrong(y: Any) -> Any:
        y = right(y).copy()
        y.reshape(-1)[-1:] += 1
        return y

    check(backend, case, rng)
    monkeypatch.setattr(backend, "to_numpy", wrong)
    with pytest.raises(AssertionError, match=re.escape("Case(judge=")):
        check(backend, case, rng)
