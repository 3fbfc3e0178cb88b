"""The pytest plugin: the suite in another project's CI, with its file of expected failures."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import convspec_conformance as conformance
from convspec import ConvSpec
from convspec_conformance import generate

pytest_plugins = ["pytester"]

FRAGILE = "conformance_targets:fragile"
HEAD = "exact float32 1x1x{} seed=0 | ConvSpec(1, 1, (2,), layout='NCW')"
RAISES, WRONG, UNCLAIMED, RIGHT = (HEAD.format(width) for width in (17, 18, 19, 5))


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A project of somebody else's, whose level "smoke" is three cases."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    chosen = [conformance.parse(line) for line in (RIGHT, RAISES, UNCLAIMED)]
    chosen.append(conformance.Case("refusal", ConvSpec(1, 1, (2,)), (1, 1, 5), wrong="channels"))
    monkeypatch.setattr(generate, "suite", lambda level, seed: chosen)
    # Other plugins that happen to be installed cost seconds; ours is registered: see below.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    return pytester


def judged(project: pytest.Pytester, *options: str) -> pytest.RunResult:
    return project.runpytest_inprocess(
        "-pconvspec_conformance.plugin",
        "--pyargs",
        "convspec_conformance",
        "--convspec-level=smoke",
        "-pno:cacheprovider",
        *options,
    )


def test_each_case_is_a_test(project: pytest.Pytester) -> None:
    result = judged(project, f"--convspec-backend={FRAGILE}")
    result.assert_outcomes(passed=2, failed=1, skipped=1)
    result.stdout.fnmatch_lines(
        [
            f"convspec conformance: backend {FRAGILE}, level smoke, seed 0",
            f"ERROR {FRAGILE}: exact float32 1x1x17 *",
            "  RuntimeError: an internal error of the framework",
            f"  again: convspec conformance run --backend {FRAGILE} --case *",
            f"{FRAGILE} claims 66.6 % of the convolutions that were tested.",
        ]
    )


def test_expected_failures_are_strict(project: pytest.Pytester) -> None:
    known = project.makefile(".txt", known=f"# a remark\n\n{RAISES}\n{WRONG}\n")
    options = (f"--convspec-backend={FRAGILE}", f"--convspec-expected-failures={known.name}")
    result = judged(project, *options)
    # The one that the level does not have is run too.
    result.assert_outcomes(passed=2, skipped=1, xfailed=2)
    assert result.ret == 0
    known.write_text(f"{RIGHT}\n{UNCLAIMED}\n{RAISES}\n")
    result = judged(project, *options)
    result.assert_outcomes(passed=1, failed=2, xfailed=1)
    result.stdout.fnmatch_lines(["was expected to fail and passes: remove its line."])
    result.stdout.fnmatch_lines(["was expected to fail and is not claimed: remove its line."])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "*convspec: say which backend to judge, by --convspec-backend NAME."),
        (["--convspec-backend=nonsense"], "*convspec: backend: 'nonsense' is no target; *"),
        (
            [f"--convspec-backend={FRAGILE}", "--convspec-expected-failures=absent"],
            "*convspec: expected failures: *absent cannot be read: *",
        ),
        (
            [f"--convspec-backend={FRAGILE}", "--convspec-expected-failures=wrong"],
            "*convspec: expected failures: *wrong, line 2: case: 'nonsense' should be like*",
        ),
    ],
)
def test_usage(project: pytest.Pytester, options: list[str], message: str) -> None:
    (project.path / "wrong").write_text("# a remark\nnonsense\n")
    result = judged(project, *options)
    result.stdout.fnmatch_lines([message])
    assert result.ret in (pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.INTERRUPTED)


def test_the_plugin_is_registered() -> None:
    (found,) = entry_points(group="pytest11", name="convspec")
    assert found.value == "convspec_conformance.plugin"


def test_levels_are_those_of_the_suite(project: pytest.Pytester) -> None:
    result = judged(project, "--convspec-level=none")
    levels = ", ".join(f"'?{level}'?" for level in conformance.LEVELS)
    result.stderr.re_match_lines([rf".*--convspec-level: invalid choice: 'none' \(.*{levels}\)"])


def test_other_projects_pay_nothing() -> None:
    """The plugin is loaded at every start of pytest: no NumPy, no core, nothing of the suite."""
    script = (
        "import sys, convspec_conformance.plugin as plugin\n"
        "print(sorted(name for name in sys.modules if name.startswith(('numpy', 'convspec'))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "['convspec_conformance', 'convspec_conformance.plugin']"
