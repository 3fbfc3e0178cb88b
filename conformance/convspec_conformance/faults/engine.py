"""What a fault is made of: one call, the engine that answers it rightly, and a registry.

A mistake is a function of a :class:`Call` that gives the wrong answer, mostly by asking the right
engine another question. :func:`fault` makes a target of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, replace
from itertools import product
from typing import Any, NamedTuple, overload

import numpy as np

from convspec import ConvSpec, ConvSpecError, Support, get_backend
from convspec.dtypes import COMPLEX, INTEGER
from convspec.problem import Problem, resolve

from .. import oracles
from ..cases import Case
from ..fillings import Array, as_dtype
from ..targets import BackendTarget

Pair = tuple[int, int]


class Axis(NamedTuple):
    """One spatial axis of a call: what the spec says of it, and what that comes to."""

    letter: str
    entry: Any  # of spec.padding: a name or a pair
    n: int
    k: int
    s: int
    d: int
    lo: int
    hi: int
    extra: int  # output padding, also what output_size came to
    out: int

    @property
    def e(self) -> int:
        """How far the dilated kernel reaches."""
        return self.d * (self.k - 1) + 1


@dataclass(frozen=True)
class Call:
    """The arguments of ``target.run``, and what a faulty engine keeps between calls."""

    spec: ConvSpec
    x: Array
    w: Array
    b: Array | None
    output_size: Any = None
    out_dtype: str | None = None
    memory: dict[Any, Any] = field(default_factory=dict)

    def but(self, **changes: Any) -> Call:
        """The call with other arguments, or with other fields of its spec."""
        own = {f.name for f in fields(self)} & set(changes)
        call = replace(self, **{name: changes.pop(name) for name in own})
        return replace(call, spec=call.spec.replace(**changes)) if changes else call

    @property
    def problem(self) -> Problem:
        """The spec resolved against the input's shape."""
        return resolve(self.spec, self.x.shape, self.output_size)

    @property
    def axes(self) -> list[Axis]:
        """The spatial axes, in the order of the spec's tuples."""
        spec, problem = self.spec, self.problem
        return [
            Axis(letter, entry, n, k, s, d, lo, hi, extra, out)
            for letter, entry, n, k, s, d, (lo, hi), extra, out in zip(
                spec.spatial,
                spec.padding,
                problem.input_size,
                spec.kernel_size,
                spec.stride,
                spec.dilation,
                problem.padding,
                problem.output_padding,
                problem.output_size,
                strict=True,
            )
        ]

    @property
    def dtype(self) -> str:
        """Name of the arrays' type."""
        name: str = self.x.dtype.name
        return name

    @property
    def out(self) -> str:
        """Name of the result's type."""
        return self.out_dtype or self.dtype

    @property
    def channels(self) -> int:
        """The channels' axis of the output."""
        return self.spec.output_layout.index("C")

    def cast(self, dtype: str) -> Call:
        """All arrays in another type, which is also the result's."""
        x, w = as_dtype(self.x, dtype), as_dtype(self.w, dtype)
        b = None if self.b is None else as_dtype(self.b, dtype)
        return self.but(x=x, w=w, b=b, out_dtype=None)

    @property
    def wide(self) -> Call:
        """All arrays in a type wide enough that nothing is lost."""
        if self.dtype in INTEGER:
            return self.cast("int64")
        return self.cast("complex128" if self.dtype in COMPLEX else "float64")

    def starting(self, start: Callable[[Axis], int]) -> Call:
        """The same call with its windows (or its cropping) starting elsewhere.

        ``start`` gives the amount at the start of an axis; what it takes is given at the end, so
        that the shape of the output stays.
        """
        pairs = tuple((start(a), a.lo + a.hi - a.extra - start(a)) for a in self.axes)
        return self.but(padding=pairs, output_padding=0, output_size=None)

    def reading(self, read: Callable[[int, Axis], int | None]) -> Call:
        """The same call on an input padded beforehand.

        ``read`` says where position p in [-lo, n + hi) of an axis reads the input, None a zero.
        """
        x = self.x
        for a in self.axes:
            at = self.spec.layout.index(a.letter)
            places = [read(p, a) for p in range(-a.lo, a.n + a.hi)]
            x = x.take([0 if place is None else place for place in places], at)
            zero = np.expand_dims([place is None for place in places], _others(x.ndim, at))
            x = np.where(zero, np.zeros((), x.dtype), x)
        return self.but(x=x, padding=0, padding_mode="zeros")

    def tapping(self, place: Callable[[int, Axis], int]) -> Call:
        """The same call with tap k of an axis at position ``place(k, axis)`` of its extent."""
        layout, axes = self.spec.weight_layout, self.axes
        sizes = {a.letter: a.e for a in axes}
        shape = [sizes.get(c, n) for c, n in zip(layout, self.w.shape, strict=True)]
        w = np.zeros(shape, self.w.dtype)
        for tap in product(*(range(a.k) for a in axes)):
            named = dict(zip(self.spec.spatial, tap, strict=True))
            to = {a.letter: place(named[a.letter], a) for a in axes}
            source = tuple(named.get(c, slice(None)) for c in layout)
            w[tuple(to.get(c, slice(None)) for c in layout)] = self.w[source]
        call = self.starting(lambda a: a.lo)
        return call.but(w=w, kernel_size=tuple(a.e for a in axes), dilation=1)

    def terms(self) -> Iterator[Call]:
        """Calls without a bias that add up to this one: one kernel tap of one channel each."""
        letters = self.spec.spatial + "I"
        at = [self.spec.weight_layout.index(letter) for letter in letters]
        for tap in product(*(range(self.w.shape[i]) for i in at)):
            index: list[Any] = [slice(None)] * self.w.ndim
            for i, k in zip(at, tap, strict=True):
                index[i] = k
            w = np.zeros_like(self.w)
            w[tuple(index)] = self.w[tuple(index)]
            yield self.but(w=w, b=None)


def _others(ndim: int, axis: int) -> tuple[int, ...]:
    return tuple(i for i in range(ndim) if i != axis)


def right(call: Call) -> Array:
    """The right answer, from the NumPy engine."""
    return _engine().run(
        call.spec,
        call.x,
        call.w,
        call.b,
        output_size=call.output_size,
        out_dtype=call.out_dtype,
    )


def _engine() -> BackendTarget:
    return BackendTarget(get_backend("numpy"))


def right_gradients(call: Call, g: Array) -> Gradients:
    """The right gradients by input, weight and bias, from the oracle, each rounded once."""
    found = oracles.gradients(call.spec, call.x, call.w, g, output_size=call.output_size)
    dx, dw, db = (as_dtype(array, call.dtype) for array in found)
    return dx, dw, db


Gradients = tuple[Array, Array, Array]
Mistake = Callable[[Call], Array]
GradientMistake = Callable[[Call, Array], Gradients]
SecondMistake = Callable[[Call, Array, "tuple[Array, ...]"], "tuple[Array, ...]"]
Claim = Callable[[Case], Support]


class Fault:
    """The NumPy engine with one mistake in it: a target like any other.

    A quiet mistake is made only where the call is legal and the mistake gives an array of the
    right shape without an error, as an engine would that checks its arguments and allocates its
    output beforehand; elsewhere the answer is right. So the numbers have to show it. A loud one
    may raise, answer what is to be refused, or give another shape; a fatal one ends or hangs the
    process.
    """

    def __init__(
        self,
        made: Mistake | GradientMistake | SecondMistake,
        *,
        loud: bool = False,
        fatal: bool = False,
        claim: Claim | None = None,
        mistake: Mistake | None = None,
        differentiate: GradientMistake | None = None,
        twice: SecondMistake | None = None,
    ) -> None:
        self.name = made.__name__
        self.source = f"{made.__module__}:{made.__name__}"
        self.__doc__ = made.__doc__
        self.loud = loud or fatal
        self.fatal = fatal
        #: Right forwards, so that nothing but gradients can tell.
        self.backward = mistake is None and (differentiate is not None or twice is not None)
        self._mistake = mistake or right
        self._differentiate = differentiate or right_gradients
        self._twice = twice
        self._claim = claim
        self._memory: dict[Any, Any] = {}

    @property
    def summary(self) -> str:
        """The mistake, in one sentence."""
        return (self.__doc__ or "").split("\n")[0]

    def reset(self) -> None:
        """Forget earlier calls, so that a run does not depend on what ran before."""
        self._memory.clear()

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
        call = Call(spec, x, w, b, output_size, out_dtype, self._memory)
        if self.loud:
            return self._mistake(call)
        answer = right(call)
        try:
            y = self._mistake(call)
        except ConvSpecError:  # no room for the mistake here
            return answer
        return y if y.shape == answer.shape else answer

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
        call = Call(spec, x, w, b, output_size, out_dtype, self._memory)
        answer = right_gradients(call, g)
        try:
            given = self._differentiate(call, g)
        except ConvSpecError:
            given = answer
        found = [y if y.shape == z.shape else z for y, z in zip(given, answer, strict=True)]
        return tuple(found if b is not None else found[:2])

    def second_gradients(
        self, spec: ConvSpec, x: Array, w: Array, g: Array, u: Array, v: Array, **options: Any
    ) -> tuple[Array, ...]:
        """Made of first ones and of forward calls: see :mod:`convspec_conformance.gradients`."""
        by_x, by_w = self.gradients(spec, u, v, None, g, **options)[:2]
        forward = [self.run(spec, *given, None, **options) for given in ((u, w), (x, v))]
        found = by_w, forward[0], by_x, forward[1]
        if self._twice is None:
            return found
        size, out_dtype = options.get("output_size"), options.get("out_dtype")
        return self._twice(Call(spec, x, w, None, size, out_dtype, self._memory), g, found)

    def claims(self, case: Case) -> Support:
        """All that the NumPy engine does, and gradients, which are the oracle's."""
        return (self._claim or _engine().claims)(replace(case, judge="exact"))


#: Every fault by name, in the order of their files.
FAULTS: dict[str, Fault] = {}


@overload
def fault(mistake: Mistake) -> Fault: ...
@overload
def fault(
    *, loud: bool = False, fatal: bool = False, claim: Claim | None = None
) -> Callable[[Mistake], Fault]: ...
def fault(
    mistake: Mistake | None = None,
    *,
    loud: bool = False,
    fatal: bool = False,
    claim: Claim | None = None,
) -> Fault | Callable[[Mistake], Fault]:
    """Register a mistake, under its function's name and with its docstring as description.

    Args:
        mistake: the wrong answer to a call.
        loud: it may raise, answer bad input, or give another shape than expected.
        fatal: it may end or hang the process.
        claim: what the target claims, if not what the NumPy engine does.
    """

    def register(mistake: Mistake) -> Fault:
        return _registered(Fault(mistake, loud=loud, fatal=fatal, claim=claim, mistake=mistake))

    return register if mistake is None else register(mistake)


def gradient_fault(mistake: GradientMistake) -> Fault:
    """Register a mistake that shows in gradients only: a function of a call and a cotangent.

    It gives the gradients by input, weight and bias, mostly some right ones of another call. The
    second ones are made of these.
    """
    return _registered(Fault(mistake, differentiate=mistake))


def second_gradient_fault(mistake: SecondMistake) -> Fault:
    """Register a mistake that shows in second gradients only.

    A function of a call, a cotangent and the right second gradients that gives the wrong ones.
    """
    return _registered(Fault(mistake, twice=mistake))


def _registered(made: Fault) -> Fault:
    if not made.summary or made.name in FAULTS:
        raise ValueError(f"fault {made.name}: needs a docstring and a name of its own")
    FAULTS[made.name] = made
    return made
