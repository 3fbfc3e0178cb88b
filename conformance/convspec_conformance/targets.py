"""What is tested: anything that computes a spec on NumPy arrays and says what it claims."""

from __future__ import annotations

import importlib
from typing import Any, Protocol

import numpy as np

from convspec import Backend, ConvSpec, ConvSpecError, Support, get_backend
from convspec.backend import Environment
from convspec.problem import resolve

from .cases import Case

Array = np.ndarray[Any, Any]


class Target(Protocol):
    """An engine under test."""

    name: str

    def run(
        self,
        spec: ConvSpec,
        x: Array,
        w: Array,
        b: Array | None,
        *,
        output_size: Any = None,
        out_dtype: str | None = None,
    ) -> Array:
        """What the engine computes for these arrays, as a NumPy array."""

    def claims(self, case: Case) -> Support:
        """Whether the engine says that it computes the case."""


class BackendTarget:
    """A convspec backend, through the spec's own call."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.name = backend.name

    def run(
        self,
        spec: ConvSpec,
        x: Array,
        w: Array,
        b: Array | None,
        *,
        output_size: Any = None,
        out_dtype: str | None = None,
    ) -> Array:
        arrays = [None if a is None else self.backend.from_foreign(a) for a in (x, w, b)]
        y = spec(*arrays, output_size=output_size, out_dtype=out_dtype, backend=self.backend)
        result: Array = self.backend.to_numpy(y)
        return result

    def claims(self, case: Case) -> Support:
        try:
            problem = resolve(case.spec, case.input_shape, case.output_size)
        except ConvSpecError as error:
            return Support(False, "none", str(error))
        env = Environment(
            dtype=case.dtype, out_dtype=case.out_dtype or case.dtype, bias=case.spec.bias
        )
        return self.backend.supports(problem, env)


def load(name: str) -> Target:
    """The target called ``name``: a backend's name, or ``package.module:object``.

    The object may be a backend, a target, or a function of no arguments that gives one.

    Raises:
        BackendNotFoundError: there is no such backend.
        ConvSpecError: the module has no such object, or it is neither.
    """
    if ":" not in name:
        return BackendTarget(get_backend(name))
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConvSpecError(f"backend: {name!r} could not be loaded: {error}.") from error
    if not isinstance(found, Backend) and not hasattr(found, "run") and callable(found):
        found = found()
    if isinstance(found, Backend):
        return BackendTarget(found)
    if not all(hasattr(found, part) for part in ("name", "run", "claims")):
        raise ConvSpecError(
            f"backend: {name!r} is neither a convspec.Backend nor a target with name, run, claims."
        )
    target: Target = found
    return target
