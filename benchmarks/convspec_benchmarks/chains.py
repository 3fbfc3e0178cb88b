"""What a chain of convolutions pays for the order of its axes.

    python -m convspec_benchmarks.chains torch tensorflow jax --json result.json

Three 3 x 3 convolutions of 64 channels on (4, 64, 56, 56), channels first, forward. "each": every
spec has ``layout="NCHW"``. "once": the first one has ``output_layout="NHWC"`` too, the next one is
channels last, and the last one goes back. Beside them stand the framework's own calls on channels
last, for which the arrays are permuted once before and once behind. All are timed in turns, eager
and compiled.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial, reduce
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import convspec
from convspec import ConvSpec
from convspec.tables import Column, Row, show

from .frameworks import framework
from .frameworks.base import ANY_BATCH, Framework, problem_of
from .running import Report, about_the_machine
from .timing import interleaved, ratio

SHAPE, CHANNELS, LENGTH = (4, 64, 56, 56), 64, 3
#: The order of the weight's axes.
WEIGHTS = {"torch": "OIHW", "tensorflow": "HWIO", "jax": "HWIO"}
#: The order of the axes of each spec's input and output.
ORDERS = {
    "each": [("NCHW", "NCHW")] * LENGTH,
    "once": [("NCHW", "NHWC"), ("NHWC", "NHWC"), ("NHWC", "NCHW")],
}


def specs(orders: Sequence[tuple[str, str]], weight_layout: str) -> list[ConvSpec]:
    return [
        ConvSpec(
            CHANNELS,
            CHANNELS,
            3,
            padding=1,
            bias=False,
            layout=layout,
            output_layout=output,
            weight_layout=weight_layout,
        )
        for layout, output in orders
    ]


def chain(calls: Sequence[Callable[..., Any]]) -> Callable[..., Any]:
    """One call after the other, each with the same weight."""
    return lambda x, w: reduce(lambda y, call: call(y, w), calls, x)


def own(engine: Framework, weight: Any) -> Callable[..., Any]:
    """The framework's own calls on channels last, between two permutations."""
    (spec,) = specs([("NHWC", "NHWC")], WEIGHTS[engine.name])
    shape = tuple(SHAPE["NCHW".index(letter)] for letter in "NHWC")
    call, _ = next(iter(engine.raw(spec, problem_of(spec, shape), weight).values()))
    return chain(
        [partial(_moved, "NCHW", "NHWC"), *[call] * LENGTH, partial(_moved, "NHWC", "NCHW")]
    )


def _moved(source: str, target: str, x: Any, w: Any) -> Any:
    return convspec.convert_layout(x, source, target)


def measure(engine: Framework, repeats: int) -> list[dict[str, Any]]:
    """A row for each way of running each of our chains."""
    rng = np.random.default_rng(0)
    shape = specs(ORDERS["each"], WEIGHTS[engine.name])[0].weight_shape
    x, w = (engine.array(rng.integers(-1, 2, s).astype("float32")) for s in (SHAPE, shape))
    functions = {"own": own(engine, w)}
    functions |= {
        name: chain(specs(orders, WEIGHTS[engine.name])) for name, orders in ORDERS.items()
    }
    runs: dict[tuple[str, str], Callable[[], Any]] = {}
    for name, function in functions.items():
        for way, run in engine.ways(function, gradients=False).items():
            if way != ANY_BATCH:
                runs[name, way] = partial(run, x, w)
    expected = engine.backend.to_numpy(next(iter(runs.values()))())
    for run in runs.values():
        assert np.array_equal(engine.backend.to_numpy(run()), expected)

    def timed(run: Callable[[], Any]) -> Callable[[], None]:
        return lambda: engine.wait(run())

    keyed = {", ".join(key): timed(run) for key, run in runs.items()}
    samples = interleaved(keyed, repeats, list(keyed))
    rows = []
    for name, way in runs:
        if name == "own":
            continue
        ours, theirs = samples[f"{name}, {way}"], samples[f"own, {way}"]
        middle, low, high = ratio(theirs, ours)
        rows.append(
            {
                "framework": engine.name,
                "chain": name,
                "way": way,
                "seconds": median(ours),
                "own_seconds": median(theirs),
                "ratio": middle,
                "interval": [low, high],
            }
        )
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(
        prog="convspec_benchmarks.chains",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("frameworks", nargs="*", default=list(WEIGHTS))
    parser.add_argument("--repeats", type=int, default=15, help="samples of each (%(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write all that was measured")
    parsed = parser.parse_args(arguments)
    report = Report(about_the_machine())
    for name in parsed.frameworks:
        report.rows += measure(framework(name), parsed.repeats)
        if parsed.json:
            report.save(Path(parsed.json))
    columns = [Column("framework"), Column("chain"), Column("way")]
    columns += [Column(text, number=True) for text in ("ms", "own ms", "own/ours")]
    rows = [
        Row(
            (
                row["framework"],
                row["chain"],
                row["way"],
                f"{row['seconds'] * 1e3:.1f}",
                f"{row['own_seconds'] * 1e3:.1f}",
                f"{row['ratio']:.2f}",
                "{:.2f} to {:.2f}".format(*row["interval"]),
            )
        )
        for row in report.rows
    ]
    show([*columns, Column("interval")], rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
