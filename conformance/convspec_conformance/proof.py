"""The long run that says whether the suite can be trusted: no false alarms, and no fault escapes.

    python -m convspec_conformance.proof --backend numpy --backend torch --out RESULTS.md

The standard level on correct backends at many seeds, where every failure is either a bug of the
backend's or a false alarm; and every fault at a few seeds. Exit status 1 if there is any of these.
"""

from __future__ import annotations

import argparse
import multiprocessing
import platform
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

from convspec import __version__
from convspec.tables import progress

from .faults import FAULTS, run_faults
from .generate import suite
from .runner import Run, run

#: The level that is proved.
LEVEL = "standard"
#: How many faults are hunted together by a process.
TOGETHER = 30


def main(arguments: Sequence[str] | None = None) -> int:
    """Run everything and write the report."""
    parsed = _parser().parse_args(arguments)
    began = perf_counter()
    names = tuple(FAULTS)
    parts = [names[i : i + TOGETHER] for i in range(0, len(names), TOGETHER)]
    steps = len(parsed.backend) * parsed.seeds + len(parts) * parsed.fault_seeds
    runs: dict[str, list[Run]] = {name: [] for name in parsed.backend}
    hunts: dict[str, list[Found]] = {name: [] for name in FAULTS}
    with progress(steps, remaining=True) as step:
        for name, many in runs.items():
            for seed in range(parsed.seeds):
                step(f"{name}, seed {seed}")
                many.append(run(name, suite(LEVEL, seed), jobs=parsed.jobs))
        # Seed by seed, so that a process keeps the cases that it has drawn.
        todo = [(part, seed) for seed in range(parsed.fault_seeds) for part in parts]
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(parsed.jobs, mp_context=context) as pool:
            for (part, seed), found in zip(todo, pool.map(_hunted, todo), strict=True):
                step(f"{part[0]} and others, seed {seed}")
                for name, hunt in zip(part, found, strict=True):
                    hunts[name].append(hunt)
    minutes = (perf_counter() - began) / 60
    lines = [*_head(sys.argv[1:] if arguments is None else arguments, minutes)]
    lines += [*_alarms(runs), *_escapes(hunts)]
    text = "\n".join(lines) + "\n"
    if parsed.out:
        Path(parsed.out).write_text(text, encoding="utf-8")
    else:
        print(text)
    alarms = any(found.broken or found.failures for many in runs.values() for found in many)
    escaped = any(not hunt.judge for hunted in hunts.values() for hunt in hunted)
    return int(alarms or escaped)


class Found(NamedTuple):
    """By which judge a fault was caught at a seed, empty if it was not, after how many cases."""

    judge: str
    cases: int


def _hunted(task: tuple[tuple[str, ...], int]) -> list[Found]:
    """The hunts of faults by name at a seed."""
    names, seed = task
    return [
        Found("" if hunt.case is None else hunt.case.judge, hunt.cases)
        for hunt in run_faults(names, LEVEL, seed)
    ]


def _head(arguments: Sequence[str], minutes: float) -> list[str]:
    return [
        "# Results of the long run",
        "",
        "Written by the command below; see `docs/conformance.md` for what it does.",
        "",
        f"    python -m convspec_conformance.proof {' '.join(arguments)}".rstrip(),
        "",
        f"convspec {__version__}, Python {platform.python_version()}, {platform.machine()}, "
        f"{datetime.now(UTC):%Y-%m-%d}; {minutes:.0f} minutes.",
        "",
    ]


def _alarms(runs: dict[str, list[Run]]) -> list[str]:
    """A row for each backend, and a line for each failure."""
    lines = [
        "## False alarms: correct backends",
        "",
        "| backend | version | seeds | cases | passed | not claimed | bad | worst error/bound |",
        "|---|---|---|---|---|---|---|---|",
    ]
    bad = []
    for name, many in runs.items():
        results = [result for found in many for result in found.results]
        statuses = [result.verdict.status for result in results]
        failures = [result for found in many for result in found.failures]
        broken = [found.broken for found in many if found.broken]
        ratios = [r.verdict.ratio for r in results if r.verdict.ratio is not None]
        cells = [
            name,
            many[0].version,
            f"0 to {len(many) - 1}",
            str(len(results)),
            str(statuses.count("pass")),
            str(statuses.count("unclaimed")),
            str(len(failures) + len(broken)),
            f"{max(ratios, default=0.0):.3f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
        bad += [f"- {name}: {text}" for text in broken]
        for r in failures:
            detail = " ".join(r.verdict.detail.split())
            bad.append(f"- {name}: `{r.case.line}`: {detail}")
    return [*lines, "", *bad, *[""][: len(bad)]]


def _escapes(hunts: dict[str, list[Found]]) -> list[str]:
    """A row for each fault: by what it was caught, and how many cases that took."""
    caught = [all(hunt.judge for hunt in hunted) for hunted in hunts.values()]
    seeds = len(next(iter(hunts.values()), []))
    lines = [
        f"## Faults: {sum(caught)} of {len(caught)} caught at every one of {seeds} seeds",
        "",
        "For each seed: the judge of the case that caught it, and how many cases that took.",
        "",
        f"| fault | mistake |{''.join(f' seed {seed} |' for seed in range(seeds))}",
        f"|---|---|{'---|' * seeds}",
    ]
    for name, hunted in hunts.items():
        cells = [f"{found.judge or '**escaped**'} {found.cases}" for found in hunted]
        lines.append(f"| {' | '.join([name, FAULTS[name].summary, *cells])} |")
    return lines


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m convspec_conformance.proof",
        description="The standard level on correct backends at many seeds, and every fault.",
    )
    parser.add_argument(
        "--backend", action="append", default=[], metavar="NAME", help="a correct one"
    )
    parser.add_argument("--seeds", type=int, default=20, help="of each backend (%(default)s)")
    parser.add_argument("--fault-seeds", type=int, default=5, help="of each fault (%(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="worker processes (%(default)s)")
    parser.add_argument("--out", metavar="FILE", help="the report, in Markdown (stdout)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
