"""The backend that docs/backends.md makes out of a kernel does what the page says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import convspec_conformance as conformance
from convspec.plan import OPERATIONS, OPTIONAL

GUIDE = Path(__file__).parent.parent / "docs" / "backends.md"
BLOCKS = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)


@pytest.mark.parametrize("seed", range(2))
def test_from_a_kernel_that_has_next_to_nothing(seed: int) -> None:
    """Any convolution of its types, through most of the rewritings."""
    scope: dict[str, Any] = {}
    exec(BLOCKS[1], scope)
    target = conformance.BackendTarget(scope["Dense"]())
    counts = {"pass": 0, "unclaimed": 0}
    for case in conformance.suite("smoke", seed):
        verdict = conformance.judge(case, target)
        assert not verdict.bad, f"{case.line}\n{verdict.detail}"
        counts[verdict.status] += 1
        if verdict.status == "unclaimed":
            types = {case.dtype, case.out_dtype or case.dtype}
            assert not types <= {"float16", "float32", "float64"} or "grad" in case.judge, case
    assert counts["pass"] > 40


def test_every_operation_is_listed() -> None:
    listed = re.findall(r"^\| `(\w+)` \|", GUIDE.read_text(), re.MULTILINE)
    assert set(listed) == {*OPERATIONS, *OPTIONAL}
