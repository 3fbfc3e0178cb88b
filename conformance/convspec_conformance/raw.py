"""A framework's own calls as a target: what is wrong there is wrong upstream.

Arrays are brought into the orders of the framework's convention by NumPy and the result back from
them; everything else is one documented call. Such a target claims what the documentation offers
and nothing that would have to be rewritten. It promises no error of convspec's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from convspec import ConvSpec, ConvSpecError, Support, UnsupportedError, convert_layout
from convspec.dtypes import HALF

from .cases import GRADIENTS, Case
from .targets import Array


class RawTarget(ABC):
    """The calls of one framework.

    Attributes:
        convention: whose orders the calls take: see :meth:`convspec.ConvSpec.in_convention`.
        version: of the framework.
    """

    #: What has no answer under any reading; the rest of the wrong calls is a matter of convspec's
    #: own rules: raw calls are not told how many channels there should be, or whether a bias.
    refuses = frozenset({"channels", "kernel_too_large", "empty_axis"})
    typed_refusals = False
    #: Whether the calls take a bias; else it is added to a result that is rounded already.
    fused_bias = False

    convention: str

    def __init__(self, name: str, version: str) -> None:
        self.name = name
        self.version = version

    @abstractmethod
    def lacks(self, spec: ConvSpec, dtype: str) -> str:
        """The first thing that the documentation does not offer for ``spec``, or ``""``.

        Args:
            spec: in the framework's convention.
            dtype: of the arrays.
        """

    @abstractmethod
    def compute(self, spec: ConvSpec, x: Array, w: Array, b: Array | None, out_dtype: Any) -> Array:
        """The call, on arrays in the orders of ``spec``, which is in the convention; always
        with a batch axis."""

    def widens(self, dtype: str, out: str) -> bool:
        """Whether the calls can be asked for a result of another type."""
        return False

    def claims(self, case: Case) -> Support:
        if case.judge == "refusal" and case.wrong not in self.refuses:
            return Support(False, "none", "a rule of convspec's own")
        if case.judge in GRADIENTS:
            return Support(False, "none", "its forward calls alone are tested")
        if case.judge == "shift":
            return Support(False, "none", "shifted padding is seldom native")
        if case.output_size is not None:
            return Support(False, "none", "takes output_padding, not a size")
        out = case.out_dtype or case.dtype
        if out != case.dtype and not self.widens(case.dtype, out):
            return Support(False, "none", f"{case.dtype} does not give {out}")
        if case.spec.bias and case.dtype in HALF and not self.fused_bias:
            return Support(False, "none", "rounds before the bias, which is another call's")
        specs = [case.spec]
        try:
            if case.judge == "adjoint":
                specs.append(case.spec.adjoint(case.input_shape))
            lacks = [self.lacks(spec.in_convention(self.convention), case.dtype) for spec in specs]
        except ConvSpecError as error:
            return Support(False, "none", str(error))
        missing = "; ".join(filter(None, lacks))
        return Support(not missing, "none" if missing else "native", missing)

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
        native = spec.in_convention(self.convention)
        missing = self.lacks(native, x.dtype.name)
        if missing:
            raise UnsupportedError(f"backend: {self.name}: {missing}.")
        batched = native if "N" in native.layout else _batched(native)
        x = convert_layout(x, spec.layout, native.layout)
        x = x if batched is native else x[None]
        y = self.compute(batched, x, spec.convert_weight(w, native), b, out_dtype)
        y = y if batched is native else y[0]
        return np.asarray(convert_layout(y, native.output_layout, spec.output_layout))


def _batched(spec: ConvSpec) -> ConvSpec:
    return spec.replace(layout="N" + spec.layout, output_layout="N" + spec.output_layout)


def named(spec: ConvSpec) -> str:
    """The one name that is the padding of every axis, or ``""``."""
    first = spec.padding[0]
    return first if isinstance(first, str) and set(spec.padding) == {first} else ""


def amounts(spec: ConvSpec) -> tuple[tuple[int, int], ...]:
    """The padding in numbers, or nothing if any of it is a name."""
    pairs = tuple(entry for entry in spec.padding if not isinstance(entry, str))
    return pairs if len(pairs) == spec.rank else ()
