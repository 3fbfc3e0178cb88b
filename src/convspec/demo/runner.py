"""Every example on every framework, held to the reference."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod
from statistics import median
from typing import Any

import numpy as np

from .. import dispatch, moving
from ..backend import Backend
from ..conventions import CONVENTIONS
from ..reference import reference
from ..spec import ConvSpec
from ..tables import Column, Row, one_line, quiet, show
from .filters import Example

Step = Callable[[str], None]

#: A call is repeated this often, or until as many seconds have gone.
REPEATS, SECONDS = 5, 1.0

COLUMNS = (
    Column("example", wrap=True),
    Column("backend"),
    Column("layout"),
    Column("weight"),
    Column("input", True),
    Column("output", True),
    Column("max diff", True),
    Column("bound", True),
    Column("ms", True),
    Column("", wrap=True),
)


@dataclass
class Result:
    """One example on one backend.

    Attributes:
        spec: the convolution in the backend's own orders.
        output: the result as a NumPy array, in the example's ``output_layout``.
        difference: largest difference against what is expected.
        bad: whether a difference exceeds its bound, or is not a number.
        device: kind of device that it was computed on.
        milliseconds: median time of a call.
        trouble: why there is no output; empty if there is one.
    """

    backend: str
    spec: ConvSpec
    output: Any = None
    difference: float = 0.0
    bad: bool = False
    device: str = ""
    milliseconds: float = 0.0
    trouble: str = ""


@dataclass
class Outcome:
    """One example on all backends, with what the reference says and how far off one may be."""

    example: Example
    wanted: np.ndarray[Any, Any]
    bound: np.ndarray[Any, Any]
    results: list[Result] = field(default_factory=list)

    @property
    def bad(self) -> bool:
        return any(result.bad for result in self.results)


def load(names: Sequence[str], step: Step) -> tuple[list[Backend], dict[str, str]]:
    """The backends with these names, and why the others cannot be loaded."""
    engines, failures = [], {}
    for name in dict.fromkeys(names):
        step(f"loading {name}")
        try:
            with quiet():
                engines.append(dispatch.get_backend(name))
        except Exception as error:  # whatever a broken installation raises
            failures[name] = one_line(error)
    return engines, failures


def run(example: Example, engines: Sequence[Backend], step: Step) -> Outcome:
    """One example on each backend; what fails is told in its result."""
    step(f"{example.name}: reference")
    outcome = Outcome(
        example,
        reference(example.spec, example.x, example.weight),
        error_bound(example),
    )
    for engine in engines:
        step(f"{example.name}: {engine.name}")
        result = Result(engine.name, _own_orders(example.spec, engine.name))
        try:
            _compute(example, engine, result)
            _compare(outcome, result)
        except Exception as error:  # told in the table; the other backends go on
            result.trouble, result.bad = one_line(error), True
        outcome.results.append(result)
    return outcome


def _own_orders(spec: ConvSpec, name: str) -> ConvSpec:
    """The spec as a framework likes it; as it is where there is no convention of that name."""
    return spec.in_convention(name) if name in CONVENTIONS else spec


def _compute(example: Example, engine: Backend, result: Result) -> None:
    """Convert, hand over, call, hand back, and convert back."""
    source, spec = example.spec, result.spec
    x = moving.convert_layout(example.x, source.layout, spec.layout)
    weight = source.convert_weight(example.weight, to=spec)
    x, weight = (moving.to_framework(array, engine.name) for array in (x, weight))
    result.device = engine.describe(x)[2]

    def call() -> Any:
        # A result is there once NumPy can read it: some frameworks return before it is.
        return moving.to_framework(spec(x, weight), "numpy")

    y = call()  # kernels are found and compiled in the first call
    times: list[float] = []
    while len(times) < REPEATS and sum(times) < SECONDS:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    result.milliseconds = 1000 * median(times)
    result.output = moving.convert_layout(y, spec.output_layout, source.output_layout)


def error_bound(example: Example) -> np.ndarray[Any, Any]:
    """How far a float32 result may be from the reference, for each output element.

    A sum of n rounded products, added in any order, with or without fused multiply-adds, is off
    by at most n*u/(1 - n*u) times the sum of their absolute values, u = 2**-24 (Higham, Accuracy
    and Stability of Numerical Algorithms, 2002, section 3.1). The reference rounds once more, at
    the end, which is one u; another one is more than what 1 - n*u leaves out, n being below a
    few thousand: (n + 2) * u * (|x| conv |w|). Padding costs nothing, as it only repeats values.
    Where numbers below the smallest normal one are taken for zero, each of the n terms loses at
    most that number, or its product with a weight.

    Where every number is a small integer, sums are exact, and so is the result: the bound is 0.
    """
    spec = example.spec
    if example.expected is not None:
        return np.zeros(example.expected.shape)
    n = prod(spec.kernel_size) * spec.in_channels // spec.groups
    magnitude = reference(
        spec, np.abs(example.x).astype(np.float64), np.abs(example.weight).astype(np.float64)
    )
    smallest = float(np.finfo(np.float32).tiny)
    lost = n * smallest * (1 + float(np.abs(example.weight).max()))
    return np.asarray((n + 2) * 2.0**-24 * magnitude + lost)


def _compare(outcome: Outcome, result: Result) -> None:
    """Hold a result to the reference, and to the numbers done by hand where there are some."""
    wanted = [outcome.wanted]
    if outcome.example.expected is not None:
        wanted.append(outcome.example.expected)
    for right in wanted:
        if result.output.shape != right.shape:
            raise ValueError(f"shape {result.output.shape} instead of {right.shape}")
        difference = np.abs(result.output.astype(np.float64) - right)
        result.difference = max(result.difference, float(difference.max()))
        # Asked this way round, NaN is bad.
        result.bad |= not bool((difference <= outcome.bound).all())


def report(outcomes: Sequence[Outcome], failures: dict[str, str]) -> None:
    """Print the table of all results."""
    rows = []
    for outcome in outcomes:
        bound = "exact" if outcome.example.expected is not None else f"{outcome.bound.max():.1e}"
        for i, result in enumerate(outcome.results):
            spec = result.spec
            shapes = _shapes(outcome, spec)
            orders = (outcome.example.name, result.backend, spec.layout, spec.weight_layout)
            if result.trouble:
                measured = ("", bound, "", f"FAILED: {result.trouble}")
            else:
                verdict = _verdict(result)
                off = f"{result.difference:.1e}" if result.difference else "0"
                measured = (off, bound, _time(result.milliseconds), verdict)
            style = "bad" if result.bad else ""
            rows.append(Row((*orders, *shapes, *measured), style, first=i == 0))
    for i, (name, reason) in enumerate(failures.items()):
        rows.append(Row(("", name, *[""] * 7, f"NOT LOADED: {reason}"), "bad", first=i == 0))
    show(
        COLUMNS,
        rows,
        "Largest difference from convspec.reference, and the bound on rounding errors",
    )


def _verdict(result: Result) -> str:
    if not result.bad:
        return "ok"
    # The bound is that of float32, which some accelerators do not keep to by default.
    why = "" if result.device == "cpu" else f" (does {result.device} compute in TF32?)"
    return f"ABOVE ITS BOUND{why}"


def _time(milliseconds: float) -> str:
    return f"{milliseconds:.2f}" if milliseconds < 100 else f"{milliseconds:.0f}"


def _shapes(outcome: Outcome, spec: ConvSpec) -> tuple[str, str]:
    """Input and output shape in a framework's own orders."""
    source = outcome.example.spec
    sizes = dict(zip(source.layout, outcome.example.x.shape, strict=True))
    shape = [sizes[letter] for letter in spec.layout]
    return ("x".join(map(str, shape)), "x".join(map(str, spec.output_shape(shape))))
