"""Measures one framework, in a process of its own: jobs in, one JSON line a result out.

    python -m convspec_benchmarks.worker '{"framework": "torch", ...}'

It is started by :mod:`convspec_benchmarks.running`, which says what the job is.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from statistics import median
from typing import Any

import numpy as np

from convspec import ConvSpec
from convspec.conventions import CONVENTIONS
from convspec.tables import one_line

from .frameworks import framework
from .frameworks.base import ANY_BATCH, Framework, problem_of
from .timing import interleaved, ratio
from .workloads import LAYOUTS, WORKLOADS, Workload, of_spec

MATMUL = 1024


def measure(
    engine: Framework, work: Workload, layout: str, passes: str, ways: list[str], repeats: int
) -> list[dict[str, Any]]:
    """One row for each way of running our call; every candidate is timed in the same turns.

    The baseline is the fastest of the framework's own calls, however they are run; ``alike`` is the
    fastest of those that are run in the same way, eager or compiled.
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
    ours: dict[str, list[str]] = {}  # by the way of running it; the fastest of them counts
    for how, function in engine.ways(spec, gradients=gradients).items():
        way = how.partition(",")[0]
        for order, weight in engine.weights(spec, w).items() if way in ways else ():
            name = ", ".join(filter(None, ("convspec", how, order)))
            ours.setdefault(way, []).append(name)
            runs[name] = partial(function, x, weight, *arrays[2:])
    raw: dict[str, str] = {}  # and how each is run
    beside: dict[str, str] = {}
    for found, calls in (
        (raw, engine.raw(spec, problem, w)),
        (beside, engine.beside(spec, problem, w)),
    ):
        for name, (function, weight) in calls.items():
            for how, run in engine.raw_ways(function, gradients=gradients).items():
                if how in ("compiled", ANY_BATCH) and how not in ways:
                    continue  # by torch.compile, which takes longer than all else
                found[f"{name}, {how}"] = how
                runs[f"{name}, {how}"] = partial(run, x, weight, *arrays[2:])
    keep = [name for names in ours.values() for name in names]
    failed = _checked(engine, runs, keep, gradients=gradients, kernel_differs=[*beside])

    def timed(run: Callable[[], Any]) -> Callable[[], None]:
        return lambda: engine.wait(run())

    samples = interleaved({name: timed(run) for name, run in runs.items()}, repeats, keep)
    times = {name: median(values) for name, values in samples.items()}
    whole = [name for name in raw if len(samples.get(name, ())) >= repeats]
    best = _fastest(whole, times)
    other = _fastest([*beside], times)
    flops = work.spec.flops(tuple(work.sizes[letter] for letter in work.spec.layout))
    flops *= 3 if gradients else 1  # forward, and the gradients of x and of the weight
    rows = []
    for way, names in ours.items():
        name = min(names, key=times.__getitem__)
        alike = _fastest([n for n in whole if _way(raw[n]) == way], times)
        row: dict[str, Any] = {
            "framework": engine.name,
            "workload": work.name,
            "layout": layout,
            "passes": passes,
            "way": way,
            "call": name,
            "path": _path(spec, engine, shape),
            "seconds": times[name],
            "gflops": flops / times[name] / 1e9,
            "samples": len(samples[name]),
            "baseline": best,
            "alike": alike,
            "keras": other,
            "candidates": {n: times[n] for n in (*keep, *raw, *beside) if n in times},
            "failed": failed,
            # What others were doing: ratios bear it, times do not.
            "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        }
        if best is not None:
            middle, low, high = ratio(samples[best], samples[name])
            row |= {"baseline_seconds": times[best], "ratio": middle, "interval": [low, high]}
        if alike is not None:
            middle, low, high = ratio(samples[alike], samples[name])
            row |= {"alike_ratio": middle, "alike_interval": [low, high]}
        rows.append(row)
    return rows


def _checked(
    engine: Framework,
    runs: dict[str, Callable[[], Any]],
    keep: Sequence[str],
    *,
    gradients: bool,
    kernel_differs: Sequence[str],
) -> dict[str, str]:
    """Call each once and take away what fails or gives other numbers than the first.

    Returns:
        What was taken away, and why.

    Args:
        keep: those that must not fail.
        kernel_differs: those whose gradient of the kernel comes in another order.
    """
    failed, expected = {}, None
    for name, run in list(runs.items()):
        try:
            result = run()
            engine.wait(result)
            numbers = [_numbers(engine, part) for part in (result if gradients else (result,))]
        except Exception as error:  # a call that the framework lacks is no baseline
            if name in keep:
                raise
            failed[name] = one_line(error)[:200]
            del runs[name]
            continue
        if gradients and name in kernel_differs:
            numbers[1] = np.sort(numbers[1], axis=None)
        if expected is None:
            expected = numbers
        wanted = list(expected)
        if gradients and name in kernel_differs:
            wanted[1] = np.sort(wanted[1], axis=None)
        if not all(map(np.array_equal, numbers, wanted)):
            failed[name] = "gives other numbers"
            del runs[name]
    return failed


def _way(how: str) -> str:
    """Which of our ways a raw call is run in: whatever compiles it, it is compiled."""
    return how if how in ("eager", ANY_BATCH) else "compiled"


def _fastest(names: Sequence[str], times: Mapping[str, float]) -> str | None:
    return min((name for name in names if name in times), key=times.__getitem__, default=None)


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
    rate = matmul_rate(engine)
    tell(
        machine={
            "framework": engine.name,
            "version": engine.version(),
            "threads": engine.threads(),
            "matmul_gflops": rate,
        }
    )
    left = 0
    works = [WORKLOADS[name] for name in job["workloads"]]
    if job["spec"] is not None:
        works = [of_spec("spec", ConvSpec.from_dict(job["spec"]), tuple(job["input_shape"]))]
    for work in works:
        for layout in (name for name in LAYOUTS if name in job["layouts"]):
            for passes in job["passes"]:
                if passes == "gradients" and not engine.differentiates:
                    continue
                if [engine.name, work.name, layout, passes] in job["done"]:
                    continue
                if time.time() > (job["deadline"] or math.inf):
                    left += 1
                    continue
                about = f"{engine.name} {work.name} {layout} {passes}"
                tell(start=about)
                try:
                    rows = measure(engine, work, layout, passes, job["ways"], job["repeats"])
                except Exception as error:  # told, and the rest still measured
                    tell(error=f"{about}: {one_line(error)}")
                    continue
                for row in rows:
                    tell(row={**row, "matmul_gflops": rate})
    tell(left=left)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
