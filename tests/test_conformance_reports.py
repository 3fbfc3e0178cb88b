"""Every form of the report, on a report with one of everything."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from importlib.resources import files
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest

import conformance_reports as made
from convspec_conformance.reports import document, junit, markdown, page, terminal

REPORT = made.full()
SCHEMA = json.loads(
    files("convspec_conformance.reports").joinpath("document.schema.json").read_text("utf-8")
)


# ---- JSON ----


def test_the_report_keeps_its_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    text = document.text(REPORT)
    jsonschema.validate(json.loads(text, parse_constant=pytest.fail), SCHEMA)  # no NaN, no Infinity


def _change(path: str, value: Any) -> Callable[[Any], None]:
    *places, last = [int(part) if part.isdecimal() else part for part in path.split(".")]

    def apply(report: Any) -> None:
        for place in places:
            report = report[place]
        report[last] = value

    return apply


@pytest.mark.parametrize(
    "change",
    [
        _change("version", 2),
        _change("targets.0.results.0.status", "fine"),
        _change("targets.0.results.0.note", "more"),
        _change("targets.0.claimed_share", 1.5),
        _change("targets.0.counts.pass", -1),
        lambda report: report["targets"][0].pop("broken"),
    ],
)
def test_the_schema_notices(change: Callable[[Any], None]) -> None:
    report = copy.deepcopy(REPORT)
    change(report)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(report, SCHEMA)


def test_counts() -> None:
    torch, right, third = REPORT["targets"]
    assert torch["counts"] == {
        "pass": 69,
        "fail": 3,
        "unclaimed": 5,
        "error": 1,
        "crash": 1,
        "hang": 1,
    }
    assert (torch["claimed"], torch["claimable"]) == (73, 2)
    assert torch["claimed_share"] == round(1 - 6 / 75, 6)
    assert torch["gradient_share"] == 3 / 4
    assert torch["worst"] == document.INFINITE
    assert right["claimed_share"] == 1
    assert right["worst"] == 1
    assert third["results"] == []
    groups = [f"{c['group']}: {c['name']}" for c in REPORT["capabilities"]]
    halves = torch["capabilities"][groups.index("type: float16")]
    assert document.total(halves) == 6
    assert halves["claimable"] == 2
    assert document.cell_text(halves) == "2 of 6"
    assert document.cell_text(right["capabilities"][groups.index("type: float16")]) == "pass"
    assert document.cell_text(torch["capabilities"][groups.index("rank: 2")]) == "6 of 69 bad"


def test_every_form_leads_with_what_is_claimed() -> None:
    assert [document.headline(target) for target in REPORT["targets"]] == [
        "torch 2.13.0 claims 92 % of the convolutions and 75 % of the gradients in the suite; "
        "6 of 80 cases are bad.\n"
        "torch 2.13.0 could claim 2 more cases: it passes them.",
        "a_rather_long_package.and_module:object 1.0 claims 100 % of the convolutions and "
        "100 % of the gradients in the suite; none of 80 cases are bad.",
        "third was not run to the end: backend: 'third' could not be loaded: no licence found.",
    ]


def test_a_share_is_never_rounded_up_to_all() -> None:
    target = {**REPORT["targets"][1], "claimed_share": 0.99996, "gradient_share": None}
    assert "claims 99.9 % of" in document.headline(target)


# ---- terminal ----


def test_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.write(REPORT)
    out = capsys.readouterr().out
    assert out.startswith("torch 2.13.0 claims 92 % of the convolutions and 75 % of the gradients")
    assert re.search(r"^judged by +exact numbers +66  4 of 66 bad +pass$", out, re.MULTILINE), out
    assert re.search(r"^ +error bounds +9  2 of 9 bad +inf  pass +1$", out, re.MULTILINE)
    assert re.search(r"^all +80  6 of 80 bad +inf  pass +1$", out, re.MULTILINE)
    shrunk = (
        f"FAIL torch: {made.PLAIN[3].line}\n"
        f"  {made.WRONG.detail}\n"
        f"  smallest: {made.SMALL.case.line}\n"
        f"    {made.SMALL.detail}\n"
        '  again: convspec conformance run --backend torch --case "exact float32 1x1x2 seed=0 | '
        "ConvSpec(1, 1, (2,), bias=False, layout='NCW')\"\n"
        "\n"
        "    import torch\n"
    )
    assert shrunk in out
    # What was shrunk comes first, and each bad case is there.
    assert out.index("FAIL torch") < out.index("ERROR torch") < out.index("CRASH torch")


def test_a_terminal_is_not_flooded(capsys: pytest.CaptureFixture[str]) -> None:
    bad = {"status": "fail", "detail": "wrong", "ratio": None, "claimed": True, "seconds": 0}
    target = {**REPORT["targets"][0], "results": [{**bad, "case": i} for i in range(40)]}
    terminal.write({**REPORT, "targets": [target]})
    out = capsys.readouterr().out
    assert out.count("FAIL torch") == terminal.PRINTED
    assert "... and 30 more of torch: --json, --html have all." in out


def test_an_unclaimed_case_is_run_again_by_a_probe() -> None:
    result = {"status": "fail", "detail": "wrong", "claimed": False}
    text = terminal.failure_text("torch", "a line", result)
    assert text.endswith("again: convspec conformance run --backend torch --probe --case 'a line'")


# ---- Markdown ----


def test_markdown() -> None:
    text = markdown.markdown(REPORT)
    lines = text.splitlines()
    assert lines[2].startswith("- torch 2.13.0 claims 92 % of the convolutions and 75 % of")
    rows = [line for line in lines if line.startswith("| ")]
    assert rows[0].count("|") == 7
    assert {row.replace("\\|", "").count("|") for row in rows} == {7}
    assert "| judged by: error bounds | 9 | **2 of 9 bad** | inf | pass | 1 |" in rows
    assert "## torch: 6 bad cases" in lines
    assert f"- fail: `{made.PLAIN[3].line}`" in lines
    assert "    import torch" in lines
    assert text.count("```") == 2


# ---- JUnit ----


def test_junit() -> None:
    root = ElementTree.fromstring(junit.junit(REPORT))
    torch, right, third = root.findall("testsuite")
    assert torch.attrib == {
        "name": "torch",
        "timestamp": REPORT["date"][:19],
        "tests": "80",
        "failures": "5",
        "errors": "1",
        "skipped": "5",
        "time": torch.attrib["time"],
    }
    tests = torch.findall("testcase")
    assert [test.attrib["name"] for test in tests] == [case.line for case in made.CASES]
    assert len(torch.findall("testcase/failure")) == 5
    assert len(torch.findall("testcase/skipped")) == 5
    failure = tests[3].find("failure")
    assert failure is not None
    assert failure.attrib == {"type": "fail", "message": made.WRONG.detail}
    assert made.SMALL.snippet.splitlines()[2] in str(failure.text)
    error = torch.find("testcase/error")
    assert error is not None
    assert error.attrib["message"] == "RuntimeError: " + made.NASTY.replace(
        "\x1b", "\ufffd"
    ).replace("\x00", "\ufffd")
    assert right.attrib["failures"] == "0"
    assert third.attrib["errors"] == "1"
    assert third.attrib["tests"] == "1"


# ---- the page, as text; as a page: test_conformance_page.py ----


def test_the_page_holds_the_report() -> None:
    text = page.page(REPORT)
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    data = json.loads(found[1])
    assert len(data["targets"][0]["results"]) == 80
    details = [data["details"][row[3]] for row in data["targets"][0]["results"]]
    assert details == [result["detail"] for result in REPORT["targets"][0]["results"]]
    assert text.count("</script>") == 2
