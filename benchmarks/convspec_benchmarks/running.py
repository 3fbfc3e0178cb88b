"""Runs the workers, one framework after the other."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import convspec
from convspec import ConvSpecError
from convspec.tables import progress

from .frameworks import RAW

#: Settings that keep BLAS from what suits this CPU.
BLAS = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")

#: Raised whenever what a report's fields mean changes.
FORMAT = 2


@dataclass(frozen=True)
class Job:
    """What to measure.

    Attributes:
        frameworks: names of backends.
        workloads: names of workloads; ignored with ``spec``.
        layouts, passes, ways: which rows; passes are ``"forward"`` and ``"gradients"`` (forward
            and both gradients), ways ``"eager"``, ``"compiled"`` and ``"any batch"``.
        repeats: samples each, at least 5.
        spec, input_shape: a spec of a user's own, as ``to_dict`` gives it.
        done: (framework, workload, layout, passes) that are not measured again.
        deadline: in seconds of ``time.time()``: nothing is begun after it.
    """

    frameworks: tuple[str, ...]
    workloads: tuple[str, ...]
    layouts: tuple[str, ...]
    passes: tuple[str, ...]
    ways: tuple[str, ...]
    repeats: int = 5
    spec: dict[str, Any] | None = None
    input_shape: tuple[int, ...] | None = None
    done: tuple[tuple[str, str, str, str], ...] = ()
    deadline: float | None = None


@dataclass
class Report:
    """What was measured: one machine record a framework, one row a measurement, and failures.

    Attributes:
        left: how many measurements the deadline has left out.
    """

    about: dict[str, Any]
    machines: list[dict[str, Any]] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    left: int = 0

    @classmethod
    def load(cls, path: Path) -> Report:
        """What :meth:`save` wrote.

        Raises:
            ConvSpecError: it is no report of this format.
        """
        try:
            found = json.loads(path.read_text())
            if found["about"]["format"] == FORMAT:
                return cls(**found)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ConvSpecError(f"--resume: {path} is no report: {error}") from error
        raise ConvSpecError(
            f"--resume: {path} has format {found['about']['format']}, expected {FORMAT}."
        )

    @property
    def done(self) -> tuple[tuple[str, str, str, str], ...]:
        """What need not be measured again."""
        names = ("framework", "workload", "layout", "passes")
        return tuple(dict.fromkeys(tuple(row[name] for name in names) for row in self.rows))

    def save(self, path: Path) -> None:
        """Write it as JSON; whoever reads the file meanwhile sees the old one or the new one."""
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        part.write_text(json.dumps(asdict(self), indent=1) + "\n")
        part.replace(path)


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


def run(job: Job, before: Report | None = None, path: Path | None = None) -> Report:
    """Measure a job. A framework that fails leaves its message in ``errors``.

    So does an interruption: what has been measured until then is still reported.

    Args:
        before: a report whose rows the new ones join.
        path: where the report is saved after each measurement.
    """
    report = Report(about_the_machine())
    if before is not None:
        report.machines, report.rows = before.machines, before.rows
    job = replace(job, done=report.done)
    works = 1 if job.spec is not None else len(job.workloads)
    steps = len(job.frameworks) * works * len(job.layouts) * len(job.passes)
    with progress(steps, remaining=True) as step:
        try:
            for name in job.frameworks:
                _framework(name, job, report, step, path)
        except KeyboardInterrupt:
            report.errors.append("the rest: interrupted")
    return report


def _framework(name: str, job: Job, report: Report, step: Any, path: Path | None) -> None:
    words = json.dumps({**asdict(job), "framework": name})
    command = [sys.executable, "-m", "convspec_benchmarks.worker", words]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(name)
    ) as worker:
        assert worker.stdout is not None
        assert worker.stderr is not None
        try:
            for line in worker.stdout:
                _take(json.loads(line), report, step)
                if path is not None:
                    report.save(path)
        except KeyboardInterrupt:
            worker.kill()
            raise
        said = worker.stderr.read().strip().splitlines()
    if worker.returncode:
        report.errors.append(f"{name}: {said[-1] if said else f'exit {worker.returncode}'}")


def _take(message: dict[str, Any], report: Report, step: Any) -> None:
    if "machine" in message:
        name = message["machine"]["framework"]
        others = [machine for machine in report.machines if machine["framework"] != name]
        report.machines = [*others, message["machine"]]
    elif "left" in message:
        report.left += message["left"]
    elif "row" in message:
        report.rows.append(message["row"])
    elif "error" in message:
        report.errors.append(message["error"])
    else:
        step(message["start"])


def environment(framework: str) -> dict[str, str]:
    """A worker's environment: BLAS picks its kernels for this CPU, frameworks load quietly."""
    kept = {name: value for name, value in os.environ.items() if name not in BLAS}
    if framework in RAW:  # Keras has all of them for backends, one a process
        kept["KERAS_BACKEND"] = framework
    return {**kept, "TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
