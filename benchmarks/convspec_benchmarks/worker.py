"""Measures one framework, in a process of its own: jobs in, one JSON line a result out.

    python -m convspec_benchmarks.worker '{"framework": "torch", ...}'

It is started by :mod:`convspec_benchmarks.running`, which says what the job is.
"""

from __future__ import annotations

import json
import sys
import zlib
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import numpy as np

from convspec import ConvSpec
from convspec.conventions import CONVENTIONS
from convspec.tables import one_line

from .frameworks import framework
from .frameworks.base import Framework, problem_of
from .timing import interleaved, ratio
from .workloads import LAYOUTS, WORKLOADS, Workload, of_spec

MATMUL = 1024


def measure(
    engine: Framework, work: Workload, layout: str, passes: str, ways: list[str], repeats: int
) -> list[dict[str, Any]]:
    """One row for each way of running our call; every candidate is timed in the same turns.

    The baseline is the fastest of the framework's own calls, however they are run.
    """
    gradients = passes == "gradients"
    convention = engine.name if engine.name in CONVENTIONS else "torch"
    spec, shape = work.in_layout(layout, convention)
    problem = problem_of(spec, shape)
    rng = np.random.default_rng(zlib.crc32(work.name.encode()))
    # Small integers: all sums are exact, so that results are compared with tolerance zero.
    x, w, c = (
        engine.array(rng.integers(-2, 3, s).astype("float32"))
        for s in (shape, spec.weight_shape, spec.output_shape(shape))
    )
    arrays = (x, w, c) if gradients else (x, w)
    runs: dict[str, Callable[[], Any]] = {}
    ours = []
    for name, function in engine.ways(spec, gradients=gradients).items():
        if name in ways:
            ours.append(f"convspec, {name}")
            runs[ours[-1]] = partial(function, *arrays)
    raw = []
    for name, (function, weight) in engine.raw(spec, problem, w).items():
        for how, run in engine.raw_ways(function, gradients=gradients).items():
            raw.append(f"{name}, {how}")
            runs[raw[-1]] = partial(run, x, weight, *arrays[2:])
    failed: dict[str, str] = {}
    expected = None
    for name, run in list(runs.items()):
        try:
            result = run()
            engine.wait(result)
            numbers = [_numbers(engine, part) for part in (result if gradients else (result,))]
        except Exception as error:  # a call that the framework lacks is no baseline
            if name in ours:
                raise
            failed[name] = one_line(error)[:200]
            del runs[name]
            continue
        if expected is None:
            expected = numbers
        elif not all(map(np.array_equal, numbers, expected)):
            failed[name] = "gives other numbers"
            del runs[name]

    def timed(run: Callable[[], Any]) -> Callable[[], None]:
        return lambda: engine.wait(run())

    samples = interleaved({name: timed(run) for name, run in runs.items()}, repeats, ours)
    times = {name: median(values) for name, values in samples.items()}
    whole = {name: t for name, t in times.items() if name in raw and len(samples[name]) >= repeats}
    best = min(whole, key=lambda name: whole[name]) if whole else None
    flops = work.spec.flops(tuple(work.sizes[letter] for letter in work.spec.layout))
    flops *= 3 if gradients else 1  # forward, and the gradients of x and of the weight
    rows = []
    for name in ours:
        row: dict[str, Any] = {
            "framework": engine.name,
            "workload": work.name,
            "layout": layout,
            "passes": passes,
            "way": name.removeprefix("convspec, "),
            "path": _path(spec, engine, shape),
            "seconds": times[name],
            "gflops": flops / times[name] / 1e9,
            "samples": len(samples[name]),
            "baseline": best,
            "candidates": {n: times[n] for n in raw if n in times},
            "failed": failed,
        }
        if best is not None:
            middle, low, high = ratio(samples[best], samples[name])
            row |= {"baseline_seconds": times[best], "ratio": middle, "interval": [low, high]}
        rows.append(row)
    return rows


def _path(spec: ConvSpec, engine: Framework, shape: tuple[int, ...]) -> str:
    support = spec.supports(engine.backend, shape)
    return f"{support.path}: {support.reason}" if support.reason else support.path


def _numbers(engine: Framework, result: Any) -> np.ndarray[Any, Any]:
    return np.array(
        engine.backend.to_numpy(result.detach() if hasattr(result, "detach") else result)
    )


def matmul_rate(engine: Framework) -> float:
    """GFLOP/s of the framework's own product of two square float32 matrices."""
    rng = np.random.default_rng(0)
    a, b = (engine.array(rng.standard_normal((MATMUL, MATMUL)).astype("float32")) for _ in "ab")
    try:
        engine.wait(engine.matmul(a, b))
        times = interleaved({"": lambda: engine.wait(engine.matmul(a, b))}, 7)[""]
    except TypeError:  # a backend whose arrays have no @
        return 0.0
    return float(2 * MATMUL**3 / median(times) / 1e9)


def main(job: dict[str, Any]) -> None:
    """Print what has been measured, a JSON object a line."""

    def tell(**message: Any) -> None:
        print(json.dumps(message), file=out, flush=True)

    out, sys.stdout = sys.stdout, sys.stderr  # whatever a framework prints is no result
    engine = framework(job["framework"])
    tell(
        machine={
            "framework": engine.name,
            "version": engine.version(),
            "threads": engine.threads(),
            "matmul_gflops": matmul_rate(engine),
        }
    )
    works = [WORKLOADS[name] for name in job["workloads"]]
    if job["spec"] is not None:
        works = [of_spec("spec", ConvSpec.from_dict(job["spec"]), tuple(job["input_shape"]))]
    for work in works:
        for layout in (name for name in LAYOUTS if name in job["layouts"]):
            for passes in job["passes"]:
                if passes == "gradients" and not engine.differentiates:
                    continue
                about = f"{engine.name} {work.name} {layout} {passes}"
                tell(start=about)
                try:
                    rows = measure(engine, work, layout, passes, job["ways"], job["repeats"])
                except Exception as error:  # told, and the rest still measured
                    tell(error=f"{about}: {one_line(error)}")
                    continue
                for row in rows:
                    tell(row=row)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
