"""NumPy's convolution beside torch's, and beside SciPy's of what SciPy can express.

    python -m convspec_benchmarks.numpy_engine --workload ct5 depthwise --json result.json

All are timed in turns in one process and give the same numbers. SciPy has no channels, batches,
strides or dilation: ``scipy.signal.correlate`` is called once for each sample and output channel
with the channels as an axis, directly or by FFT as SciPy sees fit; ``scipy.ndimage.correlate`` once
for each channel where depthwise or where there is but one.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from convspec import ConvSpec
from convspec.tables import Column, Row, progress, show

from .running import Report, about_the_machine
from .timing import geometric_mean, interleaved, ratio
from .workloads import LAYOUTS, WORKLOADS

Run = Callable[[], Any]

#: So many times our time, and SciPy is called once.
FAR_SLOWER = 20


def measure(name: str, layout: str, repeats: int) -> dict[str, Any]:
    """Seconds of each engine, and the median of each one's time over ours, with its interval."""
    import torch

    work = WORKLOADS[name]
    spec, shape = work.in_layout(layout, "torch")
    rng = np.random.default_rng(0)
    x, w = (rng.integers(-2, 3, s).astype("float32") for s in (shape, spec.weight_shape))
    tensors = torch.from_numpy(x), torch.from_numpy(w)

    def inferred() -> Any:
        with torch.inference_mode():
            return spec(*tensors)

    runs: dict[str, Run] = {"numpy": lambda: spec(x, w), "torch": inferred}
    if layout == "channels_first":
        runs.update(scipy_calls(spec, x, w))
    expected = runs["numpy"]()
    first: dict[str, float] = {}
    for engine, run in runs.items():
        start = perf_counter()
        y = run()
        first[engine] = perf_counter() - start
        if not np.array_equal(np.asarray(y), expected):
            raise AssertionError(f"{name}: {engine} gives other numbers")
    # SciPy takes minutes for some: one call says enough.
    slow = [engine for engine in runs if first[engine] > FAR_SLOWER * first["numpy"]]
    slow = [engine for engine in slow if engine.startswith("scipy")]
    samples = interleaved({e: runs[e] for e in runs if e not in slow}, repeats, ["numpy", "torch"])
    samples.update((engine, [first[engine]]) for engine in slow)
    return {
        "workload": name,
        "layout": layout,
        "seconds": {engine: median(values) for engine, values in samples.items()},
        "over_numpy": {
            engine: ratio(values, samples["numpy"][: len(values)])
            for engine, values in samples.items()
            if engine != "numpy"
        },
    }


def scipy_calls(spec: ConvSpec, x: Any, w: Any) -> dict[str, Run]:
    """SciPy's calls of a forward spec without stride or dilation, in torch's orders."""
    if spec.transposed or {*spec.stride, *spec.dilation} != {1} or spec.padding_mode != "zeros":
        return {}
    pairs: Any = spec.padding
    if isinstance(pairs, str) or any(lo != hi for lo, hi in pairs):
        return {}
    try:
        from scipy import ndimage, signal
    except ImportError:
        return {}
    same = all(2 * lo == k - 1 for (lo, _), k in zip(pairs, spec.kernel_size, strict=True))
    found: dict[str, Run] = {}
    if spec.groups == 1:

        def correlated() -> Any:
            wide = np.pad(x, ((0, 0), (0, 0), *pairs))
            rows = [[signal.correlate(a, kernel, "valid")[0] for kernel in w] for a in wide]
            return np.rint(rows)  # of integers: by FFT they are not whole

        found["scipy.signal"] = correlated
    if same and 1 in (spec.in_channels, w.shape[1]) and spec.groups == spec.in_channels:
        each = spec.out_channels // spec.groups

        def filtered() -> Any:
            y = np.empty((len(x), spec.out_channels, *x.shape[2:]), x.dtype)
            for n, o in np.ndindex(y.shape[:2]):
                ndimage.correlate(x[n, o // each], w[o, 0], y[n, o], mode="constant")
            return y

        found["scipy.ndimage"] = filtered
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m convspec_benchmarks.numpy_engine")
    parser.add_argument("--workload", nargs="+", choices=list(WORKLOADS), default=list(WORKLOADS))
    parser.add_argument("--layout", choices=LAYOUTS, nargs="+", default=list(LAYOUTS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", metavar="FILE")
    parsed = parser.parse_args()
    report = Report(about_the_machine())
    with progress(len(parsed.workload) * len(parsed.layout), remaining=True) as step:
        for name in parsed.workload:
            for layout in parsed.layout:
                step(f"{name} {layout}")
                report.rows.append(measure(name, layout, parsed.repeats))
    engines = list(dict.fromkeys(e for row in report.rows for e in row["seconds"]))
    columns = [Column("workload"), Column("layout")]
    columns += [Column(f"{engine} ms", number=True) for engine in engines]
    columns.append(Column("numpy/torch", number=True))
    rows = []
    for row in report.rows:
        times = (row["seconds"].get(engine) for engine in engines)
        cells = ("" if t is None else f"{t * 1e3:.3g}" for t in times)
        slower = f"{1 / row['over_numpy']['torch'][0]:.2f}"
        rows.append(Row((row["workload"], row["layout"], *cells, slower)))
    show(columns, rows)
    mean = geometric_mean([1 / row["over_numpy"]["torch"][0] for row in report.rows])
    print(f"\nNumPy takes {mean:.2f} times torch's time (geometric mean)")
    if parsed.json:
        report.save(Path(parsed.json))


if __name__ == "__main__":
    told = [os.environ.pop(name, None) for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")]
    if any(told):  # they were read when NumPy was loaded: start anew
        words = ["-m", "convspec_benchmarks.numpy_engine", *sys.argv[1:]]
        os.execv(sys.executable, [sys.executable, *words])
    main()
