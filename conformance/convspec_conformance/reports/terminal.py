"""The report on a terminal: what is claimed, the table, and what failed."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from itertools import pairwise
from textwrap import indent
from typing import Any

from convspec.tables import Column, Row, show

from .document import Document, cell_text, failed, headline, ratio_text, surveyed, total

#: Failing cases of a target that are printed; every form of report on disk has all of them.
PRINTED = 10


def write(report: Document) -> None:
    """Write a report to stdout."""
    for target in report["targets"]:
        print(headline(target))
    print()
    targets = [target for target in report["targets"] if target["results"]]
    if targets:
        show(*matrix(report, targets))
    for target in targets:
        _failures(report, target)


def matrix(report: Document, targets: list[Any]) -> tuple[list[Column], list[Row]]:
    """The table of capabilities and targets, the totals in its last rows."""
    columns = [Column(""), Column("capability"), Column("cases", number=True)]
    for target in targets:
        columns += [Column(target["name"]), Column("error/bound", number=True)]
    rows = []
    groups = ["", *(capability["group"] for capability in report["capabilities"])]
    for i, ((before, group), capability) in enumerate(
        zip(pairwise(groups), report["capabilities"], strict=True)
    ):
        cells = [target["capabilities"][i] for target in targets]
        if any(map(total, cells)):
            first = group != before
            rows.append(_row(group if first else "", capability["name"], cells, first=first))
    rows.append(_row("all", "", targets, first=True))
    return columns, rows


def _row(group: str, name: str, cells: list[Any], *, first: bool) -> Row:
    texts = [group, name, str(surveyed(cells[0]))]
    for cell in cells:
        texts += [cell_text(cell), ratio_text(cell["worst"])]
    bad = any(failed(cell) for cell in cells)
    return Row(tuple(texts), "bad" if bad else "", first)


def _failures(report: Document, target: Mapping[str, Any]) -> None:
    bad = [r for r in target["results"] if r["status"] not in ("pass", "unclaimed")]
    # Those with a smallest case say the most.
    bad.sort(key=lambda result: "smallest" not in result)
    for result in bad[:PRINTED]:
        print("\n" + failure_text(target["name"], report["cases"][result["case"]]["line"], result))
    if len(bad) > PRINTED:
        print(f"\n... and {len(bad) - PRINTED} more of {target['name']}: --json, --html have all.")


def failure_text(target: str, line: str, result: Mapping[str, Any]) -> str:
    """A failing case: what is wrong, how to run it again, the smallest one and its snippet."""
    lines = [f"{result['status'].upper()} {target}: {line}", indent(result["detail"], "  ")]
    small = result.get("smallest")
    if small:
        lines += [f"  smallest: {small['line']}", indent(small["detail"], "    ")]
    again = small["line"] if small else line
    lines.append(
        f"  again: convspec conformance run --backend {_quoted(target)}"
        f"{'' if result['claimed'] else ' --probe'} --case {_quoted(again)}"
    )
    if small and small["snippet"]:
        lines += ["", indent(small["snippet"].rstrip(), "    ")]
    return "\n".join(lines)


def _quoted(text: str) -> str:
    """For a shell; a case's line, which has single quotes only, stays readable."""
    return shlex.quote(text) if set(text) & set('"$`\\!') or "'" not in text else f'"{text}"'
