"""The report as plain data, from which every other form is made; ``document.schema.json`` says it.

Cases are listed once, since targets mostly have the same ones; everything else points to them by
their place in that list. Behind those of the level come those that were drawn for a target.
"""

from __future__ import annotations

import json
import math
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from convspec import __version__

from ..capabilities import CAPABILITIES, gradient_share, of, share
from ..cases import Case
from ..judges import STATUSES
from ..runner import Result, Run

#: Version of the form; a new one where a reader of the old would be misled.
VERSION = 1
#: Stands for an infinite ratio, and for NaN: JSON has neither.
INFINITE = sys.float_info.max

Document = dict[str, Any]


@dataclass(frozen=True)
class Small:
    """The smallest failing case near one that was found.

    Attributes:
        case: the small one.
        detail: what is wrong with it.
        snippet: Python source that shows it.
    """

    case: Case
    detail: str
    snippet: str


@dataclass(frozen=True)
class Settings:
    """What was run.

    Attributes:
        level: as on the command line; ``"selection"`` where cases were given one by one.
        seed: of the level.
        only: texts that a case's line or capabilities had to have.
        probe: whether unclaimed cases were run.
    """

    level: str = "standard"
    seed: int = 0
    only: tuple[str, ...] = field(default=())
    probe: bool = False


def document(
    runs: Sequence[Run],
    cases: Sequence[Case],
    settings: Settings,
    small: Mapping[tuple[str, str], Small] | None = None,
) -> Document:
    """The report.

    Args:
        runs: one for each target.
        cases: all that were to be run.
        settings: what was asked for.
        small: by target and the line of a failing case.
    """
    steered = [r.case for found in runs for r in found.results if r.steered]
    cases = list(dict.fromkeys([*cases, *steered]))
    place = {case.line: i for i, case in enumerate(cases)}
    return {
        "format": "convspec-conformance",
        "version": VERSION,
        "convspec": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "level": settings.level,
        "seed": settings.seed,
        "only": list(settings.only),
        "probe": settings.probe,
        "capabilities": [{"group": c.group, "name": c.name} for c in CAPABILITIES],
        "cases": [
            {"line": case.line, "judge": case.judge, "capabilities": list(of(case))}
            for case in cases
        ],
        "targets": [_target(run, place, small or {}) for run in runs],
    }


def _target(
    run: Run, place: Mapping[str, int], small: Mapping[tuple[str, str], Small]
) -> dict[str, Any]:
    rows: list[list[Result]] = [[] for _ in CAPABILITIES]
    for result in run.results:
        for i in of(result.case):
            rows[i].append(result)
    claims = [(result.case, result.claimed) for result in run.results if not result.steered]
    gradients = gradient_share(claims)
    return {
        "name": run.target,
        "version": run.version,
        "broken": run.broken,
        "claimed_share": round(share(claims), 6),
        "gradient_share": None if gradients is None else round(gradients, 6),
        **_summary(run.results),
        "capabilities": [_summary(row) for row in rows],
        "results": [
            {
                "case": place[result.case.line],
                "status": result.verdict.status,
                "claimed": result.claimed,
                "steered": result.steered,
                "detail": result.verdict.detail,
                "ratio": _number(result.verdict.ratio),
                "seconds": round(result.seconds, 4),
                **_smallest(small.get((run.target, result.case.line))),
            }
            for result in run.results
        ],
    }


def _summary(results: Sequence[Result]) -> dict[str, Any]:
    """Counts of each status, of what could be claimed, and the largest error over its bound.

    All of them count what was drawn for the target, too; ``steered`` says how many that are.
    """
    counts = dict.fromkeys(STATUSES, 0)
    for result in results:
        counts[result.verdict.status] += 1
    ratios = [_number(r.verdict.ratio) for r in results if r.verdict.ratio is not None]
    return {
        "counts": counts,
        "claimed": sum(result.claimed for result in results),
        "claimable": sum(result.unexpected for result in results),
        "steered": sum(result.steered for result in results),
        "worst": max((ratio for ratio in ratios if ratio is not None), default=None),
    }


def _smallest(found: Small | None) -> dict[str, Any]:
    if found is None:
        return {}
    return {
        "smallest": {
            "line": found.case.line,
            "detail": found.detail,
            "snippet": found.snippet,
        }
    }


def _number(ratio: float | None) -> float | None:
    if ratio is None or math.isfinite(ratio):
        return ratio
    return INFINITE


# ---- what the forms share ----


def failed(summary: Mapping[str, Any]) -> int:
    """How many cases of a target or capability are bad."""
    counts = summary["counts"]
    return int(sum(counts.values()) - counts["pass"] - counts["unclaimed"])


def total(summary: Mapping[str, Any]) -> int:
    """How many cases of a target or capability there are."""
    return int(sum(summary["counts"].values()))


def surveyed(summary: Mapping[str, Any]) -> int:
    """How many of them every target has."""
    return total(summary) - int(summary["steered"])


def ratio_text(ratio: float | None) -> str:
    """An error over its bound, for a person."""
    if ratio is None:
        return ""
    return "inf" if ratio >= INFINITE else f"{ratio:.2g}"


def cell_text(summary: Mapping[str, Any]) -> str:
    """How a capability stands on a target, in a cell of a table."""
    bad, cases, more = failed(summary), total(summary), summary["steered"]
    passed = summary["counts"]["pass"]
    if not cases:
        return ""
    if bad:
        return f"{bad} of {cases} bad"
    if not passed:
        return "unclaimed"
    text = "pass" if passed == cases else f"{passed - more} of {cases - more}"
    return f"{text} +{more}" if more else text


def percent(part: float) -> str:
    """A part of a whole, rounded down: 100 % is said of all alone."""
    return f"{math.floor(1000 * part) / 10:g} %"


def headline(target: Mapping[str, Any]) -> str:
    """What a target claims, which every form leads with, and how many cases are bad."""
    name = " ".join(filter(None, (target["name"], target["version"])))
    lines = []
    if target["broken"]:
        lines.append(f"{name} was not run to the end: {target['broken']}")
    if target["results"]:
        claimed = f"{percent(target['claimed_share'])} of the convolutions"
        if target["gradient_share"] is not None:
            claimed += f" and {percent(target['gradient_share'])} of the gradients"
        lines.append(f"{name} claims {claimed} in the suite; {_found(target, failed(target))}.")
    if target["claimable"]:
        lines.append(f"{name} could claim {target['claimable']} more cases: it passes them.")
    return "\n".join(lines)


def _found(target: Mapping[str, Any], bad: int) -> str:
    asked, drawn = f"{surveyed(target)} cases", target["steered"]
    wrong, are = bad or "none", "is" if bad == 1 else "are"
    if drawn:
        return f"of {asked} and {drawn} drawn for it, {wrong} {are} bad"
    return f"{wrong} of {asked} {are} bad"


def text(report: Document) -> str:
    """The report as JSON."""
    return json.dumps(report, indent=1) + "\n"
