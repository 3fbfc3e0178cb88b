"""Layout changes beside NumPy's and the frameworks' own, and a plain copy.

    python -m convspec_benchmarks.layouts --megabytes 1 64 1024 --json result.json

All results are contiguous arrays, new each time; the views that they are made of are there before.
Everything is timed in turns, in one process. ``convspec`` is what a call does here; where numba is
installed, ``NumPy alone`` is what it does without.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from convspec import convert_layout, copies, dispatch
from convspec.layouts import permutation
from convspec.tables import Column, Row, progress, show

from .running import Report, about_the_machine
from .timing import interleaved, ratio

Copies = dict[str, Callable[[], Any]]
OURS, PLAIN, BASE, NUMPY = "convspec", "plain copy", "NumPy alone", "numpy"


@dataclass(frozen=True)
class Change:
    """A change of layout; ``shape`` is in the order of ``source``."""

    source: str
    target: str
    shape: tuple[int, ...]


def changes(megabytes: int, channels: int) -> list[Change]:
    """Both directions for volumes, and the permutations of weights, of about the same size."""
    count = megabytes * 2**20 // 4
    size = max(round(count / channels / 16), 1)
    filters = max(round((count / 27) ** 0.5), 1)
    kernel = (3, 3, 3)
    return [
        Change("NCDHW", "NDHWC", (1, channels, 16, size, 1)),
        Change("NDHWC", "NCDHW", (1, 16, size, 1, channels)),
        Change("OIDHW", "DHWIO", (filters, filters, *kernel)),
        Change("DHWIO", "OIDHW", (*kernel, filters, filters)),
        Change("OIDHW", "ODHWI", (filters, filters, *kernel)),
        Change("ODHWI", "OIDHW", (filters, *kernel, filters)),
        Change("OIDHW", "IODHW", (filters, filters, *kernel)),
    ]


def measure(change: Change, repeats: int, frameworks: Collection[str]) -> dict[str, Any]:
    """Seconds and gigabytes a second, read and written, of each way."""
    x = np.random.default_rng(0).random(change.shape, dtype=np.float32)
    axes = permutation(change.source, change.target)
    view = x.transpose(axes)
    runs: Copies = {PLAIN: x.copy, OURS: _ours(x, change)}
    if copies.engine() != "numpy":
        runs[BASE] = lambda: _by_numpy(view)
    runs[NUMPY] = lambda: np.ascontiguousarray(view)
    runs.update(_frameworks(x, axes, frameworks))
    for name, run in runs.items():
        if name != PLAIN and not np.array_equal(np.asarray(run()), view):
            raise AssertionError(f"{name} gives other numbers")
    samples = interleaved({name: _dropped(run) for name, run in runs.items()}, repeats, [*runs])
    times = {name: median(values) for name, values in samples.items()}
    others = [name for name in times if name not in (PLAIN, OURS, BASE, NUMPY)]
    fastest = min(others, key=times.__getitem__, default=None)
    return {
        "source": change.source,
        "target": change.target,
        "shape": change.shape,
        "bytes": x.nbytes,
        "seconds": times,
        "gigabytes_per_second": {name: 2 * x.nbytes / t / 1e9 for name, t in times.items()},
        "numpy_over_ours": ratio(samples[NUMPY], samples[OURS]),
        "fastest_framework": fastest,
        "framework_over_ours": {name: ratio(samples[name], samples[OURS]) for name in others},
        "ours_of_plain_copy": ratio(samples[PLAIN], samples[OURS])[0],
    }


def _by_numpy(view: Any) -> Any:
    out = np.empty(view.shape, view.dtype)
    copies.by_numpy(out, view)
    return out


def _ours(x: Any, change: Change) -> Callable[[], Any]:
    if "O" not in change.source:
        return lambda: convert_layout(x, change.source, change.target, contiguous=True)
    letters = {"O": "N", "I": "C"}  # weights of one group are permuted like data
    source, target = (
        "".join(letters.get(c, c) for c in name) for name in (change.source, change.target)
    )
    return lambda: convert_layout(x, source, target, contiguous=True)


def _dropped(run: Callable[[], Any]) -> Callable[[], None]:
    def call() -> None:
        run()

    return call


def _frameworks(x: Any, axes: tuple[int, ...], present: Collection[str]) -> Copies:
    """The frameworks' own ways, on arrays that they hold already."""
    found: Copies = {}
    if "torch" in present:
        import torch

        found["torch"] = torch.from_numpy(x).permute(axes).contiguous
    if "jax" in present:
        import jax

        held: Any = jax.numpy.asarray(x)
        moved: Any = jax.jit(lambda a: jax.numpy.transpose(a, axes))
        found["jax"] = lambda: moved(held).block_until_ready()
    if "tensorflow" in present:
        import tensorflow as tf

        tensor = tf.constant(x)
        found["tensorflow"] = lambda: tf.transpose(tensor, axes)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m convspec_benchmarks.layouts")
    parser.add_argument("--megabytes", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--channels", type=int, nargs="+", default=[3, 16, 64])
    parser.add_argument(
        "--changes", nargs="+", metavar="FROM:TO", help="only these, as in NCDHW:NDHWC (all)"
    )
    parser.add_argument("--repeats", type=int, default=5, help="samples of each way, at least 3")
    parser.add_argument(
        "--frameworks",
        nargs="*",
        default=dispatch.installed(),
        metavar="NAME",
        help="beside NumPy; each holds a copy of the array (all that are installed)",
    )
    parser.add_argument("--json", metavar="FILE")
    parsed = parser.parse_args()
    cases = [
        change
        for size in parsed.megabytes
        for i, channels in enumerate(parsed.channels)
        for change in changes(size, channels)
        if i == 0 or "C" in change.source
        if parsed.changes is None or f"{change.source}:{change.target}" in parsed.changes
    ]
    report = Report({**about_the_machine(), "copies_by": copies.engine()})
    with progress(len(cases), remaining=True) as step:
        for change in cases:
            step(f"{change.source} to {change.target}")
            report.rows.append(measure(change, parsed.repeats, parsed.frameworks))
            if parsed.json:
                report.save(Path(parsed.json))
    names = list(report.rows[0]["seconds"])
    columns = [Column("change"), Column("shape"), Column("MB", number=True)]
    columns += [Column(name, number=True) for name in names]
    columns += [Column("numpy/ours", number=True), Column("interval", number=True)]
    columns += [Column("fastest/ours", number=True), Column("of a copy", number=True)]
    show(columns, [Row(_cells(row, names)) for row in report.rows])
    by = copies.engine()
    print(f"\nGB/s, read and written; every result is a fresh array. {OURS} copies by {by}.")
    print("fastest: of the frameworks; of a copy: how much of a plain copy's rate ours has.")


def _cells(row: dict[str, Any], names: list[str]) -> tuple[str, ...]:
    middle, low, high = row["numpy_over_ours"]
    framework = row["fastest_framework"]
    return (
        f"{row['source']} to {row['target']}",
        "x".join(map(str, row["shape"])),
        f"{row['bytes'] / 1e6:.0f}",
        *(f"{row['gigabytes_per_second'][name]:.1f}" for name in names),
        f"{middle:.2f}",
        f"{low:.2f} to {high:.2f}",
        f"{row['framework_over_ours'][row['fastest_framework']][0]:.2f}" if framework else "",
        f"{row['ours_of_plain_copy']:.2f}",
    )


if __name__ == "__main__":
    for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
        os.environ.pop(name, None)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    main()
