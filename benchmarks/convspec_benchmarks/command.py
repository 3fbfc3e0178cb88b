"""``convspec bench``."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from convspec import ConvSpec, ConvSpecError, dispatch

from .frameworks import RAW
from .frameworks.base import ANY_BATCH
from .reports import draw, show_fastest, show_report
from .running import Job, Report, run
from .timing import LEAST_REPEATS
from .workloads import LAYOUTS, WORKLOADS

PASSES = ("forward", "gradients")
WAYS = ("eager", "compiled")


def add_options(command: Any) -> None:
    """The options of the command, on its parser."""
    command.add_argument(
        "--backend",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME",
        help="only these (all that are installed and have baselines; with --spec, all)",
    )
    command.add_argument(
        "--workload",
        nargs="+",
        action="extend",
        default=[],
        choices=list(WORKLOADS),
        metavar="NAME",
        help=f"only these of {', '.join(WORKLOADS)}",
    )
    for name, values in (("layout", LAYOUTS), ("passes", PASSES)):
        command.add_argument(f"--{name}", choices=values, help=f"only {' or '.join(values)} (both)")
    command.add_argument(
        "--way",
        choices=(*WAYS, ANY_BATCH),
        help=f"only {', '.join(WAYS)}, or compiled for {ANY_BATCH} (the first two)",
    )
    command.add_argument(
        "--repeats",
        type=int,
        default=LEAST_REPEATS,
        metavar="COUNT",
        help=f"samples each, at least {LEAST_REPEATS} ({LEAST_REPEATS})",
    )
    command.add_argument("--spec", metavar="FILE", help="a spec of your own, as JSON of to_dict()")
    command.add_argument(
        "--input-shape", metavar="SIZES", help="with --spec: the input's shape in its layout"
    )
    command.add_argument(
        "--json", metavar="FILE", help="write all that was measured, after each measurement"
    )
    command.add_argument(
        "--resume", action="store_true", help="keep what --json has, and measure the rest"
    )
    command.add_argument(
        "--seconds",
        type=float,
        metavar="TIME",
        help="begin no measurement after so long; --resume goes on with the rest",
    )
    command.add_argument("--picture", metavar="FILE", help="draw the ratios (.png, .svg, .pdf)")
    command.set_defaults(run=bench)


def bench(parsed: argparse.Namespace) -> int:
    """Measure what the options ask for; 1 where something could not be measured."""
    job = _job(parsed)
    path = Path(parsed.json) if parsed.json else None
    before = None
    if parsed.resume:
        if path is None:
            raise ConvSpecError("--resume: goes together with --json, the file to go on with.")
        before = Report.load(path) if path.exists() else None
    report = run(job, before, path)
    if job.spec is not None:
        show_fastest(report)
    else:
        show_report(report)
    if path is not None:
        report.save(path)
    if parsed.picture and any(row["baseline"] for row in report.rows):
        try:
            draw(report, Path(parsed.picture))
        except ImportError as error:
            raise ConvSpecError(
                f"--picture: needs matplotlib: pip install 'convspec[bench]' ({error})"
            ) from error
    return 1 if report.errors and (parsed.backend or not report.rows) else 0


def _job(parsed: argparse.Namespace) -> Job:
    if parsed.repeats < LEAST_REPEATS:
        raise ConvSpecError(f"--repeats: at least {LEAST_REPEATS}, got {parsed.repeats}.")
    if (parsed.spec is None) != (parsed.input_shape is None):
        raise ConvSpecError("--spec: goes together with --input-shape; give both or neither.")
    present = dispatch.installed()
    for name in parsed.backend:
        if name not in present:  # the workers import the others
            dispatch.get_backend(name)  # says what is missing
    spec = None if parsed.spec is None else _spec(Path(parsed.spec))
    shape = None if spec is None else _shape(parsed.input_shape)
    if spec is not None and shape is not None:
        spec.output_shape(shape)  # says what does not fit
    names = parsed.backend or [name for name in present if spec is not None or name in RAW]
    return Job(
        frameworks=tuple(dict.fromkeys(names)),
        workloads=tuple(parsed.workload or WORKLOADS),
        layouts=(parsed.layout,) if parsed.layout else LAYOUTS,
        passes=(parsed.passes,) if parsed.passes else PASSES if spec is None else PASSES[:1],
        ways=(parsed.way,) if parsed.way else WAYS,
        repeats=parsed.repeats,
        spec=None if spec is None else spec.to_dict(),
        input_shape=shape,
        deadline=None if parsed.seconds is None else time.time() + parsed.seconds,
    )


def _spec(path: Path) -> ConvSpec:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConvSpecError(f"--spec: {path} is no JSON file: {error}") from error
    return ConvSpec.from_dict(found)


def _shape(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ConvSpecError(
            f"--input-shape: expected sizes as in 1,3,32,32, got {text!r}."
        ) from None
