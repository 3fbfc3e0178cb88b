"""One test for each case, for a project that has the suite in its own CI.

pytest --pyargs convspec_conformance --convspec-backend NAME
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from convspec import ConvSpecError

from . import floor
from .cases import GRADIENTS, Case
from .generate import suite
from .judges import possible
from .plugin import CLAIMED
from .reports.terminal import failure_text
from .runner import Limits, Worker, require
from .worker import Answer


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
        [pytest.param(case, expected, id=case.line) for case in dict.fromkeys([*drawn, *expected])],
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
                cases.append(possible(line))
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
    expected: list[Case],
    convspec_worker: Worker,
    record_property: Callable[[str, object], None],
) -> None:
    """The backend computes the case; or another one in its place, if it does not claim it."""
    answer = convspec_worker.judge(convspec_case)
    verdict = answer.verdict
    if convspec_case.judge not in ("refusal", *GRADIENTS):
        record_property(CLAIMED, answer.claimed)
    if convspec_case in expected:
        if verdict.bad:
            pytest.xfail(f"{verdict.status}: {verdict.detail}")
        what = "passes" if verdict.status == "pass" else "is not claimed"
        pytest.fail(f"was expected to fail and {what}: remove its line.", pytrace=False)
    if verdict.status == "unclaimed":
        if floor.own().requires(convspec_worker.name, convspec_case):
            pytest.fail(f"not claimed, but its floor has it: {verdict.detail}", pytrace=False)
        other = None if answer.claimed else convspec_worker.instead(convspec_case)
        if other is not None and other not in expected:
            _right(convspec_worker, other, convspec_worker.judge(other))
        # Not run, and said so: something claimed was asked in its place, if there is any.
        pytest.skip(f"not claimed: {verdict.detail}")
    _right(convspec_worker, convspec_case, answer)


def _right(worker: Worker, case: Case, answer: Answer) -> None:
    """Fail if something is wrong with what came of a case."""
    if not answer.verdict.bad:
        return
    status, detail = answer.verdict.status, answer.verdict.detail
    result = {"status": status, "detail": detail, "claimed": answer.claimed}
    pytest.fail(failure_text(worker.name, case.line, result), pytrace=False)
