"""docs/conformance.md tells the truth: its commands are understood, its tables complete."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

import convspec_conformance as conformance
from convspec import cli
from convspec_conformance import plugin
from convspec_conformance.capabilities import labels
from convspec_conformance.cases import JUDGES
from convspec_conformance.command import AIMS
from convspec_conformance.judges import STATUSES
from convspec_conformance.runner import run

TEXT = (Path(__file__).parents[1] / "docs" / "conformance.md").read_text()
COMMANDS = re.findall(r"^\$ (?:\w+=\w+ )?convspec (.*)$", TEXT, re.MULTILINE)


def table(heading: str) -> list[list[str]]:
    """The cells of the table under a heading of its first column."""
    rows = TEXT[TEXT.index(f"| {heading} |") :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


@pytest.mark.parametrize("command", COMMANDS)
def test_commands(command: str) -> None:
    words = shlex.split(command)
    parsed = cli._parser(words).parse_args(words)
    for line in getattr(parsed, "case", []):
        conformance.parse(line)
    for text in getattr(parsed, "only", []):
        cases = conformance.suite(parsed.level)
        assert any(text in label for case in cases for label in (case.line, *labels(case)))


def test_tables_are_complete() -> None:
    assert {row[0].strip("`"): row[1].replace("`", "") for row in table("level")} == AIMS
    judges = [name for row in table("judge") for name in re.findall(r"`(\w+)`", row[0])]
    assert sorted(judges) == sorted(JUDGES)
    assert [row[0].strip("`") for row in table("status")] == list(STATUSES)


def test_options_of_the_plugin() -> None:
    class Group:
        def __init__(self) -> None:
            self.names: list[str] = []

        def getgroup(self, *_: str) -> Group:
            return self

        def addoption(self, name: str, **_: Any) -> None:
            self.names.append(name)

    group = Group()
    plugin.pytest_addoption(group)
    assert [row[0].strip("`").split()[0] for row in table("option")] == group.names


def test_the_file_of_expected_failures() -> None:
    (block,) = re.findall(r"```text\n(.*?)```", TEXT, re.DOTALL)
    assert [conformance.parse(line).dtype for line in block.splitlines() if line[0] != "#"] == [
        "bfloat16"
    ]


def test_the_target_that_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it claims is right, and it is asked as much of that as who claims all."""
    block = next(b for b in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL) if "Scipy" in b)
    (tmp_path / "scipy_target.py").write_text(block)
    monkeypatch.syspath_prepend(tmp_path)
    cases = conformance.suite("smoke")
    found = run("scipy_target:Scipy", cases, jobs=2, steered=True)
    assert (found.broken, found.failures) == ("", [])
    computed = [case for case in cases if case.judge != "refusal"]
    passed = [result for result in found.results if result.verdict.status == "pass"]
    assert 0.8 * len(computed) < len(passed) <= len(computed)


def test_the_example_in_python(capsys: pytest.CaptureFixture[str]) -> None:
    block = re.findall(r"## From Python\n\n```python\n(.*?)```", TEXT, re.DOTALL)[0]
    exec(block, {"__name__": "__main__"})
    assert capsys.readouterr().out == "[]\n"
