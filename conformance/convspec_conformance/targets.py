"""What is tested: anything that computes a spec on NumPy arrays and says what it claims."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Hashable
from typing import Any, Protocol

import numpy as np

from convspec import Backend, ConvSpec, ConvSpecError, Support, UnsupportedError, get_backend
from convspec.backend import Environment
from convspec.problem import resolve

from .cases import GRADIENTS, Case
from .catalogue import describe

Array = np.ndarray[Any, Any]


class Target(Protocol):
    """An engine under test.

    Two attributes may be left out: ``version``, of the framework; and ``typed_refusals``, by
    default true: every wrong call is refused by the error of convspec that says what is wrong.
    Where it is false, ``claims`` says which wrong calls are refused, and any exception will do.

    One whose own arrays may share memory with NumPy's can have ``twice``, as
    :meth:`BackendTarget.twice`: a change in place must show in the next result.

    One that differentiates has the methods of :class:`Differentiable` too, or the first of them.
    It may have ``gradients_apart`` as well, as :meth:`BackendTarget.gradients_apart`: of each array
    while the others are constants, and the result while gradients are recorded.
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


class Differentiable(Target, Protocol):
    """A target with gradients, as :mod:`convspec_conformance.gradients` defines them.

    ``claims`` is asked of cases whose judge is ``gradient`` or ``gradient2`` too.
    """

    def gradients(
        self,
        spec: ConvSpec,
        x: Array,
        w: Array,
        b: Array | None,
        g: Array,
        *,
        output_size: Any = None,
        out_dtype: str | None = None,
    ) -> tuple[Array, ...]:
        """The gradients of ``<g, y>`` by input, weight and, unless it is None, bias."""

    def second_gradients(
        self,
        spec: ConvSpec,
        x: Array,
        w: Array,
        g: Array,
        u: Array,
        v: Array,
        *,
        output_size: Any = None,
        out_dtype: str | None = None,
    ) -> tuple[Array, ...]:
        """Those of ``<u, dx>`` by w and g, and of ``<v, dw>`` by x and g; there is no bias."""


class NotGivenError(UnsupportedError):
    """A framework has no array of this type, so that nothing can be asked of it."""


class BackendTarget:
    """A convspec backend, through the spec's own call.

    A mode of a framework (compiled, in another memory format) is a subclass that says how arrays
    are handed over, or how the spec is called.
    """

    def __init__(self, backend: Backend, name: str | None = None) -> None:
        self.backend = backend
        self.name = backend.name if name is None else name

    def given(self, array: Array) -> Any:
        """A NumPy array as the framework's own.

        Raises:
            NotGivenError: the framework has no such array.
        """
        try:
            return self.backend.from_foreign(array)
        except Exception as error:  # each framework has its own
            raise NotGivenError(f"backend: {self.name} has no such array: {error}") from error

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

    def twice(
        self, spec: ConvSpec, x: Array, w: Array, b: Array | None, change: Any, **options: Any
    ) -> tuple[Array, Array]:
        """Results before and after a change of the arrays, which the framework's own share.

        Those that do not share the memory are made anew.
        """
        if type(self).run is not BackendTarget.run:  # which computes in a way of its own
            first = self.run(spec, x, w, b, **options)
            change()
            return first, self.run(spec, x, w, b, **options)
        given = [None if a is None else self.given(a) for a in (x, w, b)]
        first = self.backend.to_numpy(self.call(spec, *given, **options))
        change()
        for i, array in enumerate((x, w, b)):
            if array is not None and not np.array_equal(self.backend.to_numpy(given[i]), array):
                given[i] = self.given(array)
        return first, self.backend.to_numpy(self.call(spec, *given, **options))

    def gradients(
        self, spec: ConvSpec, x: Array, w: Array, b: Array | None, g: Array, **options: Any
    ) -> tuple[Array, ...]:
        arrays = [self.given(a) for a in (x, w, b) if a is not None]

        def y(*arrays: Any) -> Any:
            return self.call(spec, *arrays, **options)

        found = self.backend.vjp(y, arrays, self.given(g))
        return tuple(map(self.backend.to_numpy, found))

    def gradients_apart(
        self, spec: ConvSpec, x: Array, w: Array, b: Array | None, g: Array, **options: Any
    ) -> tuple[Array, ...]:
        """The same, by each array while the others are constants.

        Behind them comes ``g * y``, as the gradient by ones that y is multiplied with: what y is
        while gradients are recorded, which vjp does not tell.
        """
        if type(self).gradients is not BackendTarget.gradients:  # which are made in their own way
            return self.gradients(spec, x, w, b, g, **options)
        ones = self.given(np.ones_like(g))
        arrays, g = [self.given(a) for a in (x, w, b) if a is not None], self.given(g)
        found = []
        for i, array in enumerate(arrays):

            def y(array: Any, *ones: Any, i: int = i) -> Any:
                result = self.call(spec, *arrays[:i], array, *arrays[i + 1 :], **options)
                return result * ones[0] if ones else result

            found.append(self.backend.vjp(y, (array, ones) if i == 1 else (array,), g))
        (dx,), (dw, gy), *db = found
        return tuple(map(self.backend.to_numpy, (dx, dw, *(d for (d,) in db), gy)))

    def second_gradients(
        self, spec: ConvSpec, x: Array, w: Array, g: Array, u: Array, v: Array, **options: Any
    ) -> tuple[Array, ...]:
        vjp = self.backend.vjp
        x, w, g, u, v = map(self.given, (x, w, g, u, v))

        def dx(w: Any, g: Any) -> Any:
            return vjp(lambda x: self.call(spec, x, w, **options), (x,), g)[0]

        def dw(x: Any, g: Any) -> Any:
            return vjp(lambda w: self.call(spec, x, w, **options), (w,), g)[0]

        found = (*vjp(dx, (w, g), u), *vjp(dw, (x, g), v))
        return tuple(map(self.backend.to_numpy, found))

    def claims(self, case: Case) -> Support:
        derived = case.judge in GRADIENTS
        if derived and type(self.backend).vjp is Backend.vjp:
            return Support(False, "none", f"{self.backend.name} offers no gradients (vjp).")
        try:
            problem = resolve(case.spec, case.input_shape, case.output_size)
        except ConvSpecError as error:
            return Support(False, "none", str(error))
        env = Environment(
            dtype=case.dtype,
            out_dtype=case.out_dtype or case.dtype,
            bias=case.spec.bias,
            gradients=derived,
        )
        return self.backend.supports(problem, env)


class CompiledTarget(BackendTarget):
    """Each call as a program of its own, which goes on to serve calls that differ in numbers alone.

    A subclass says how a function is compiled.
    """

    #: How many programs are kept at a time.
    most = 8

    def __init__(self, backend: Backend, name: str | None = None) -> None:
        super().__init__(backend, name)
        self.programs: dict[Hashable, Callable[..., Any]] = {}

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function of the framework's arrays, compiled by the framework."""
        raise NotImplementedError

    def call(self, spec: ConvSpec, *arrays: Any, **options: Any) -> Any:
        given = [array for array in arrays if array is not None]
        kinds = [(tuple(array.shape), array.dtype) for array in given]
        key = (spec, repr(options), repr(kinds))
        if key not in self.programs:
            if len(self.programs) >= self.most:
                self.programs.clear()

            def one(*given: Any) -> Any:
                return super(CompiledTarget, self).call(spec, *given, **options)

            self.programs[key] = self.compiled(one)
        return self.programs[key](*given)


def load(name: str) -> Target:
    """The target called ``name``: see :mod:`convspec_conformance.catalogue`.

    The object of ``package.module:object`` may be a backend, a target, or a function or class
    that gives one without arguments.

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
    made = isinstance(found, Backend) or (hasattr(found, "run") and not isinstance(found, type))
    if not made and callable(found):
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
