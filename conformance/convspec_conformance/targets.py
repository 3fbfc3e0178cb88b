"""What is tested: anything that computes a spec on NumPy arrays and says what it claims."""

from __future__ import annotations

import importlib
from typing import Any, Protocol

import numpy as np

from convspec import Backend, ConvSpec, ConvSpecError, Support, get_backend
from convspec.backend import Environment
from convspec.problem import resolve

from .cases import Case
from .catalogue import describe

Array = np.ndarray[Any, Any]


class Target(Protocol):
    """An engine under test.

    Two attributes may be left out: ``version``, of the framework; and ``typed_refusals``, by
    default true: every wrong call is refused by the error of convspec that says what is wrong.
    Where it is false, ``claims`` says which wrong calls are refused, and any exception will do.
    """

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
    """A convspec backend, through the spec's own call.

    A mode of a framework (compiled, in another memory format) is a subclass that says how arrays
    are handed over, or how the spec is called.
    """

    def __init__(self, backend: Backend, name: str | None = None) -> None:
        self.backend = backend
        self.name = backend.name if name is None else name

    def given(self, array: Array) -> Any:
        """A NumPy array as the framework's own."""
        return self.backend.from_foreign(array)

    def call(self, spec: ConvSpec, *arrays: Any, **options: Any) -> Any:
        """The spec on the framework's arrays."""
        return spec(*arrays, backend=self.backend, **options)

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
        arrays = [None if a is None else self.given(a) for a in (x, w, b)]
        y = self.call(spec, *arrays, output_size=output_size, out_dtype=out_dtype)
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
    """The target called ``name``: see :mod:`convspec_conformance.catalogue`.

    The object of ``package.module:object`` may be a backend, a target, or a function of no
    arguments that gives one.

    Raises:
        BackendNotFoundError: there is no such backend.
        ConvSpecError: the module has no such object, or it is neither; the framework was imported
            before under other settings.
    """
    description = describe(name)
    description.prepare()
    if not description.source:
        return BackendTarget(get_backend(name))
    module, _, attribute = description.source.partition(":")
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
    if name != description.source:
        target.name = name
    return target
