"""Runs the workers, one framework after the other."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import convspec
from convspec.tables import progress

#: Raised whenever what a report's fields mean changes.
FORMAT = 1


@dataclass(frozen=True)
class Job:
    """What to measure.

    Attributes:
        frameworks: names of backends.
        workloads: names of workloads; ignored with ``spec``.
        layouts, passes, ways: which rows; passes are ``"forward"`` and ``"gradients"`` (forward
            and both gradients), ways ``"eager"`` and ``"compiled"``.
        repeats: samples each, at least 5.
        spec, input_shape: a spec of a user's own, as ``to_dict`` gives it.
    """

    frameworks: tuple[str, ...]
    workloads: tuple[str, ...]
    layouts: tuple[str, ...]
    passes: tuple[str, ...]
    ways: tuple[str, ...]
    repeats: int = 5
    spec: dict[str, Any] | None = None
    input_shape: tuple[int, ...] | None = None


@dataclass
class Report:
    """What was measured: one machine record a framework, one row a measurement, and failures."""

    about: dict[str, Any]
    machines: list[dict[str, Any]] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")


def about_the_machine() -> dict[str, Any]:
    """What a report says of when and where it was made."""
    return {
        "format": FORMAT,
        "convspec": convspec.__version__,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": platform.machine(),
        "system": platform.system(),
        "cpus": os.cpu_count(),
        # What others were doing: ratios bear it, times do not.
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
    }


def run(job: Job) -> Report:
    """Measure a job. A framework that fails leaves its message in ``errors``.

    So does an interruption: what has been measured until then is still reported.
    """
    report = Report(about_the_machine())
    works = 1 if job.spec is not None else len(job.workloads)
    steps = len(job.frameworks) * works * len(job.layouts) * len(job.passes)
    with progress(steps, remaining=True) as step:
        try:
            for name in job.frameworks:
                _framework(name, job, report, step)
        except KeyboardInterrupt:
            report.errors.append("the rest: interrupted")
    return report


def _framework(name: str, job: Job, report: Report, step: Any) -> None:
    words = json.dumps({**asdict(job), "framework": name})
    command = [sys.executable, "-m", "convspec_benchmarks.worker", words]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    ) as worker:
        assert worker.stdout is not None
        assert worker.stderr is not None
        try:
            for line in worker.stdout:
                _take(json.loads(line), report, step)
        except KeyboardInterrupt:
            worker.kill()
            raise
        said = worker.stderr.read().strip().splitlines()
    if worker.returncode:
        report.errors.append(f"{name}: {said[-1] if said else f'exit {worker.returncode}'}")


def _take(message: dict[str, Any], report: Report, step: Any) -> None:
    if "machine" in message:
        report.machines.append(message["machine"])
    elif "row" in message:
        report.rows.append(message["row"])
    elif "error" in message:
        report.errors.append(message["error"])
    else:
        step(message["start"])


def environment() -> dict[str, str]:
    """The workers' environment: BLAS picks its kernels for this CPU, frameworks load quietly."""
    kept = {name: value for name, value in os.environ.items() if name != "OPENBLAS_CORETYPE"}
    return {**kept, "TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
