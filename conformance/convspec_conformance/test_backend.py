"""One test for each case, for a project that has the suite in its own CI.

pytest --pyargs convspec_conformance --convspec-backend NAME
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from convspec import ConvSpecError

from . import floor
from .cases import GRADIENTS, Case, parse
from .generate import suite
from .plugin import CLAIMED
from .reports.terminal import failure_text
from .runner import Limits, Worker, require


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The cases of the level, and those that are expected to fail whether drawn or not."""
    config = metafunc.config
    name = config.getoption("convspec_backend")
    if not name:
        raise pytest.UsageError("convspec: say which backend to judge, by --convspec-backend NAME.")
    try:
        require(name)
        expected = _expected(config)
    except ConvSpecError as error:
        raise pytest.UsageError(f"convspec: {error}") from error
    drawn = suite(config.getoption("convspec_level"), config.getoption("convspec_seed"))
    metafunc.parametrize(
        ("convspec_case", "expected"),
        [
            pytest.param(case, case in expected, id=case.line)
            for case in dict.fromkeys([*drawn, *expected])
        ],
    )


def _expected(config: pytest.Config) -> list[Case]:
    """The cases of the file of expected failures."""
    file = config.getoption("convspec_expected_failures")
    if not file:
        return []
    path = config.invocation_params.dir / file
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ConvSpecError(f"expected failures: {path} cannot be read: {error}.") from error
    cases = []
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.lstrip().startswith("#"):
            try:
                cases.append(parse(line))
            except ConvSpecError as error:
                raise ConvSpecError(f"expected failures: {path}, line {number}: {error}") from error
    return cases


@pytest.fixture(scope="session")
def convspec_worker(request: pytest.FixtureRequest) -> Iterator[Worker]:
    """The process that computes; a case that ends it has failed, and the next gets another."""
    config = request.config
    limits = Limits(config.getoption("convspec_timeout"))
    with Worker(config.getoption("convspec_backend"), limits) as worker:
        yield worker


def test_case(
    convspec_case: Case,
    expected: bool,
    convspec_worker: Worker,
    record_property: Callable[[str, object], None],
) -> None:
    """The backend computes the case, or does not claim it."""
    answer = convspec_worker.judge(convspec_case)
    verdict = answer.verdict
    if convspec_case.judge not in ("refusal", *GRADIENTS):
        record_property(CLAIMED, answer.claimed)
    if expected:
        if verdict.bad:
            pytest.xfail(f"{verdict.status}: {verdict.detail}")
        what = "passes" if verdict.status == "pass" else "is not claimed"
        pytest.fail(f"was expected to fail and {what}: remove its line.", pytrace=False)
    if verdict.status == "unclaimed":
        if floor.own().requires(convspec_worker.name, convspec_case):
            pytest.fail(f"not claimed, but its floor has it: {verdict.detail}", pytrace=False)
        pytest.skip(f"not claimed: {verdict.detail}")
    if verdict.bad:
        result = {
            "status": verdict.status,
            "detail": verdict.detail,
            "claimed": answer.claimed,
        }
        text = failure_text(convspec_worker.name, convspec_case.line, result)
        pytest.fail(text, pytrace=False)
