"""The pytest plugin: ``pytest --pyargs convspec_conformance --convspec-backend NAME``.

pytest loads this file at every start, whatever it tests, so nothing is imported here; the tests
themselves are in ``test_backend.py``.
"""

from __future__ import annotations

from typing import Any

#: Name of the property of a test's report that says whether its case is claimed.
CLAIMED = "convspec_claimed"


def pytest_addoption(parser: Any) -> None:
    group = parser.getgroup("convspec", "convspec conformance (--pyargs convspec_conformance)")
    group.addoption(
        "--convspec-backend",
        metavar="NAME",
        help="the backend to judge: a name that 'convspec conformance list' has, or"
        " package.module:object",
    )
    group.addoption(
        "--convspec-level",
        choices=("smoke", "standard", "full"),
        default="standard",
        help="how many cases (standard)",
    )
    group.addoption(
        "--convspec-seed", type=int, default=0, metavar="SEED", help="another seed, other cases (0)"
    )
    group.addoption(
        "--convspec-timeout",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="after which a case hangs (60)",
    )
    group.addoption(
        "--convspec-expected-failures",
        metavar="FILE",
        help="cases that are known to be bad, one a line, # for remarks; each is run, and one that"
        " is right again is a failure",
    )


def pytest_report_header(config: Any) -> list[str]:
    name = config.getoption("convspec_backend")
    if not name:
        return []
    level, seed = (config.getoption(f"convspec_{option}") for option in ("level", "seed"))
    return [f"convspec conformance: backend {name}, level {level}, seed {seed}"]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say how much is claimed: a suite of skipped tests must not look like a passed one."""
    reports = [report for group in terminalreporter.stats.values() for report in group]
    properties = [dict(getattr(report, "user_properties", ())) for report in reports]
    claims = [found[CLAIMED] for found in properties if CLAIMED in found]
    if claims:
        name = terminalreporter.config.getoption("convspec_backend")
        share = int(1000 * sum(claims) / len(claims)) / 10
        terminalreporter.section("convspec conformance")
        terminalreporter.line(f"{name} claims {share:g} % of the convolutions that were tested.")
