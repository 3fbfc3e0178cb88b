"""Fails where convspec has become slower beside the frameworks' own calls than it was.

    python -m convspec_benchmarks.guard [--history FILE] [--record]

A few rows of ``convspec bench`` are measured and held against what the history has of them.
Machines differ, and so do ratios on them: a row is slower only if the whole interval of its ratio
lies below :data:`SHARE` of the history's median. It is then measured again, since a regression
repeats, and noise does not.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from convspec import ConvSpecError
from convspec.tables import Column, Row, show

from .frameworks.base import ANY_BATCH
from .running import FORMAT, Job, Report, about_the_machine, run

#: Calls' overhead, and the rules that gain most, where the framework's own call is quick enough.
WATCHED = (
    Job(("torch",), ("tiny", "c3d1"), ("channels_first",), ("forward",), ("eager",)),
    Job(("torch",), ("depthwise3d",), ("channels_last",), ("gradients",), ("eager",)),
    Job(("tensorflow",), ("tiny", "ct5"), ("channels_last",), ("forward",), ("eager",)),
    Job(("jax",), ("tiny", "grouped3d", "up3d"), ("channels_first",), ("forward",), ("compiled",)),
    Job(("tensorflow",), ("ct5",), ("channels_last",), ("gradients",), (ANY_BATCH,)),
    Job(("jax",), ("unet3d", "point"), ("channels_last",), ("gradients",), ("compiled",)),
)
#: Of the history's ratio, below which a row has become slower: on one machine the medians of quiet
#: and of loaded runs differ by up to a half, and so may another machine's.
SHARE = 0.4
#: How often a row is measured until it counts as slower.
TIMES = 3
HISTORY = Path(__file__).parents[1] / "history.json"

#: Framework, workload, layout, passes, way.
Key = tuple[str, str, str, str, str]


def key(row: Mapping[str, Any]) -> Key:
    """What a row of a report measures."""
    return row["framework"], row["workload"], row["layout"], row["passes"], row["way"]


def slower(rows: Sequence[Mapping[str, Any]], known: Mapping[Key, float]) -> list[Key]:
    """Rows whose ratio surely lies below :data:`SHARE` of the known one."""
    return [
        key(row) for row in rows if key(row) in known and row["interval"][1] < limit(known, row)
    ]


def limit(known: Mapping[Key, float], row: Mapping[str, Any]) -> float:
    """The ratio that a row may not lie below."""
    return SHARE * known.get(key(row), 0.0)


def ratios(history: Sequence[Mapping[str, Any]]) -> dict[Key, float]:
    """The median of the ratios that a history has of each row."""
    found: dict[Key, list[float]] = {}
    for entry in history:
        for row in entry["rows"]:
            found.setdefault(key(row), []).append(row["ratio"])
    return {name: median(values) for name, values in found.items()}


def watch(
    known: Mapping[Key, float], measured: Callable[[Job], Report], jobs: Sequence[Job]
) -> tuple[list[dict[str, Any]], list[Key], list[str]]:
    """The rows as they were measured last, those that are slower each time, and what failed."""
    rows: dict[Key, dict[str, Any]] = {}
    bad: list[Key] = []
    errors: list[str] = []
    for job in jobs:
        for _ in range(TIMES):
            report = measured(job)
            rows.update({key(row): row for row in report.rows})
            errors += report.errors
            again = slower(report.rows, known)
            if not again:
                break
            # Those alone; a row that is left to the end is one that was slower each time.
            job = replace(job, workloads=tuple(dict.fromkeys(name[1] for name in again)))
        else:
            bad += again
    return list(rows.values()), bad, errors


def read(path: Path) -> list[dict[str, Any]]:
    """The entries of a history, the oldest first; none where there is no file.

    Raises:
        ConvSpecError: the file is no history.
    """
    if not path.exists():
        return []
    try:
        entries = json.loads(path.read_text())
        ratios(entries)
    except (ValueError, TypeError, KeyError) as error:
        raise ConvSpecError(f"--history: {path} is no history: {error}") from error
    return [entry for entry in entries if entry["about"]["format"] == FORMAT]


def main(words: Sequence[str] | None = None) -> int:
    """Measure, show and compare; 1 where a row is slower or failed."""
    parser = argparse.ArgumentParser(prog="convspec_benchmarks.guard", description=__doc__)
    parser.add_argument("--history", type=Path, default=HISTORY, metavar="FILE")
    parser.add_argument(
        "--record", action="store_true", help="add what was measured to the history"
    )
    parsed = parser.parse_args(words)
    history = read(parsed.history)
    known = ratios(history)
    rows, bad, errors = watch(known, run, WATCHED)
    columns = [Column(name) for name in ("framework", "workload", "passes")]
    columns += [Column(name, number=True) for name in ("ratio", "interval", "history", "at least")]
    show(
        columns,
        [
            Row(
                (
                    *(row[name] for name in ("framework", "workload", "passes")),
                    f"{row['ratio']:.2f}",
                    "{:.2f} to {:.2f}".format(*row["interval"]),
                    f"{known[key(row)]:.2f}" if key(row) in known else "",
                    f"{limit(known, row):.2f}" if key(row) in known else "",
                ),
                "bad" if key(row) in bad else "",
            )
            for row in rows
        ],
    )
    for line in [*errors, *(f"slower {TIMES} times in turn: {' '.join(name)}" for name in bad)]:
        print(line)
    if parsed.record and not errors:
        kept = ("framework", "workload", "layout", "passes", "way", "ratio", "interval", "baseline")
        entry = {
            "about": about_the_machine(),
            "rows": [{name: row[name] for name in kept} for row in rows],
        }
        parsed.history.write_text(json.dumps([*history, entry], indent=1) + "\n")
    return int(bool(bad or errors))


if __name__ == "__main__":
    # With AVX-512 TensorFlow would take oneDNN's kernels, beside which other ratios are right.
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"
    raise SystemExit(main())
