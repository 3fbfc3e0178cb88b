"""What the pages of a fresh output cost, and what a setting of the allocator saves (Linux, glibc).

    python -m convspec_benchmarks.outputs torch tensorflow jax numpy --json result.json

One call whose output has 51 MB, with little arithmetic and a lot of it, in processes that differ in
nothing but their environment, a call of each in turn. Beside the time stand the page faults of a
call: each is a page of memory that the system gives to the process, cleared, and takes back when
the output is freed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from convspec import ConvSpec
from convspec.tables import Column, Row, show

from .frameworks import framework
from .running import Report, about_the_machine, environment
from .timing import ratio

#: glibc's own names: https://sourceware.org/glibc/manual/latest/html_node/Memory-Allocation-Tunables.html
KEPT = "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=1099511627776:glibc.malloc.arena_max=1"
HUGE = "glibc.malloc.hugetlb=1"
SETTINGS = {
    "as it is": "",
    "memory is kept": KEPT,
    "huge pages": HUGE,
    "both": f"{KEPT}:{HUGE}",
}
#: Kernels on 3 channels of 16 x 112 x 112 that give 64 channels, 51 MB: 1 x 1 x 1, and 3 x 3 x 3.
KERNELS = {"point": 1, "c3d1": 3}


def measure(name: str, kernel: str, repeats: int) -> list[dict[str, Any]]:
    """A row for each setting."""
    command = [sys.executable, "-m", "convspec_benchmarks.outputs", "--child", name, kernel]
    pipe = subprocess.PIPE
    children = {
        setting: subprocess.Popen(
            command,
            env=environment(name) | {"GLIBC_TUNABLES": value},
            stdin=pipe,
            stdout=pipe,
            text=True,
        )
        for setting, value in SETTINGS.items()
    }
    samples: dict[str, list[tuple[float, float]]] = {setting: [] for setting in SETTINGS}
    try:
        for turn in range(repeats):
            for setting in SETTINGS if turn % 2 else reversed(SETTINGS):
                child = children[setting]
                assert child.stdin is not None
                assert child.stdout is not None
                child.stdin.write("\n")
                child.stdin.flush()
                samples[setting].append(json.loads(child.stdout.readline()))
    finally:
        for child in children.values():
            child.kill()
            child.wait()
    times = {setting: [seconds for seconds, _ in pairs] for setting, pairs in samples.items()}
    rows = []
    for setting, pairs in samples.items():
        middle, low, high = ratio(times["as it is"], times[setting])
        rows.append(
            {
                "framework": name,
                "kernel": kernel,
                "setting": setting,
                "tunables": SETTINGS[setting],
                "seconds": median(times[setting]),
                "faults": median(faults for _, faults in pairs),
                "ratio": middle,
                "interval": [low, high],
            }
        )
    return rows


def serve(name: str, kernel: str) -> None:
    """Make a call for each line that comes, and tell its seconds and page faults."""
    import resource  # which not every system has

    out, sys.stdout = sys.stdout, sys.stderr
    engine = framework(name)
    size = KERNELS[kernel]
    spec = ConvSpec(3, 64, (size,) * 3, padding=size // 2, bias=False, layout="NCDHW")
    rng = np.random.default_rng(0)
    x, w = (
        engine.array(rng.integers(-2, 3, shape).astype("float32"))
        for shape in ((1, 3, 16, 112, 112), spec.weight_shape)
    )
    run = engine.ways(spec, gradients=False)["compiled" if name == "jax" else "eager"]
    for _ in range(3):
        engine.wait(run(x, w))
    for _ in sys.stdin:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        start = time.perf_counter()
        engine.wait(run(x, w))  # and freed, which gives the pages back
        seconds = time.perf_counter() - start
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
        print(json.dumps([seconds, faults]), file=out, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(
        prog="convspec_benchmarks.outputs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("frameworks", nargs="*", default=["torch", "tensorflow", "jax", "numpy"])
    parser.add_argument("--repeats", type=int, default=25, help="calls of each (%(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write all that was measured")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    parsed = parser.parse_args(arguments)
    if parsed.child:
        serve(*parsed.child)
        return 0
    report = Report(about_the_machine())
    for name in parsed.frameworks:
        for kernel in KERNELS:
            report.rows += measure(name, kernel, parsed.repeats)
            if parsed.json:
                report.save(Path(parsed.json))
    columns = [Column("framework"), Column("kernel"), Column("setting")]
    numbers = ("ms", "page faults", "times as fast")
    show(
        [*columns, *(Column(text, number=True) for text in numbers), Column("interval")],
        [
            Row(
                (
                    row["framework"],
                    row["kernel"],
                    row["setting"],
                    f"{row['seconds'] * 1e3:.1f}",
                    f"{row['faults']:.0f}",
                    f"{row['ratio']:.2f}",
                    "{:.2f} to {:.2f}".format(*row["interval"]),
                )
            )
            for row in report.rows
        ],
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
