"""What the benchmark asks of a framework; by itself, what any backend of convspec can do."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np

from convspec import ConvSpec, dispatch
from convspec.problem import Problem, resolve

Arrays = tuple[Any, ...]
#: Of (x, weight), or with gradients of (x, weight, cotangent).
Function = Callable[..., Any]

#: On request alone: programs that are compiled for any number of samples.
ANY_BATCH = "any batch"


class Framework:
    """A framework's arrays, its own calls, and how it differentiates, compiles and waits.

    Args:
        name: of convspec's backend.
    """

    #: Whether it has gradients to time.
    differentiates = False

    def __init__(self, name: str) -> None:
        self.name = name
        self.backend = dispatch.get_backend(name)

    def array(self, values: np.ndarray[Any, Any]) -> Any:
        return self.backend.from_foreign(values)

    def wait(self, result: Any) -> None:
        """Return once ``result`` has been computed; lazy arrays are when their numbers are read."""
        self.backend.to_numpy(result)

    def threads(self) -> int:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1

    def version(self) -> str:
        return self.backend.capabilities.version

    def matmul(self, a: Any, b: Any) -> Any:
        return a @ b

    def raw(self, spec: ConvSpec, problem: Problem, weight: Any) -> dict[str, tuple[Function, Any]]:
        """The framework's own calls of (x, weight), and the weight as each likes it best."""
        return {}

    def weights(self, spec: ConvSpec, weight: Any) -> dict[str, Any]:
        """The weight in each order in memory that its user may choose, by name; as it is: ``""``.

        Our call may choose among them as the framework's own may.
        """
        return {"": weight}

    def beside(
        self, spec: ConvSpec, problem: Problem, weight: Any
    ) -> dict[str, tuple[Function, Any]]:
        """Keras's call and its kernel: shown beside the others, but no baseline.

        Keras has one backend a process: it has to be this framework.
        """
        if os.environ.get("KERAS_BACKEND") != self.name or find_spec("keras") is None:
            return {}
        from .keras_calls import calls

        return calls(self, spec, problem, weight)

    def ways(self, function: Function, *, gradients: bool) -> dict[str, Function]:
        """How a user may run a function of (x, weight).

        ``"eager"``, ``"compiled"``, or compiled for ``"any batch"``.
        Of several that begin alike, such as ``"compiled, XLA"``, the fastest counts. With
        ``gradients``, as functions of (x, weight, cotangent) that give both gradients and the
        output, which a compiler would leave out otherwise.
        """
        return {"eager": function}

    def raw_ways(self, function: Function, *, gradients: bool) -> dict[str, Function]:
        """The same for the framework's own calls."""
        return self.ways(function, gradients=gradients)


def problem_of(spec: ConvSpec, shape: tuple[int, ...]) -> Problem:
    """Explicit amounts of padding, which is what users compute by hand."""
    found: Problem = resolve(spec, shape, None)
    return found


def amounts(spec: ConvSpec, problem: Problem) -> list[tuple[int, int]]:
    """(lo, hi) for each axis of the data."""
    pairs = dict(zip(problem.spatial, problem.padding, strict=True))
    return [pairs.get(letter, (0, 0)) for letter in spec.layout]


def says_same(spec: ConvSpec, problem: Problem) -> bool:
    """Whether the word ``"same"`` says all of a problem's padding."""
    if spec.padding_mode != "zeros":
        return False
    found = problem_of(spec.replace(padding="same", output_padding=0), problem.input_shape)
    return (found.padding, found.output_shape) == (problem.padding, problem.output_shape)
