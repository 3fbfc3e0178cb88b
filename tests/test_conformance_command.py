"""``convspec conformance``: what it prints and writes, and its exit status."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from importlib.resources import files
from io import StringIO
from pathlib import Path

import jsonschema
import pytest

import convspec_conformance as conformance
from convspec import tables
from convspec.cli import main

SLOW = "conformance_targets:slow"
FRAGILE = "conformance_targets:fragile"
LINE = "exact float32 1x2x{} seed=1 | ConvSpec(2, 4, (2,), stride=(2,), padding=((1, 0),))"
RIGHT, HANGS, ABORTS, WRONG, UNCLAIMED = (
    conformance.parse(LINE.format(width)).line for width in (5, 12, 14, 18, 19)
)


def run(*words: str) -> int:
    return main(["conformance", *words])


def test_all_is_right(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    forms = {form: tmp_path / f"report.{form}" for form in ("json", "junit", "markdown", "html")}
    options = [word for form, file in forms.items() for word in (f"--{form}", str(file))]
    status = run("run", "--backend", "numpy", "--level", "smoke", "--only", "bounded", *options)
    out = capsys.readouterr().out
    assert status == 0
    assert re.match(
        r"numpy \S+ claims 100 % of the convolutions in the suite; none of \d+ cases are bad\.\n",
        out,
    )
    report = json.loads(forms["json"].read_text())
    schema = files("convspec_conformance.reports").joinpath("document.schema.json")
    jsonschema.validate(report, json.loads(schema.read_text("utf-8")))
    assert {case["judge"] for case in report["cases"]} == {"bounded"}
    assert report["only"] == ["bounded"]
    assert forms["junit"].read_text().startswith("<?xml")
    assert forms["markdown"].read_text().startswith("# Conformance\n\n- numpy ")
    assert forms["html"].read_text().startswith("<!doctype html>")


def test_a_failing_case_is_shrunk_and_shown_as_code(capsys: pytest.CaptureFixture[str]) -> None:
    backends = ("--backend", "numpy", "--backend", FRAGILE)
    assert run("run", *backends, "--case", RIGHT, "--case", WRONG) == 1
    out = capsys.readouterr().out
    assert (
        f"{FRAGILE} 7.1 claims 100 % of the convolutions in the suite; 1 of 2 cases is bad." in out
    )
    shown = out[out.index(f"FAIL {FRAGILE}: {WRONG}") :]
    (small,) = re.findall(r"^  smallest: (.*)$", shown, re.MULTILINE)
    assert conformance.parse(small).spec.num_parameters == 1
    assert conformance.parse(small).input_shape.count(1) == 2
    assert f'  again: convspec conformance run --backend {FRAGILE} --case "{small}"\n' in shown
    (source,) = re.findall(r"\n\n((?:    .*\n|\n)+)$", shown)
    code = "\n".join(line[4:] for line in source.splitlines())
    names: dict[str, object] = {}
    exec(compile(code, "snippet", "exec"), names)  # the snippet runs, and shows the failure
    assert "Verdict(status='fail'" in capsys.readouterr().out


def test_a_crash_is_shrunk_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("run", "--backend", FRAGILE, "--case", ABORTS, "--timeout", "1") == 1
    out = capsys.readouterr().out
    assert f"CRASH {FRAGILE}: {ABORTS}\n  the process was ended by SIGABRT" in out
    # The next smaller width but one hangs, which is another failure.
    assert re.search(r"^  smallest: exact float32 .*1[13].* \| ConvSpec\(1, 1, ", out, re.MULTILINE)


def test_a_hang_has_a_limit(capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--timeout", "0.5", "--shrink", "0")
    assert run("run", "--backend", FRAGILE, "--case", HANGS, *options) == 1
    assert "no answer within 0.5 s. Timeout (0:00:00.5" in capsys.readouterr().out


def test_claims(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("run", "--backend", FRAGILE, "--case", RIGHT, "--case", UNCLAIMED)
    assert run(*words) == 0
    assert "claims 50 % of the convolutions" in capsys.readouterr().out
    assert run(*words, "--floor", "60") == 1
    assert run(*words, "--floor", "50", "--probe") == 0
    assert f"{FRAGILE} 7.1 could claim 1 more cases: it passes them." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "--backend", "nonsense"], "backend: 'nonsense' is no target; there are: "),
        (["run", "--backend", "nowhere:x"], "backend: 'nowhere:x' could not be loaded"),
        (["run"], "the following arguments are required: --backend"),
        (["run", "--backend", "numpy", "--only", "zzz"], "only: no case of this level has 'zzz'."),
        (["run", "--backend", "numpy", "--case", "zzz"], "case: 'zzz' should be like"),
        (
            [
                "run",
                "--backend",
                "numpy",
                "--case",
                "exact float32 1x1x3 seed=1 | ConvSpec(1, 1, (4,))",
            ],
            "cannot be asked: kernel_size: on axis W the kernel spans 4 positions",
        ),
        (["run", "--backend", "numpy", "--case", RIGHT, "--only", "zzz"], "has 'zzz'."),
        (["run", "--backend", "numpy", "--jobs", "0"], "'0' should be a number above 0"),
        (["run", "--backend", "numpy", "--seed", "-1"], "'-1' should be a whole number, 0 or more"),
        (["run", "--backend", "numpy", "--json", "/none/x"], "report: there is no folder /none"),
        (["faults", "zzz"], "fault: zzz: there are "),
        ([], "the following arguments are required: COMMAND"),
    ],
)
def test_usage(capsys: pytest.CaptureFixture[str], words: list[str], message: str) -> None:
    assert run(*words) == 2
    said = capsys.readouterr()
    assert message in said.err + said.out


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list") == 0
    out = capsys.readouterr().out
    assert re.search(r"^torch-compiled +torch\.compile$", out, re.MULTILINE)
    assert re.search(r"^smoke +a look after each change", out, re.MULTILINE)
    assert run("list", "--level", "smoke", "--seed", "5") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [conformance.parse(line) for line in lines] == conformance.suite("smoke", 5)


def test_faults(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("faults", "bias_dropped", "--level", "smoke") == 0
    assert capsys.readouterr().out.startswith("1 of 1 faults are caught.\n")
    assert run("faults", "far_reflections_are_clamped", "--level", "smoke", "--budget", "1") == 1
    assert "ESCAPED" in capsys.readouterr().out


def test_the_core_does_not_import_the_suite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "convspec_conformance.command", raising=False)
    assert main(["backends", "--help"]) == 0
    assert main(["--help"]) == 0
    assert "convspec_conformance.command" not in sys.modules


def test_the_bar_tells_the_time_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    console = pytest.importorskip("rich.console").Console
    screen = StringIO()
    on = console(file=screen, force_terminal=True, width=100)
    monkeypatch.setattr(tables, "_console", lambda *, stderr: on)
    with tables.progress(3, remaining=True) as step:
        for _ in range(4):
            step("torch: 1 bad")
            time.sleep(0.01)
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    assert "3/3 0:00:00 torch: 1 bad" in shown


def test_a_run_that_was_killed_goes_on(tmp_path: Path) -> None:
    """Killed without warning, it leaves no process behind and loses no verdict."""
    journal = tmp_path / "journal"
    words = [sys.executable, "-m", "convspec", "conformance", "run", "--backend", SLOW]
    words += ["--level", "smoke", "--resume", str(journal), "--jobs", "2"]
    with (tmp_path / "log").open("w") as log:
        first = subprocess.Popen(words, stdout=log, stderr=log, cwd=Path(__file__).parent)
    deadline = time.monotonic() + 60
    while not journal.exists() or journal.read_text().count("\n") < 10:
        assert time.monotonic() < deadline, (tmp_path / "log").read_text()
        assert first.poll() is None, (tmp_path / "log").read_text()
        time.sleep(0.02)
    workers = _children(first.pid)
    first.send_signal(signal.SIGKILL)
    first.wait()
    before = journal.read_text().count("\n")
    total = len(dict.fromkeys(conformance.suite("smoke")))
    assert before < total
    while any(map(_lives, workers)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    done = subprocess.run(
        words,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=Path(__file__).parent,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    # It has no gradients, and is asked for other results in their place.
    said = re.search(rf"of {total} cases and (\d+) drawn for it, none are bad", done.stdout)
    assert said, done.stdout
    lines = [json.loads(line)["case"] for line in journal.read_text().splitlines()]
    assert len(lines) == len(set(lines)) == total + int(said[1])


def _children(pid: int) -> list[int]:
    folder = Path(f"/proc/{pid}/task/{pid}/children")
    if folder.exists():
        return [int(child) for child in folder.read_text().split()]
    listed = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)
    return [int(child) for child in listed.stdout.split()]


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")  # a zombie has ended, though nobody has asked how
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"
